"""Commands that draw what runs have written: `rlexp curves`, `rlexp compare` and `rlexp panels`.

curves: a run's curves once more, beside any entry of the gallery.
compare: runs side by side as a study draws its arms, and a table; over steps, and over any metric with --against:
`rlexp compare BC DAGGER DIFFUSION --against data/labels` asks what each did with as many answers of an expert.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

from rlexp.cli.commands import distinct
from rlexp.util.errors import UserError, did_you_mean, nearest


def add(commands: Any) -> None:
    """Put the commands on the `rlexp` command line."""
    v = commands.add_parser("curves", help="draw a run's curves beside any reference")
    v.add_argument("folder", type=Path, help="a run folder")
    v.add_argument("--reference", metavar="NAME", help="an entry of the gallery (default: the run's own)")
    v.add_argument("--out", type=Path, help="picture to write (default FOLDER/curves.png)")
    v.set_defaults(run=curves)

    c = commands.add_parser("compare", help="draw runs side by side, and print a table")
    c.add_argument("folder", type=Path, nargs="+", help="run folders; a study's folder stands for its arms")
    c.add_argument("--names", help="of the runs, with commas between (default: their folders')")
    c.add_argument("--metric", default="eval/return_mean", help="a name in metrics.jsonl (default eval/return_mean)")
    c.add_argument("--against", metavar="METRIC", help="draw it over this metric too, such as data/labels")
    c.add_argument(
        "--last",
        type=int,
        default=0,
        metavar="N",
        help="table: mean over the last N steps or updates, those after END - N",
    )
    c.add_argument("--title", default="", help="of the picture")
    c.add_argument("--out", type=Path, default=Path("compare.png"), help="picture to write (default compare.png)")
    c.add_argument("--json", action="store_true", help="print JSON")
    c.set_defaults(run=compare)

    p = commands.add_parser("panels", help="draw any metrics of a run or study, a panel each")
    p.add_argument("folder", type=Path, help="a run or study folder")
    p.add_argument("metric", nargs="*", help="names in metrics.jsonl (default: what iterated DPO is judged by)")
    p.add_argument("--out", type=Path, help="picture to write (default FOLDER/panels.png)")
    p.set_defaults(run=panels)


def curves(args: argparse.Namespace) -> int:
    from rlexp.report.curves import curves
    from rlexp.report.history import Run
    from rlexp.report.references import find

    if not (args.folder / "run.json").is_file():
        raise UserError(f"{args.folder}: no run folder (it has no run.json)")
    if args.reference:
        find(args.reference, "")
    if not Run.read(args.folder).lines("eval/return_mean"):
        raise UserError(f"{args.folder}: has no evaluation yet")
    curves(args.folder, args.out, reference=args.reference or True)
    print(args.out or args.folder / "curves.png")
    return 0


def compare(args: argparse.Namespace) -> int:
    import numpy as np

    from rlexp.report.compare import compare
    from rlexp.report.history import Run, folders
    from rlexp.util import stats

    places = [(name, run) for folder in args.folder for name, run in folders(folder).items()]
    names = distinct(args.names, [name for name, _ in places])
    arms = dict(zip(names, (Run.read(run) for _, run in places), strict=True))
    known = sorted({name for run in arms.values() for name in run.metrics("") if "/" in name})
    for metric in filter(None, (args.metric, args.against)):
        if metric not in known:
            raise UserError(f"{metric}: no run has such a metric{did_you_mean(nearest(metric, known))}")
    if args.last < 0:
        raise UserError(f"--last: must be ≥ 0, not {args.last}")
    for name, run in arms.items() if args.against else ():
        if any((np.diff(y) < 0).any() for _, y in run.lines(args.against).values()):
            raise UserError(f"--against {args.against}: falls in {name}; what is drawn against must grow")
    compare(arms, args.metric, args.out, title=args.title, against=args.against)
    rows = []
    for name, run in arms.items():
        lines = {seed: line for seed, line in run.lines(args.metric).items() if run.status(seed) == "done"}
        last = [float(y[(x > x[-1] - args.last) | (x == x[-1])].mean()) for x, y in lines.values()]
        row: dict[str, Any] = {"run": name, "n": len(last), "missing": len(run.rows) - len(last)}
        if last:
            mean, half = stats.t_interval(last)
            t95 = None if math.isnan(half) else half
            row |= {"mean": mean, "t95": t95, "min": min(last), "max": max(last)}
        rows.append(row)
    if args.json:
        print(json.dumps({"picture": str(args.out), "metric": args.metric, "last": args.last, "runs": rows}))
        return 0
    what = f"{args.metric}, mean of the last {args.last:,}" if args.last else f"last {args.metric}"
    print(f"| {what} | seeds | mean | 95 % t-interval | min | max |\n|---|---|---|---|---|---|")
    for row in rows:
        cells = [f"{row[key]:.4g}" if row.get(key) is not None else "" for key in ("mean", "t95", "min", "max")]
        cells[1] = cells[1] and f"± {cells[1]}"
        missing = f", {row['missing']} without a value" if row["missing"] else ""
        print(f"| {row['run']} | {row['n']}{missing} | " + " | ".join(cells) + " |")
    print(args.out)
    return 0


def panels(args: argparse.Namespace) -> int:
    from rlexp.report import panels

    names = {name: name for name in args.metric} or panels.default(args.folder)
    print(panels.draw(args.folder, names, args.out or args.folder / "panels.png"))
    return 0
