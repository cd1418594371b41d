"""Restore a clip

A small, blurred, slow clip becomes a sharp, fast, large one. Here the clip is made from a sharp one, so that the result
can be compared with the truth; yours goes straight into the last call.
"""

import pictures

import davsr
from davsr.pixels import to_uint8

truth = pictures.sample(frames=15)
lq = davsr.degrade(truth)  # what a camera of the standard setting makes of it: 3 frames of 32x32
print("observed", list(lq.shape), "of", list(truth.shape))

model = davsr.load_model()
frames = model(lq).detach()
print("restored", list(frames.shape), f"PSNR {davsr.metrics.psnr(to_uint8(frames), to_uint8(truth)).mean():.2f} dB")

pictures.side_by_side("picture.png", {"observed": lq[1], "restored": frames[7], "truth": truth[7]})

# A file of any length, in bounded memory: davsr.restore("in.mp4", "out.mp4")
