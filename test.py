"""python test.py [-opt options/test/x.yml] [--input ...] [--truth ...] [--set section.key=value] [--frames 0:20]"""

import sys

from davsr.cli import main

if __name__ == "__main__":
    sys.exit(main(["test", *sys.argv[1:]]))
