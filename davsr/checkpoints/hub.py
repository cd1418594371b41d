"""Models as folders that the Hugging Face hub takes: weights with their options, and a card that says what they are."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from davsr import __version__, config
from davsr.checkpoints.files import FORMAT, write_tensors
from davsr.checkpoints.loading import load_model
from davsr.checkpoints.network import KEY, network_section
from davsr.errors import InputError
from davsr.files import write_text
from davsr.models.davsr import DAVSR
from davsr.options import Options

WEIGHTS, CARD = "model.safetensors", "README.md"

_CARD = """---
license: mit
library_name: davsr
pipeline_tag: video-to-video
tags:
- video-super-resolution
- frame-interpolation
- deblurring
- inverse-problems
- arxiv:2207.10765
---

# {title}

Space-time video super-resolution by [DAVSR](https://arxiv.org/abs/2207.10765): a data step in closed form, which inverts
the camera, in alternation with a learned enhancement.

| | |
|---|---|
| observation model | {physics} |
| learned parameters | {parameters:,} |
| trained for | {trained} |

```python
import davsr

model = davsr.DAVSR.from_pretrained("{title}")
frames = model(lq)  # [b, t, 3, h, w] in [0, 1] -> [b, {s_t} t, 3, {s_h} h, {s_w} w]
```

`davsr restore in.mp4 out.mp4 --model {weights}` restores a video of any length.

## Limits

Outside of what it was trained for it helps less, and `davsr restore` says so. Frames are RGB in [0, 1]. What no frame
shows is not to be trusted as evidence: a learned prior adds what is likely.

## Source

Written by davsr {version}. Please cite Cao et al., "Towards Interpretable Video Super-Resolution via Alternating
Optimization", ECCV 2022.

The options of the network:

```yaml
{options}```
"""


def from_pretrained(name: str | Path, *, revision: str | None = None, **how: Any) -> DAVSR:
    """A model in eval mode from what `save_pretrained` wrote, here or on the hub.

    Args:
        name: a checkpoint, a folder with one, or a repository of the Hugging Face hub, `owner/name`.
        revision: branch, tag or commit of the repository.
        how: `degradation`, `model` and `device`, as for `davsr.load_model`.

    Raises:
        davsr.errors.InputError: there is no such thing, or the package huggingface-hub is missing.
    """
    path = Path(name)
    if not path.exists():
        path = _download(str(name), revision)
    return load_model(_weights_in(path) if path.is_dir() else path, **how)


def save_pretrained(model: DAVSR, folder: str | Path) -> Path:
    """Write weights with their options (safetensors) and a model card into a folder; the folder is returned.

    Raises:
        davsr.errors.InputError: the folder cannot be written, or the package safetensors is missing.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error.strerror}") from None
    section = network_section(replace(Options(), model=model.options, degradation=model.degradation_options))
    section["trained"] = None if model.trained is None else config.to_tree(model.trained)
    write_tensors(folder / WEIGHTS, {"format": FORMAT, "model": model.state_dict(), KEY: section, "step": 0})
    write_text(folder / CARD, card(model, folder.name))
    return folder


def push_to_hub(model: DAVSR, repository: str, folder: str | Path, *, private: bool = False) -> None:
    """Write `folder` as `save_pretrained` does and upload it to `owner/name`, by the login of huggingface-hub.

    Raises:
        davsr.errors.InputError: as `save_pretrained`, or the package huggingface-hub is missing.
    """
    hub = _package()
    save_pretrained(model, folder)
    write_text(Path(folder) / CARD, card(model, repository))
    api = hub.HfApi()
    api.create_repo(repository, private=private, exist_ok=True)
    api.upload_folder(repo_id=repository, folder_path=str(folder))


def card(model: DAVSR, title: str) -> str:
    """The model card, Markdown with the hub's header."""
    s_t, s_h, s_w = model.degradation.scale
    seen = model.trained
    trained = "not known" if model.learned else "nothing: no part of it is learned"
    if seen is not None:
        exposures, noise = ("-".join(f"{value:g}" for value in pair) for pair in (seen.exposures, seen.sigma))
        trained = f"scale {'x'.join(map(str, seen.scale))}, PSF {seen.psf}, exposure {exposures}, noise {noise}"
    return _CARD.format(
        title=title,
        physics=model.degradation.describe(),
        parameters=sum(p.numel() for p in model.parameters()),
        trained=trained,
        options=config.to_yaml(model.options),
        weights=WEIGHTS,
        version=__version__,
        s_t=s_t,
        s_h=s_h,
        s_w=s_w,
    )


def _weights_in(folder: Path) -> Path:
    files = [folder / WEIGHTS] if (folder / WEIGHTS).is_file() else sorted(folder.glob("*.pt"))
    if len(files) != 1:
        raise InputError(f"from_pretrained: folder {folder} must hold {WEIGHTS} or a single .pt file")
    return files[0]


def _download(name: str, revision: str | None) -> Path:
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise InputError(f"from_pretrained: {name} is no file, no folder, and no owner/name of the hub")
    hub = _package()
    try:
        return Path(hub.hf_hub_download(name, WEIGHTS, revision=revision))
    except Exception as error:  # no such repository, no network, no right: the package has a type for each
        raise InputError(f"from_pretrained: {name} cannot be had: {str(error).splitlines()[0]}") from None


def _package() -> Any:
    try:
        import huggingface_hub
    except ModuleNotFoundError:
        raise InputError("hub: this needs huggingface-hub, which is not installed: pip install 'davsr[hub]'") from None
    return huggingface_hub
