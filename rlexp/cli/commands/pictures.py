"""Commands that draw what runs have written: `rlexp curves`, `rlexp compare` and `rlexp panels`.

curves: a run's curves once more, beside any entry of the gallery.
compare: runs side by side as a study draws its arms, and a table; over steps, and over any metric with --against:
`rlexp compare BC DAGGER DIFFUSION --against data/labels` asks what each did with as many answers of an expert.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.cli.commands import distinct, finite
from rlexp.util.errors import UserError, did_you_mean, nearest

if TYPE_CHECKING:
    from rlexp.report.compare import Arms
    from rlexp.report.history import Run


def add(commands: Any) -> None:
    """Put the commands on the `rlexp` command line."""
    _add_curves(commands)
    _add_compare(commands)
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


def _add_compare(commands: Any) -> None:
    c = commands.add_parser("compare", help="draw runs side by side, and print a table")
    c.add_argument(
        "folder",
        type=Path,
        nargs="+",
        help="run folders; a study's folder stands for its arms",
    )
    c.add_argument("--names", help="of the runs, with commas between (default: their folders')")
    c.add_argument(
        "--metric",
        default="eval/return_mean",
        help="a name in metrics.jsonl (default eval/return_mean)",
    )
    c.add_argument(
        "--against",
        metavar="METRIC",
        help="draw it over this metric too, such as data/labels",
    )
    c.add_argument(
        "--last",
        type=int,
        default=0,
        metavar="N",
        help="table: mean over the last N steps or updates, those after END - N",
    )
    c.add_argument("--title", default="", help="of the picture")
    c.add_argument(
        "--out",
        type=Path,
        default=Path("compare.png"),
        help="picture to write (default compare.png)",
    )
    c.add_argument("--json", action="store_true", help="print JSON")
    c.set_defaults(run=compare)


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


def compare(args: argparse.Namespace) -> int:
    """Draw several runs, and print a table or one JSON object."""
    from rlexp.report import compare

    arms = _arms(args)
    _check_compare(args, arms)
    compare.compare(arms, args.metric, args.out, title=args.title, against=args.against)
    rows = [_row(name, run, args.metric, args.last) for name, run in arms.items()]
    if args.json:
        facts = {"picture": str(args.out), "metric": args.metric, "last": args.last}
        print(json.dumps({**facts, "runs": rows}))
        return 0
    what = f"last {args.metric}"
    if args.last:
        what = f"{args.metric}, mean of the last {args.last:,}"
    print(f"| {what} | seeds | mean | 95 % t-interval | min | max |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(_line(row))
    print(args.out)
    return 0


def _arms(args: argparse.Namespace) -> "Arms":
    """The runs by the names that they have in the picture."""
    from rlexp.report.history import Run, folders

    usual = []
    places = []
    for folder in args.folder:
        for name, place in folders(folder).items():
            usual.append(name)
            places.append(place)
    names = distinct(args.names, usual)
    return {name: Run.read(place) for name, place in zip(names, places, strict=True)}


def _check_compare(args: argparse.Namespace, arms: "Arms") -> None:
    """Raises UserError for metrics that no run has, or that cannot be drawn against."""
    from rlexp.report.panels import known_metrics

    known = known_metrics(arms.values())
    for metric in filter(None, (args.metric, args.against)):
        if metric not in known:
            hint = did_you_mean(nearest(metric, known))
            raise UserError(f"{metric}: no run has such a metric{hint}")
    if args.last < 0:
        raise UserError(f"--last: must be ≥ 0, not {args.last}")
    if args.against:
        for name, run in arms.items():
            if _falls(run, args.against):
                what = f"falls in {name}; what is drawn against must grow"
                raise UserError(f"--against {args.against}: {what}")


def _falls(run: "Run", metric: str) -> bool:
    """Whether a metric of any seed ever becomes less."""
    import numpy as np

    return any((np.diff(y) < 0).any() for _, y in run.lines(metric).values())


def _row(name: str, run: "Run", metric: str, last: int) -> dict[str, Any]:
    """What the table says of one run: of each seed that is done, the mean after END - `last`, or its last value."""
    from rlexp.util import stats

    values = []
    for seed, (x, y) in run.lines(metric).items():
        if run.status(seed) == "done":
            end = x[-1]
            values.append(float(y[(x > end - last) | (x == end)].mean()))
    row: dict[str, Any] = {"run": name, "n": len(values), "missing": len(run.rows) - len(values)}
    if values:
        mean, half = stats.t_interval(values)
        row |= {"mean": mean, "t95": finite(half), "min": min(values), "max": max(values)}
    return row


def _line(row: dict[str, Any]) -> str:
    """A row of the table as Markdown; a cell is empty where there is no value."""
    seeds = str(row["n"])
    if row["missing"]:
        seeds += f", {row['missing']} without a value"
    cells = [row["run"], seeds]
    for key in ("mean", "t95", "min", "max"):
        value = row.get(key)
        sign = "± " if key == "t95" else ""
        cells.append("" if value is None else f"{sign}{value:.4g}")
    return f"| {' | '.join(cells)} |"


def panels(args: argparse.Namespace) -> int:
    """Draw the metrics, and print where the picture is."""
    from rlexp.report import panels

    titles = {name: name for name in args.metric} or panels.default(args.folder)
    picture = args.out or args.folder / "panels.png"
    print(panels.draw(args.folder, titles, picture))
    return 0
