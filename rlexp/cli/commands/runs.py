"""`rlexp reach` and `publish`: when runs reached a bar, and which are references."""

import argparse
import math
import sys
from functools import partial
from pathlib import Path
from typing import Any

from rlexp.util import paths, strict_json
from rlexp.util.errors import UserError, did_you_mean, nearest


def add(commands: Any) -> None:
    """Add `reach` and `publish` to the parser's commands."""
    _add_reach(commands)
    _add_publish(commands)


def _add_reach(commands: Any) -> None:
    r = commands.add_parser("reach", help="when each seed of a run first reached a bar")
    r.add_argument("folder", help="a run folder")
    r.add_argument("bar", type=float, help="the value to reach")
    r.add_argument(
        "--metric",
        default="eval/return_mean",
        help="a name in metrics.jsonl (default eval/return_mean)",
    )
    r.add_argument("--within", type=int, help="count only steps up to this one")
    r.add_argument("--json", action="store_true", help="print JSON")
    r.set_defaults(run=reach)


def _add_publish(commands: Any) -> None:
    p = commands.add_parser("publish", help="make a run's curve a reference in gallery/")
    p.add_argument("folder", help="a finished run folder")
    p.add_argument(
        "--variant",
        help="name to tell it from others of the same algorithm and environment",
    )
    p.add_argument("--replace", action="store_true", help="what is already there by that name")
    p.add_argument(
        "--episodes",
        type=int,
        default=100,
        help="of each seed's last policy, for the card: fresh ones, mean and sampled actions (default 100; 0: none)",
    )
    p.add_argument(
        "--policy",
        metavar="NAME",
        help="instead, ship a seed's last policy as gallery/policies/NAME",
    )
    p.add_argument(
        "--ladder",
        metavar="NAME",
        help="instead, ship a seed's snapshots as the folder gallery/policies/NAME",
    )
    p.add_argument(
        "--seed",
        type=int,
        help="with --policy, --ladder: of which seed (default: the first)",
    )
    p.add_argument(
        "--step",
        type=int,
        help="with --policy: the snapshot at this step; with --ladder: only those before",
    )
    p.add_argument(
        "--best",
        action="store_true",
        help="with --policy: the best by evaluation instead of the last",
    )
    p.add_argument(
        "--every",
        type=int,
        help="with --ladder: only snapshots at multiples of this step",
    )
    p.add_argument("--json", action="store_true", help="print JSON")
    p.set_defaults(run=publish)


def reach(args: argparse.Namespace) -> int:
    """A line for each seed, and the share that reached the bar; or one JSON object."""
    from rlexp.util import stats

    folders = paths.seed_folders(Path(args.folder))
    seeds = [folder for folder in folders if (folder / "metrics.jsonl").is_file()]
    if not seeds:
        raise UserError(f"{args.folder}: no run folder with metrics in it")
    if args.within is not None and args.within < 0:
        raise UserError(f"--within: must be ≥ 0, not {args.within}")
    if math.isnan(args.bar):
        raise UserError("bar: is not a number")
    first = {seed.name: _first_at_bar(seed / "metrics.jsonl", args) for seed in seeds}
    n = len(first)
    reached = sum(step is not None for step in first.values())
    low, high = stats.wilson(reached, n)
    if args.json:
        facts = {"metric": args.metric, "bar": args.bar, "first": first}
        print(strict_json.dumps({**facts, "share": reached / n, "wilson95": [low, high]}))
        return 0
    for name, step in first.items():
        said = "not reached" if step is None else f"step {step:,}"
        print(f"{name}: {said}")
    share = f"{reached} of {n} seeds = {reached / n:.0%}"
    interval = f"95 % Wilson interval {low:.0%} to {high:.0%}"
    print(f"{args.metric} ≥ {args.bar:g}: {share} ({interval})")
    return 0


def _first_at_bar(file: Path, args: argparse.Namespace) -> int | None:
    """The first step, up to --within, at which a seed's metric is the bar or more; None where there is none."""
    from rlexp.loggers.jsonl import read

    rows = read(file)
    known = sorted({name for row in rows for name in row if "/" in name})
    if args.metric not in known:
        hint = did_you_mean(nearest(args.metric, known))
        raise UserError(f"--metric {args.metric}: not in {file}{hint}")
    for row in rows:
        if row.get(args.metric, -math.inf) >= args.bar:
            is_late = args.within is not None and row["step"] > args.within
            return None if is_late else row["step"]
    return None


def publish(args: argparse.Namespace) -> int:
    """Make a curve, a policy or a ladder of policies part of the gallery, and print where it is."""
    from rlexp.report import publish, ship
    from rlexp.report.played import play_seeds

    _check_publish(args)
    run = Path(args.folder)
    replace = args.replace
    if args.policy:
        path = ship.ship(run, args.policy, args.seed, args.step, best=args.best, replace=replace)
    elif args.ladder:
        name = args.ladder
        path = ship.ship_ladder(run, name, args.seed, args.step, args.every, replace=replace)
    else:
        played = None
        if args.episodes:
            played = partial(play_seeds, run, episodes=args.episodes, say=partial(print, file=sys.stderr))
        path = publish.publish(run, args.variant, replace=replace, played=played)
    print(strict_json.dumps({"entry": str(path)}) if args.json else path)
    return 0


def _check_publish(args: argparse.Namespace) -> None:
    """Raises UserError for options that do not go together."""
    if args.episodes < 0:
        raise UserError(f"--episodes: must be ≥ 0, not {args.episodes}")
    given = [name for name in ("variant", "policy", "ladder") if getattr(args, name)]
    if len(given) > 1:
        raise UserError(f"--{given[1]}: one thing at a time; a curve, a --policy or a --ladder")
    needs = {
        "step": ["policy", "ladder"],
        "seed": ["policy", "ladder"],
        "best": ["policy"],
    }
    for option, several in needs.items():
        is_given = getattr(args, option) not in (None, False)
        if is_given and not any(getattr(args, name) for name in several):
            raise UserError(f"--{option}: goes with {' or '.join(f'--{name}' for name in several)}")
