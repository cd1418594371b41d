"""Runs every example in a folder of its own and writes the gallery page of the docs, with code, output and picture.

python examples/gallery.py docs/gallery
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def run(file: Path, pictures: Path) -> str:
    """Run one example; its section of the page.

    Raises:
        subprocess.CalledProcessError: the example failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
        done = subprocess.run([sys.executable, str(file)], cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.stderr.write(done.stderr)
            done.check_returncode()
        shutil.copyfile(Path(folder) / "picture.png", pictures / f"{file.stem}.png")
    text = file.read_text(encoding="utf-8")
    title, _, story = (ast.get_docstring(ast.parse(text)) or "").partition("\n")
    code = text.split('"""\n', 1)[1].strip()
    return (
        f"## {title}\n\n{story.strip()}\n\n```python\n{code}\n```\n\n```text\n{done.stdout.strip()}\n```\n\n"
        f"![{title}]({file.stem}.png)\n"
    )


def main(target: Path) -> None:
    """Write `index.md` and the pictures into `target`."""
    target.mkdir(parents=True, exist_ok=True)
    sections = [run(file, target) for file in sorted(HERE.glob("[0-9]_*.py"))]
    start = "# Gallery\n\nEvery example was run to make this page; the files are in `examples/`.\n\n"
    (target / "index.md").write_text(start + "\n".join(sections), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
