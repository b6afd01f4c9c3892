"""Commands that draw what runs have written: `rlexp curves` and `rlexp panels`.

curves: a run's curves once more, beside any entry of the gallery.
"""

import argparse
from pathlib import Path
from typing import Any

from rlexp.util.errors import UserError


def add(commands: Any) -> None:
    """Put the commands on the `rlexp` command line."""
    _add_curves(commands)
    _add_panels(commands)


def _add_curves(commands: Any) -> None:
    v = commands.add_parser("curves", help="draw a run's curves beside any reference")
    v.add_argument("folder", type=Path, help="a run folder")
    v.add_argument(
        "--reference",
        metavar="NAME",
        help="an entry of the gallery (default: the run's own)",
    )
    v.add_argument("--out", type=Path, help="picture to write (default FOLDER/curves.png)")
    v.set_defaults(run=curves)


def _add_panels(commands: Any) -> None:
    p = commands.add_parser("panels", help="draw any metrics of a run or study, a panel each")
    p.add_argument("folder", type=Path, help="a run or study folder")
    p.add_argument(
        "metric",
        nargs="*",
        help="names in metrics.jsonl (default: what iterated DPO is judged by)",
    )
    p.add_argument("--out", type=Path, help="picture to write (default FOLDER/panels.png)")
    p.set_defaults(run=panels)


def curves(args: argparse.Namespace) -> int:
    """Draw one run, and print where the picture is."""
    from rlexp.report import curves
    from rlexp.report.history import Run
    from rlexp.report.references import find

    if not (args.folder / "run.json").is_file():
        raise UserError(f"{args.folder}: no run folder (it has no run.json)")
    if args.reference:
        find(args.reference, "")
    if not Run.read(args.folder).lines("eval/return_mean"):
        raise UserError(f"{args.folder}: has no evaluation yet")
    curves.curves(args.folder, args.out, reference=args.reference or True)
    print(args.out or args.folder / "curves.png")
    return 0


def panels(args: argparse.Namespace) -> int:
    """Draw the metrics, and print where the picture is."""
    from rlexp.report import panels

    titles = {name: name for name in args.metric} or panels.default(args.folder)
    picture = args.out or args.folder / "panels.png"
    print(panels.draw(args.folder, titles, picture))
    return 0
