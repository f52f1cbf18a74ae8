"""Train a model: `python train.py --data DIR --model mdnet_tiny --out runs/x`. The same as `mdnet train`."""

import sys

from mdnet.cli.main import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
