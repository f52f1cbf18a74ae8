"""Score a run: `python evaluate.py --run runs/x --split test`. The same as `mdnet evaluate`."""

import sys

from mdnet.cli.main import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
