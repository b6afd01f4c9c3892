"""`rlexp compare`: runs, entries of the gallery and anybody's files side by side, in a picture and a table.

Over steps, and over any metric with --over: `rlexp compare BC DAGGER DIFFUSION --over data/labels` asks what each did
with as many answers of an expert. --against says how each differs from a baseline, by the rule of `rlexp check`. Where
there are several environments, methods are told over all of them.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.cli.commands import add_columns, columns, distinct, finite
from rlexp.util import strict_json
from rlexp.util.errors import UserError, did_you_mean, nearest

if TYPE_CHECKING:
    from rlexp.report.compare import Arms
    from rlexp.report.history import Run


def add(commands: Any) -> None:
    c = commands.add_parser("compare", help="draw runs side by side, and print a table")
    c.add_argument(
        "places",
        nargs="+",
        metavar="RUN|ENTRY|FILE",
        help="run folders (a study's stands for its arms), entries of the gallery, anybody's files of curves",
    )
    c.add_argument("--names", help="of the runs, with commas between (default: their folders')")
    c.add_argument(
        "--metric",
        default="eval/return_mean",
        help="a name in metrics.jsonl (default eval/return_mean)",
    )
    c.add_argument(
        "--against",
        metavar="BASELINE",
        help="one of them by its name, which the others are told the difference to",
    )
    c.add_argument(
        "--over",
        metavar="METRIC",
        help="draw it over this metric too, such as data/labels",
    )
    add_columns(c)
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


def compare(args: argparse.Namespace) -> int:
    """Draw several runs, and print a table or one JSON object."""
    from rlexp.report import compare

    arms = _arms(args)
    _take_former(args, arms)
    _check_compare(args, arms)
    compare.compare(arms, args.metric, args.out, title=args.title, against=args.over)
    rows = [_row(name, run, args.metric, args.last) for name, run in arms.items()]
    if args.against is not None:
        for row in rows:
            row |= _beside(arms, row["run"], args.against)
    whole = _over_environments(arms, args)
    if args.json:
        facts = {"picture": str(args.out), "metric": args.metric, "last": args.last}
        print(strict_json.dumps({**facts, "against": args.against, "runs": rows, "methods": whole}))
        return 0
    what = f"last {args.metric}"
    if args.last:
        what = f"{args.metric}, mean of the last {args.last:,}"
    beside = f" beside {args.against} |" if args.against else ""
    print(f"| {what} | seeds | mean | 95 % t-interval | min | max |{beside}")
    print("|---|---|---|---|---|---|" + ("---|" if beside else ""))
    for row in rows:
        print(_line(row, beside=bool(beside)))
    if whole:
        print(_methods_table(whole, args.against))
    print(args.out)
    return 0


def _take_former(args: argparse.Namespace, arms: "Arms") -> None:
    """--against named a metric once."""
    from rlexp.report.panels import known_metrics

    if args.against is None or args.against in arms or args.over is not None:
        return
    if args.against in known_metrics(arms.values()):
        print(f"--against {args.against} is now written --over {args.against}", file=sys.stderr)
        args.over = args.against
        args.against = None


def _beside(arms: "Arms", name: str, baseline: str) -> dict[str, Any]:
    """What the rule of `rlexp check` says of a run beside the baseline, by returns; nothing of the baseline itself."""
    from rlexp.report import sides
    from rlexp.report.judge import judge

    if name == baseline:
        return {}
    run = sides.of_run(name, arms[name])
    other = sides.of_run(baseline, arms[baseline])
    if not run.lines or not other.lines:
        return {}
    judged = judge(run, other)
    measure = judged.measure
    return {
        "verdict": judged.word,
        "difference": measure.difference if measure else None,
        "half_width": measure.half_width if measure else None,
        "measure": measure.name if measure else None,
    }


def _over_environments(arms: "Arms", args: argparse.Namespace) -> list[dict[str, Any]]:
    """Of each method: what stands over several environments; draws the profiles beside the picture. Empty where
    there are not two methods that share two environments."""
    from rlexp.report import methods

    found = methods.scores(arms, args.metric)
    environments = {env for scores in found.values() for env in scores}
    if len(environments) < 2:
        return []
    if len(found) < 2:
        return []
    baseline = None if args.against is None else methods.method_of(args.against, arms[args.against])
    methods.draw(found, args.out.with_name(f"{args.out.stem}-profiles.png"))
    return methods.table(found, baseline)


def _methods_table(rows: list[dict[str, Any]], against: str | None) -> str:
    heads = ["method", "environments", "IQM (95 % bootstrap)"]
    if against:
        heads.append("probability of improvement")
    lines = ["", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [row["method"], str(row["environments"]), _interval(row["iqm"])]
        if against:
            cells.append(_interval(row["improvement"]))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _interval(found: list[float] | None) -> str:
    if found is None:
        return ""
    value, low, high = found
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def _arms(args: argparse.Namespace) -> "Arms":
    """The runs by the names that they have in the picture."""
    from rlexp.report import arms

    usual = []
    runs = []
    for place in args.places:
        for name, run in arms.read(place, columns(args)).items():
            usual.append(name)
            runs.append(run)
    return dict(zip(distinct(args.names, usual), runs, strict=True))


def _check_compare(args: argparse.Namespace, arms: "Arms") -> None:
    """Raises UserError for metrics that no run has, or that cannot be drawn against."""
    from rlexp.report.panels import known_metrics

    known = known_metrics(arms.values())
    for metric in filter(None, (args.metric, args.over)):
        if metric not in known:
            hint = did_you_mean(nearest(metric, known))
            raise UserError(f"{metric}: no run has such a metric{hint}")
    if args.last < 0:
        raise UserError(f"--last: must be ≥ 0, not {args.last}")
    if args.over:
        for name, run in arms.items():
            if _falls(run, args.over):
                what = f"falls in {name}; what it is drawn over must grow"
                raise UserError(f"--over {args.over}: {what}")
    if args.against is not None and args.against not in arms:
        hint = did_you_mean(nearest(args.against, arms))
        raise UserError(f"--against {args.against}: none of them is called so{hint} (there are {', '.join(arms)})")


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


def _line(row: dict[str, Any], *, beside: bool) -> str:
    """A row of the table as Markdown; a cell is empty where there is no value."""
    seeds = str(row["n"])
    if row["missing"]:
        seeds += f", {row['missing']} without a value"
    cells = [row["run"], seeds]
    for key in ("mean", "t95", "min", "max"):
        value = row.get(key)
        sign = "± " if key == "t95" else ""
        is_nothing = value is None or (key == "t95" and value == 0)  # equal values have no interval
        cells.append("" if is_nothing else f"{sign}{value:.4g}")
    if beside:
        cells.append(_said_beside(row))
    return f"| {' | '.join(cells)} |"


def _said_beside(row: dict[str, Any]) -> str:
    """The verdict beside the baseline; empty for the baseline itself."""
    if "verdict" not in row:
        return ""
    words = row["verdict"].replace("_", " ")
    if row["difference"] is not None:
        words += f", {row['measure']} {row['difference']:+.4g}"
    if row["half_width"] is not None:
        words += f" ± {row['half_width']:.4g} (90 %)"
    return words
