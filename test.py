"""python test.py [-opt options/test/x.yml] [--input ...] [--truth ...] [--set section.key=value] [--frames 0:20]"""

import sys

from davsr.cli import command

if __name__ == "__main__":
    sys.exit(command(["test", *sys.argv[1:]]))
