"""`rlexp eval`: what policies return on fresh episodes."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rlexp.util.errors import UserError


def add(commands: Any) -> None:
    """Add `eval` to the parser's commands."""
    e = commands.add_parser("eval", help="score a run, a checkpoint or a shipped policy on fresh episodes")
    e.add_argument("policy", help="run folder, checkpoint or policy file, or the name of a policy in gallery/policies")
    e.add_argument("--episodes", type=int, default=100, help="per policy (default 100)")
    e.add_argument("--sampled", action="store_true", help="sampled instead of mean (most likely) actions")
    e.add_argument("--best", action="store_true", help="the best policy by evaluation instead of the last one")
    e.add_argument("--seed", type=int, default=0, help="of the evaluation's episodes (default 0)")
    e.add_argument("--bar", type=float, help="also print the share of episodes that return this much or more")
    e.add_argument("--video", action="store_true", help="film the best, median and worst episode into ./videos")
    e.add_argument("--render", action="store_true", help="show episodes in a window")
    e.add_argument("--json", action="store_true", help="print JSON")
    e.set_defaults(run=evaluate)


def evaluate(args: argparse.Namespace) -> int:
    from rlexp.experiment.provenance import versions
    from rlexp.policies.files import find_policy, load_policy
    from rlexp.report.window import show
    from rlexp.rollout.score import play
    from rlexp.util import stats

    if args.episodes < 1:
        raise UserError(f"--episodes: must be ≥ 1, not {args.episodes}")
    unfinished = _unfinished(Path(args.policy))
    scores: list[dict[str, Any]] = []
    for path in find_policy(args.policy, "best" if args.best else "final"):
        saved = load_policy(path)
        if args.render:
            show(saved, args.episodes, sampled=args.sampled, seed=args.seed)
            continue
        result = play(saved, args.episodes, sampled=args.sampled, seed=args.seed)
        actions = "sampled" if result.sampled else "mean"
        scores.append({"policy": str(path), "env": saved.env.id, "card": saved.card, **result.summary(saved.env)})
        reached = ""
        if args.bar is not None:
            count = sum(episode.total >= args.bar for episode in result.episodes)
            share, (low, high) = count / args.episodes, stats.wilson(count, args.episodes)
            scores[-1] |= {"bar": args.bar, "share_at_bar": share, "wilson95": [low, high]}
            reached = f", ≥ {args.bar:g} in {share:.0%} (Wilson {low:.0%} to {high:.0%})"
        if args.video:
            _film(saved, result, Path("videos") / f"{saved.card.get('algo')}_{saved.env.name}_{saved.card.get('seed')}")
        if not args.json:
            s = scores[-1]
            score = f", score {s['score']:.1f}" if "score" in s else ""
            success = f", success {s['success_rate']:.1%}" if "success_rate" in s else ""
            print(
                f"{path}: {saved.env.id}, {actions} actions, n = {args.episodes}: mean {s['return_mean']:.2f}, "
                f"std {s['return_std']:.2f}, min {s['return_min']:.2f}, median {s['return_median']:.2f}, "
                f"max {s['return_max']:.2f}{score}{success}{reached}"
            )
    if args.render:
        return 0
    mean, half = stats.t_interval([s["return_mean"] for s in scores])
    if args.json:
        print(
            json.dumps(
                {
                    "actions": actions,
                    "episodes": args.episodes,
                    "seed": args.seed,
                    "policies": scores,
                    "mean": mean,
                    "t95": None if half != half else half,
                    "unfinished": unfinished,
                    "versions": versions(),
                },
                indent=2,
            )
        )
        return 0
    if len(scores) > 1:
        print(f"mean of {len(scores)} policies: {mean:.2f} ± {half:.2f} (95 % t-interval)")
    if unfinished:
        print(f"not finished: {', '.join(unfinished)}; of these the latest checkpoint was played, if there was one")
    return 0


def _unfinished(run: Path) -> list[str]:
    """The seeds of a run folder that have not reached its budget, each with its status."""
    if not (run / "run.json").is_file():
        return []
    from rlexp.report.history import read_record

    seeds = read_record(run)["seeds"]
    return [f"seed {seed} ({facts['status']})" for seed, facts in seeds.items() if facts["status"] != "done"]


def _film(saved: Any, result: Any, place: Path) -> None:
    from rlexp.report import film
    from rlexp.report.film import VideoConfig

    video = VideoConfig(enabled=True, gif=False, seconds=60, size=320)
    try:
        for path in film.films(saved.env.on_gymnasium(), result, place, video):
            print(path, file=sys.stderr)
    except film.CannotRender as error:
        print(f"warning: no video: {error}", file=sys.stderr)
