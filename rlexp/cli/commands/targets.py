"""`rlexp targets`: what a Decision Transformer does for several returns that it is asked for, without training anew."""

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.cli.commands import distinct
from rlexp.util.errors import UserError

if TYPE_CHECKING:
    from rlexp.policies.files import Saved


def add(commands: Any) -> None:
    """Add `targets` to the parser's commands."""
    t = commands.add_parser("targets", help="the return of a Decision Transformer against the one it is asked for")
    t.add_argument("policies", nargs="+", metavar="POLICY", help="run folders (all their seeds) or policy files")
    t.add_argument("--names", help="of these in the picture, with commas between (default: their folders')")
    t.add_argument(
        "--returns",
        type=float,
        nargs="+",
        help="default: 0 to 1.25 of the best return in the data, if that is positive",
    )
    t.add_argument("--episodes", type=int, default=20, help="of each policy for each return (default 20)")
    t.add_argument("--best", action="store_true", help="the best policy by evaluation instead of the last one")
    t.add_argument("--seed", type=int, default=0, help="of the episodes (default 0)")
    t.add_argument("--plot", type=Path, metavar="FILE.png", help="draw it")
    t.add_argument("--json", action="store_true", help="print JSON")
    t.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from rlexp.util import stats

    for asked in args.returns or ():
        if not math.isfinite(asked):
            raise UserError(f"--returns: must be finite numbers, not {asked}")
    stems = [Path(where).stem for where in args.policies]
    names = distinct(args.names, stems if len(set(stems)) == len(stems) else args.policies)
    policies = {where: load(where, args) for where in args.policies}
    found = {where: measure(saved, args) for where, saved in policies.items()}
    if args.json:
        print(json.dumps({"episodes": args.episodes, "seed": args.seed, "policies": found}, indent=2))
    for where, result in found.items() if not args.json else ():
        print(f"{where}: best return in the data {result['data_best']:.1f}, {args.episodes} episodes per policy\n")
        print("| asked for | mean return | 95 % t-interval | policies |\n| --- | --- | --- | --- |")
        for asked, returns in zip(result["asked"], result["returns"], strict=True):
            mean, half = stats.t_interval(returns)
            print(f"| {asked:.1f} | {mean:.1f} | {'' if half != half else f'± {half:.1f}'} | {len(returns)} |")
    if args.plot is not None:
        draw(dict(zip(names, found.values(), strict=True)), args.plot, args.episodes)
    return 0


def load(where: str, args: argparse.Namespace) -> "list[Saved]":
    """The policies of `where`, one per seed. Raises UserError for those that are asked for no return."""
    from rlexp.policies.files import find_policy, load_policy

    saved = [load_policy(path) for path in find_policy(where, "best" if args.best else "final")]
    for one in saved:
        if not hasattr(one.policy, "target"):
            raise UserError(f"{one.path}: holds a policy of kind '{one.policy.kind}', which is asked for no return")
    if not args.returns and not any(one.policy.data_best for one in saved):  # type: ignore[attr-defined]
        raise UserError(f"{where}: the best return in the data is 0; say with --returns which to ask for")
    return saved


def measure(saved: "list[Saved]", args: argparse.Namespace) -> dict[str, Any]:
    """Mean returns of each policy for each return asked for."""
    from rlexp.rollout.score import evaluate

    best = max(one.policy.data_best for one in saved)  # type: ignore[attr-defined]
    asked = args.returns or [best + abs(best) * (i / 4 - 1) for i in range(6)]  # if it is positive, from 0 on
    returns: list[list[float]] = []
    for target in asked:
        returns.append([])
        for one in saved:
            one.policy.target = target  # type: ignore[attr-defined]
            returns[-1].append(evaluate(one, args.episodes, seed=args.seed)["return_mean"])
    return {"data_best": best, "asked": asked, "returns": returns}


def draw(found: dict[str, dict[str, Any]], path: Path, episodes: int) -> None:
    """Mean and 95 % t-interval over policies against the return asked for, the diagonal, and the data's best return."""
    import matplotlib
    from matplotlib.figure import Figure

    from rlexp.report.style import BAND, COLOURS, GREY, STYLE
    from rlexp.util import stats

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6, 4.5))
        axes = figure.subplots()
        every = [asked for result in found.values() for asked in result["asked"]]
        ends = [min(every), max(every)]
        axes.plot(ends, ends, color=GREY, linewidth=1, linestyle="--", label="as asked")
        for i, (name, result) in enumerate(found.items()):
            colour = COLOURS[i % len(COLOURS)]
            intervals = [stats.t_interval(returns) for returns in result["returns"]]
            means, halves = [mean for mean, _ in intervals], [0.0 if half != half else half for _, half in intervals]
            n = len(result["returns"][0])
            axes.errorbar(result["asked"], means, halves, color=colour, marker="o", capsize=3, label=f"{name}, n = {n}")
            axes.axvline(result["data_best"], color=colour, linewidth=1, linestyle=":", label=f"{name}, best in data")
        axes.set_xlabel("return asked for")
        axes.set_ylabel(f"mean return ({episodes} episodes per policy)")
        axes.set_title(f"mean over policies and {BAND}")
        axes.legend(loc="best")
        figure.savefig(path, format="png")
