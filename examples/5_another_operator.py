"""The prior with another operator

What the camera does is not baked into the weights. The same model restores another scale and exposure: the data step
takes the operator that it is told. Far from what the prior was trained for it helps less, and the log of
`davsr restore` says so.
"""

import pictures

import davsr
from davsr.pixels import to_uint8

truth = pictures.sample(frames=12)
camera = davsr.Degradation(scale=(3, 4, 4), exposure=1.5)
lq = davsr.degrade(truth, camera)

model = davsr.load_model()
told = model(lq, degradation=camera).detach()
wrong = model(lq, degradation=davsr.Degradation(scale=(3, 4, 4), exposure=3, psf="box")).detach()
for name, frames in (("told the camera", told), ("told another", wrong)):
    print(f"{name}: {davsr.metrics.psnr(to_uint8(frames), to_uint8(truth)).mean():.2f} dB")

pictures.side_by_side(
    "picture.png", {"observed": lq[2], "told the camera": told[7], "told another": wrong[7], "truth": truth[7]}
)
