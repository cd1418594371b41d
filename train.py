"""Train from an option file: `python train.py -opt options/train/davsr_tiny.yml` (the same as `davsr train`)."""

import sys

from davsr.cli import command

if __name__ == "__main__":
    sys.exit(command(["train", *sys.argv[1:]]))
