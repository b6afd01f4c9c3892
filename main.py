"""Train one algorithm on one environment, seeds one after another. `python main.py --help` says what can be typed."""

import sys

from rlexp.cli.launch import main

if __name__ == "__main__":
    sys.exit(main())
