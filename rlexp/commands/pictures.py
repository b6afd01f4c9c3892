"""Commands that draw what several runs have written: `rlexp compare` and `rlexp panels`.

compare: runs side by side as a study draws its arms, and a table; over steps, and over any metric with --against:
`rlexp compare BC DAGGER DIFFUSION --against data/labels` asks what each did with as many answers of an expert.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

from rlexp.errors import UserError, nearest


def add(commands: Any) -> None:
    """Put the commands on the `rlexp` command line."""
    c = commands.add_parser("compare", help="draw runs side by side, and print a table")
    c.add_argument("folder", type=Path, nargs="+", help="run folders; a study's folder stands for its arms")
    c.add_argument("--names", help="of the runs, with commas between (default: their folders')")
    c.add_argument("--metric", default="eval/return_mean", help="a name in metrics.jsonl (default eval/return_mean)")
    c.add_argument("--against", metavar="METRIC", help="draw it over this metric too, such as data/labels")
    c.add_argument("--title", default="", help="of the picture")
    c.add_argument("--out", type=Path, default=Path("compare.png"), help="picture to write (default compare.png)")
    c.add_argument("--json", action="store_true", help="print JSON")
    c.set_defaults(run=compare)

    p = commands.add_parser("panels", help="draw any metrics of a run or study, a panel each")
    p.add_argument("folder", type=Path, help="a run or study folder")
    p.add_argument("metric", nargs="*", help="names in metrics.jsonl (default: what iterated DPO is judged by)")
    p.add_argument("--out", type=Path, help="picture to write (default FOLDER/panels.png)")
    p.set_defaults(run=panels)


def compare(args: argparse.Namespace) -> int:
    from rlexp import plot, stats
    from rlexp.history import Run, folders

    places = [(name, run) for folder in args.folder for name, run in folders(folder).items()]
    names = args.names.split(",") if args.names else [name for name, _ in places]
    if len(set(names)) != len(names) or len(names) != len(places):
        raise UserError(f"--names: {len(places)} runs take as many different names, with commas between")
    arms = dict(zip(names, (Run.read(run) for _, run in places), strict=True))
    known = sorted({name for run in arms.values() for name in run.metrics("") if "/" in name})
    for metric in filter(None, (args.metric, args.against)):
        if metric not in known:
            raise UserError(f"{metric}: no run has such a metric{nearest(metric, known)}")
    plot.compare(arms, args.metric, args.out, title=args.title, against=args.against)
    rows = []
    for name, run in arms.items():
        last = [float(y[-1]) for _, y in run.lines(args.metric).values()]
        row: dict[str, Any] = {"run": name, "n": len(last)}
        if last:
            mean, half = stats.t_interval(last)
            t95 = None if math.isnan(half) else half
            row |= {"mean": mean, "t95": t95, "min": min(last), "max": max(last)}
        rows.append(row)
    if args.json:
        print(json.dumps({"picture": str(args.out), "metric": args.metric, "runs": rows}))
        return 0
    print(f"| last {args.metric} | seeds | mean | 95 % t-interval | min | max |\n|---|---|---|---|---|---|")
    for row in rows:
        cells = [f"{row[key]:.3g}" if row.get(key) is not None else "" for key in ("mean", "t95", "min", "max")]
        cells[1] = cells[1] and f"± {cells[1]}"
        print(f"| {row['run']} | {row['n']} | " + " | ".join(cells) + " |")
    print(args.out)
    return 0


def panels(args: argparse.Namespace) -> int:
    from rlexp import panels

    names = {name: name for name in args.metric} or panels.ITERATIONS
    print(panels.draw(args.folder, names, args.out or args.folder / "panels.png"))
    return 0
