"""Train from an option file: `python train.py -opt options/train/davsr_tiny.yml` (the same as `davsr train`)."""

import sys

from davsr.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
