"""The commands of `rlexp`, a file each or a few that belong together; rlexp/cli/main.py gathers them."""

import argparse
import math
from typing import Any

from rlexp.util import strict_json
from rlexp.util.errors import UserError


def add_columns(parser: Any) -> None:
    """Add the options that name the columns of a file of curves; `columns` takes them."""
    parser.add_argument("--step", metavar="COLUMN", help="of a file: the column of steps")
    parser.add_argument("--value", metavar="COLUMN", help="of a file: the column or tag of returns")
    parser.add_argument("--seed", metavar="COLUMN", dest="seed_column", help="of a file: the column of seeds")


def columns(args: argparse.Namespace) -> dict[str, str | None]:
    """The columns as `rlexp.report.foreign.read` takes them."""
    return {"step": args.step, "value": args.value, "seed": args.seed_column}


def distinct(given: str | None, usual: list[str]) -> list[str]:
    """What several runs are called in a picture: `given`, with commas between, or their `usual` names.

    Raises UserError unless these are as many as the runs, and different.
    """
    names = given.split(",") if given else usual
    if len(set(names)) != len(names) or len(names) != len(usual):
        needs = f"as many different names as there are runs ({len(usual)})"
        raise UserError(f"--names: takes {needs}, with commas between")
    return names


def print_json(facts: Any) -> None:
    """What --json prints: one value, with an indent."""
    print(strict_json.dumps(facts, indent=2))


def finite(half: float) -> float | None:
    """The half width of an interval; None, JSON's null, where one value gives none."""
    return None if math.isnan(half) else half
