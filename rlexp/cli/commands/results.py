"""`rlexp results`: what the gallery's commands reach, the table of README."""

import argparse
import dataclasses
from typing import Any

from rlexp.cli.commands import print_json


def add(commands: Any) -> None:
    """Put the command on the `rlexp` command line."""
    c = commands.add_parser("results", help="what the commands of the gallery reach, with intervals")
    c.add_argument("--markdown", action="store_true", help="print README's table")
    c.add_argument("--json", action="store_true", help="print JSON")
    c.set_defaults(run=show)


def show(args: argparse.Namespace) -> int:
    """Print the table."""
    from rlexp.report import results

    rows = results.results()
    if args.json:
        print_json([dataclasses.asdict(row) for row in rows])
    elif args.markdown:
        print(results.markdown(rows))
    else:
        for row in rows:
            found = row.found
            print(f"{row.name:24} {results.mean(found):>16}  {len(found.values)} seeds, {results.played(found)}")
    return 0
