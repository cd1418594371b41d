"""Time and peak memory of the operator, the ops and the whole network, as ratios to a named peer in one run.

One command: `python -m benchmarks` (`make bench-peer` runs it beside torchvision).
"""

import davsr  # noqa: F401  # before torch: it tells idle threads to sleep
