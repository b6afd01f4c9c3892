"""`rlexp list`, `reach` and `publish`: runs with their scores, when they reached a bar, which are references."""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from rlexp.util.errors import UserError, did_you_mean, nearest


def add(commands: Any) -> None:
    """Add `list`, `reach` and `publish` to the parser's commands."""
    ls = commands.add_parser("list", help="runs with their scores")
    ls.add_argument("folder", nargs="?", default="runs", help="where to look (default runs)")
    ls.add_argument("--json", action="store_true", help="print JSON")
    ls.set_defaults(run=list_runs)

    r = commands.add_parser("reach", help="when each seed of a run first reached a bar")
    r.add_argument("folder", help="a run folder")
    r.add_argument("bar", type=float, help="the value to reach")
    r.add_argument("--metric", default="eval/return_mean", help="a name in metrics.jsonl (default eval/return_mean)")
    r.add_argument("--within", type=int, help="count only steps up to this one")
    r.add_argument("--json", action="store_true", help="print JSON")
    r.set_defaults(run=reach)

    p = commands.add_parser("publish", help="make a run's curve a reference in gallery/")
    p.add_argument("folder", help="a finished run folder")
    p.add_argument("--variant", help="name to tell it from others of the same algorithm and environment")
    p.add_argument("--replace", action="store_true", help="what is already there by that name")
    p.add_argument("--policy", metavar="NAME", help="instead, ship a seed's last policy as gallery/policies/NAME")
    p.add_argument(
        "--ladder", metavar="NAME", help="instead, ship a seed's snapshots as the folder gallery/policies/NAME"
    )
    p.add_argument("--seed", type=int, help="with --policy, --ladder: of which seed (default: the first)")
    p.add_argument(
        "--step", type=int, help="with --policy: the snapshot at this step; with --ladder: only those before"
    )
    p.add_argument("--best", action="store_true", help="with --policy: the best by evaluation instead of the last")
    p.add_argument("--every", type=int, help="with --ladder: only snapshots at multiples of this step")
    p.add_argument("--json", action="store_true", help="print JSON")
    p.set_defaults(run=publish)


def list_runs(args: argparse.Namespace) -> int:
    root, found = Path(args.folder), []
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    for file in sorted(root.rglob("run.json")):
        try:
            record = json.loads(file.read_text())
            states = [facts["status"] for facts in record["seeds"].values()]
            final = record.get("final", {})
        except (ValueError, KeyError, TypeError, AttributeError):
            print(f"warning: {file}: cannot be read", file=sys.stderr)
            continue
        found.append(
            {
                "run": str(file.parent),
                "seeds": len(states),
                "done": states.count("done"),
                "failed": states.count("failed"),
                "return_mean": final.get("return_mean", {}).get("mean"),
                "t95": final.get("return_mean", {}).get("t95"),
                "score": final.get("score", {}).get("mean"),
            }
        )
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    width = max([len(run["run"]) for run in found], default=3)
    print(f"{'run':{width}}  done  return mean (95 % t-interval)  score")
    for run in found:
        total = "" if run["return_mean"] is None else f"{run['return_mean']:.1f}"
        total += "" if run["t95"] is None else f" ± {run['t95']:.1f}"
        score = "" if run["score"] is None else f"{run['score']:.1f}"
        failed = f"  {run['failed']} failed" if run["failed"] else ""
        print(f"{run['run']:{width}}  {run['done']}/{run['seeds']}   {total:28}  {score}{failed}")
    return 0


def reach(args: argparse.Namespace) -> int:
    from rlexp.loggers.jsonl import read
    from rlexp.util import stats

    files = sorted(Path(args.folder).glob("seed_*/metrics.jsonl"), key=lambda f: int(f.parent.name[5:]))
    if not files:
        raise UserError(f"{args.folder}: no run folder with metrics in it")
    if args.within is not None and args.within < 0:
        raise UserError(f"--within: must be ≥ 0, not {args.within}")
    if math.isnan(args.bar):
        raise UserError("bar: is not a number")
    first: dict[str, int | None] = {}
    for file in files:
        rows = read(file)
        known = sorted({name for row in rows for name in row if "/" in name})
        if args.metric not in known:
            hint = did_you_mean(nearest(args.metric, known))
            raise UserError(f"--metric {args.metric}: not in {file}{hint}")
        reached = (row["step"] for row in rows if row.get(args.metric, -float("inf")) >= args.bar)
        step = next(reached, None)
        first[file.parent.name] = None if step is None or (args.within is not None and step > args.within) else step
    k, n = sum(step is not None for step in first.values()), len(first)
    low, high = stats.wilson(k, n)
    if args.json:
        print(
            json.dumps(
                {"metric": args.metric, "bar": args.bar, "first": first, "share": k / n, "wilson95": [low, high]}
            )
        )
        return 0
    for name, step in first.items():
        print(f"{name}: {'not reached' if step is None else f'step {step:,}'}")
    print(
        f"{args.metric} ≥ {args.bar:g}: {k} of {n} seeds = {k / n:.0%} (95 % Wilson interval {low:.0%} to {high:.0%})"
    )
    return 0


def publish(args: argparse.Namespace) -> int:
    from rlexp.report.publish import publish, ship, ship_ladder

    run = Path(args.folder)
    if given := [f"--{name}" for name in ("variant", "policy", "ladder") if getattr(args, name)][1:]:
        raise UserError(f"{given[0]}: one thing at a time; a curve, a --policy or a --ladder")
    for option, needs in (("step", "policy or --ladder"), ("seed", "policy or --ladder"), ("best", "policy")):
        if getattr(args, option) not in (None, False) and not (args.policy or (args.ladder and option != "best")):
            raise UserError(f"--{option}: goes with --{needs}")
    if args.policy:
        path = ship(run, args.policy, args.seed, args.step, best=args.best, replace=args.replace)
    elif args.ladder:
        path = ship_ladder(run, args.ladder, args.seed, args.step, args.every, replace=args.replace)
    else:
        path = publish(run, args.variant, replace=args.replace)
    print(json.dumps({"entry": str(path)}) if args.json else path)
    return 0
