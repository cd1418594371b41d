"""Measure a camera's blur and phase

Given sharp frames and what a camera made of them, which exposure, phase and point-spread function lie between? Of all
candidates, the one that leaves the smallest residual. `davsr prepare verify` does this for folders of clips.
"""

import pictures

import davsr
from davsr.data.clips import open_clip
from davsr.prepare.verify import measure

camera = davsr.Degradation(scale=(5, 4, 4), exposure=3, phase=1, psf="gaussian", psf_sigma=1.6)
truth = pictures.sample(frames=25)
seen = davsr.degrade(truth, camera)
pictures.write_frames("sharp", truth)
pictures.write_frames("seen", seen)

found = measure(open_clip("seen"), open_clip("sharp"), davsr.DegradationOptions())
print("the camera:", camera)
print("measured:  ", found.best)
print("expected:  ", found.expected)

pictures.side_by_side("picture.png", {"sharp": truth[12], "seen by the camera": seen[2]})
