"""Train on your own clips

An option file and a few changes to it. `data.sources` names videos or folders of sharp frames, which are degraded on the fly.
Here ten steps on the sample clip; a real run takes hours, and `davsr train -opt finetune` starts from the shipped model.
"""

import pictures
import torch

import davsr
from davsr.cli import main

torch.manual_seed(0)
sources = f"[{{kind: video, path: {pictures.SAMPLE}, frames: '0:30'}}]"
changes = ["train.iterations=10", "train.log_every=5", "data.patch=32", "data.workers=0", f"data.sources={sources}"]
changes += ["data.validation.every=10", "data.validation.crop=64", "data.validation.frames=2"]
main(["train", "-opt", "davsr_tiny", *(text for change in changes for text in ("--set", change))])

model = davsr.load_model("experiments/davsr_tiny/checkpoints/step_0000010.pt")
truth = pictures.sample(frames=10)
lq = davsr.degrade(truth)
pictures.side_by_side("picture.png", {"observed": lq[1], "ten steps": model(lq).detach()[7], "truth": truth[7]})
