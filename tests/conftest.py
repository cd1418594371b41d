"""For all tests: processes that they start can be interrupted, also where a shell lets the tests ignore Ctrl-C."""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
