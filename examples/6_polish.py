"""Polish another program's result

One data step on the output of any other program, given the video that it was made from: what contradicts the
observation goes, the detail that the other program invented stays. For files there is `davsr polish`.
"""

import pictures
import torch

import davsr
from davsr.pixels import to_uint8

truth = pictures.sample(frames=15)
lq = davsr.degrade(truth)

# "Another program": each frame enlarged and repeated.
estimate = torch.nn.functional.interpolate(lq, scale_factor=4, mode="bicubic").repeat_interleave(5, 0)

A = davsr.Degradation()
x, y = (video.transpose(0, 1)[None] for video in (estimate, lq))
polished = A.data_step(x, y, alpha=0.24 * A.largest_eigenvalue())[0].transpose(0, 1)
for name, frames in (("estimate", estimate), ("polished", polished)):
    print(f"{name}: {davsr.metrics.psnr(to_uint8(frames), to_uint8(truth)).mean():.2f} dB")

pictures.side_by_side(
    "picture.png", {"observed": lq[1], "estimate": estimate[7], "polished": polished[7], "truth": truth[7]}
)
