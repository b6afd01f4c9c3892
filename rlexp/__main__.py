"""`python -m rlexp` is the rlexp command."""

import sys

from rlexp.cli.main import main

if __name__ == "__main__":  # spawned workers import this file and must not start again
    sys.exit(main())
