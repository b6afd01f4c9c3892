"""Commands that draw what runs have written: `rlexp curves` and `rlexp panels`.

curves: a run's curves once more, beside any entry of the gallery; or the evaluations of an entry itself.
"""

import argparse
from pathlib import Path
from typing import Any

from rlexp.util.errors import UserError, did_you_mean, nearest


def add(commands: Any) -> None:
    """Put the commands on the `rlexp` command line."""
    _add_curves(commands)
    _add_panels(commands)


def _add_curves(commands: Any) -> None:
    v = commands.add_parser("curves", help="draw a run's curves beside any reference")
    v.add_argument("folder", type=Path, help="a run folder, or an entry of the gallery")
    v.add_argument(
        "--reference",
        metavar="NAME",
        help="an entry of the gallery (default: the run's own)",
    )
    v.add_argument("--out", type=Path, help="picture to write (default FOLDER/curves.png, ENTRY.png)")
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
    from rlexp.report.references import entries, find

    if str(args.folder) in entries():
        return _of_entry(args)
    if not (args.folder / "run.json").is_file():
        hint = did_you_mean(nearest(str(args.folder), entries()))
        raise UserError(f"{args.folder}: no run folder (it has no run.json), and no entry of the gallery{hint}")
    if args.reference:
        find(args.reference, "")
    if not Run.read(args.folder).lines("eval/return_mean"):
        raise UserError(f"{args.folder}: has no evaluation yet")
    curves.curves(args.folder, args.out, reference=args.reference or True)
    print(args.out or args.folder / "curves.png")
    return 0


def _of_entry(args: argparse.Namespace) -> int:
    """Draw an entry, and print where the picture is."""
    from rlexp.report import arms, curves
    from rlexp.report.references import Entry, entries

    if args.reference:
        raise UserError("--reference: an entry is drawn by itself; rlexp compare draws several")
    name = str(args.folder)
    run = arms.of_entry(Entry.read(entries()[name]))
    if not run.config:
        raise UserError(f"{name}: is a curve of others, of which no settings are known; rlexp compare {name} draws it")
    picture = args.out or Path(f"{name}.png")
    curves.of_entry(run, picture)
    print(picture)
    return 0


def panels(args: argparse.Namespace) -> int:
    """Draw the metrics, and print where the picture is."""
    from rlexp.report import panels

    titles = {name: name for name in args.metric} or panels.default(args.folder)
    picture = args.out or args.folder / "panels.png"
    print(panels.draw(args.folder, titles, picture))
    return 0
