"""The same as main.py with the same numbers, seeds in parallel processes."""

import sys

from rlexp.cli.launch import main

if __name__ == "__main__":  # spawned workers import this file and must not start again
    sys.exit(main(engine="processes"))
