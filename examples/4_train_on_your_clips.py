"""Train on your own clips

An option file and a few changes to it. `data.sources` names videos or folders of sharp frames, which are degraded on
the fly. Here four steps on the sample clip; a real run takes hours, and `davsr train -opt finetune` starts from the
shipped model.
"""

import pictures
import torch

import davsr
from davsr.cli import main

torch.manual_seed(0)
sources = f"[{{kind: video, path: {pictures.SAMPLE}, frames: '0:30'}}]"
changes = [
    "train.iterations=4",
    "train.batch=1",
    "train.log_every=2",
    "data.patch=32",
    "data.workers=0",
    "model.rounds.count=4",
]
changes += [f"data.sources={sources}", "data.validation.sources=[]"]
main(["train", "-opt", "davsr_tiny", *(text for change in changes for text in ("--set", change))])

model = davsr.load_model("experiments/davsr_tiny/checkpoints/step_0000004.pt")
truth = pictures.sample(frames=10)
lq = davsr.degrade(truth)
pictures.side_by_side("picture.png", {"observed": lq[1], "four steps": model(lq).detach()[7], "truth": truth[7]})
