"""Measure a camera's blur and phase

Given sharp frames and what a camera made of them, which exposure, phase and point-spread function lie between? Of all
candidates, the one that leaves the smallest residual. `davsr prepare verify` does this for folders of clips.
"""

import cv2
import pictures

import davsr
from davsr.data.clips import open_clip
from davsr.pixels import to_uint8
from davsr.prepare.verify import measure

camera = davsr.Degradation(scale=(5, 4, 4), exposure=3, phase=1, psf="gaussian", psf_sigma=1.6)
truth = pictures.sample(frames=45, side=256)
for number, frame in enumerate(to_uint8(davsr.degrade(truth, camera))):
    cv2.imwrite(f"{number:04d}.png", frame.permute(1, 2, 0).flip(2).numpy())

found = measure(open_clip("."), open_clip(pictures.SAMPLE), davsr.DegradationOptions())
print("the camera:", camera)
print("measured:  ", found.best)
print("expected:  ", found.expected)

pictures.side_by_side("picture.png", {"sharp": truth[16], "seen by the camera": davsr.degrade(truth, camera)[3]})
