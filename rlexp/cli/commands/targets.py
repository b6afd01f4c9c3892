"""`rlexp targets`: what a Decision Transformer does for several returns that it is asked for, without training anew."""

import argparse
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.cli.commands import distinct
from rlexp.util import strict_json
from rlexp.util.errors import UserError

if TYPE_CHECKING:
    from rlexp.policies.files import Saved
    from rlexp.report.targets import Answers


def add(commands: Any) -> None:
    """Add `targets` to the parser's commands."""
    t = commands.add_parser(
        "targets",
        help="the return of a Decision Transformer against the one it is asked for",
    )
    t.add_argument(
        "policies",
        nargs="+",
        metavar="POLICY",
        help="run folders (all their seeds) or policy files",
    )
    t.add_argument(
        "--names",
        help="of these in the picture, with commas between (default: their folders')",
    )
    t.add_argument(
        "--returns",
        type=float,
        nargs="+",
        help="default: 0 to 1.25 of the best return in the data, if that is positive",
    )
    t.add_argument(
        "--episodes",
        type=int,
        default=20,
        help="of each policy for each return (default 20)",
    )
    t.add_argument(
        "--best",
        action="store_true",
        help="the best policy by evaluation instead of the last one",
    )
    t.add_argument("--seed", type=int, default=0, help="of the episodes (default 0)")
    t.add_argument("--plot", type=Path, metavar="FILE.png", help="draw it")
    t.add_argument("--json", action="store_true", help="print JSON")
    t.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """A table for each of the policies' places, or one JSON object; and the picture where one is asked for."""
    for asked in args.returns or ():
        if not math.isfinite(asked):
            raise UserError(f"--returns: must be finite numbers, not {asked}")
    names = distinct(args.names, _usual_names(args.policies))
    policies = {where: _load(where, args) for where in args.policies}
    found = {where: _measure(saved, args) for where, saved in policies.items()}
    if args.json:
        facts = {where: asdict(answers) for where, answers in found.items()}
        whole = {"episodes": args.episodes, "seed": args.seed, "policies": facts}
        print(strict_json.dumps(whole, indent=2))
    else:
        for where, answers in found.items():
            _print(where, answers, args.episodes)
    if args.plot is not None:
        from rlexp.report import targets

        by_name = dict(zip(names, found.values(), strict=True))
        targets.draw(by_name, args.plot, args.episodes)
    return 0


def _usual_names(policies: list[str]) -> list[str]:
    """The last part of each path, or the whole path where those are not all different."""
    stems = [Path(where).stem for where in policies]
    if len(set(stems)) < len(stems):
        return policies
    return stems


def _load(where: str, args: argparse.Namespace) -> "list[Saved]":
    """The policies of `where`, one per seed. Raises UserError for those that are asked for no return."""
    from rlexp.policies.files import find_policy, load_policy

    saved = [load_policy(path) for path in find_policy(where, "best" if args.best else "final")]
    for one in saved:
        if not hasattr(one.policy, "target"):
            what = f"holds a policy of kind '{one.policy.kind}', which is asked for no return"
            raise UserError(f"{one.path}: {what}")
    if not args.returns and _data_best(saved) == 0:
        how = "say with --returns which to ask for"
        raise UserError(f"{where}: the best return in the data is 0; {how}")
    return saved


def _data_best(saved: "list[Saved]") -> float:
    """The best return of an episode in the data that the policies learned from."""
    return max(one.policy.data_best for one in saved)  # type: ignore[attr-defined]


def _measure(saved: "list[Saved]", args: argparse.Namespace) -> "Answers":
    """Mean returns of each policy for each return asked for."""
    from rlexp.report.targets import Answers
    from rlexp.rollout.score import evaluate

    best = _data_best(saved)
    asked = args.returns
    if not asked:  # six from 0 on, if the best is positive
        asked = [best + abs(best) * (i / 4 - 1) for i in range(6)]
    returns = []
    for target in asked:
        row = []
        for one in saved:
            one.policy.target = target  # type: ignore[attr-defined]
            row.append(evaluate(one, args.episodes, seed=args.seed)["return_mean"])
        returns.append(row)
    return Answers(best, asked, returns)


def _print(where: str, answers: "Answers", episodes: int) -> None:
    from rlexp.report.words import count
    from rlexp.util import stats

    best = f"best return in the data {answers.data_best:.1f}"
    print(f"{where}: {best}, {count(episodes, 'episode')} per policy\n")
    print("| asked for | mean return | 95 % t-interval | policies |\n| --- | --- | --- | --- |")
    for asked, returns in zip(answers.asked, answers.returns, strict=True):
        mean, half = stats.t_interval(returns)
        interval = "" if math.isnan(half) else f"± {half:.1f}"
        print(f"| {asked:.1f} | {mean:.1f} | {interval} | {len(returns)} |")
