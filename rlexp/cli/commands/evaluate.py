"""`rlexp eval`: what policies return on fresh episodes."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.cli.commands import finite, foreign, print_json
from rlexp.util.errors import UserError

if TYPE_CHECKING:
    from rlexp.policies.files import Saved
    from rlexp.rollout.evaluation import Evaluation


def add(commands: Any) -> None:
    """Add `eval` to the parser's commands."""
    e = commands.add_parser(
        "eval",
        help="score a run, a checkpoint or a shipped policy on fresh episodes",
    )
    e.add_argument(
        "policy",
        help="run folder, checkpoint or policy file, or the name of a policy in gallery/policies",
    )
    e.add_argument("--episodes", type=int, default=100, help="per policy (default 100)")
    e.add_argument(
        "--sampled",
        action="store_true",
        help="sampled instead of mean (most likely) actions",
    )
    e.add_argument(
        "--best",
        action="store_true",
        help="the best policy by evaluation instead of the last one",
    )
    e.add_argument("--seed", type=int, default=0, help="of the evaluation's episodes (default 0)")
    e.add_argument(
        "--bar",
        type=float,
        help="also print the share of episodes that return this much or more",
    )
    e.add_argument(
        "--video",
        action="store_true",
        help="film the best, median and worst episode into ./videos",
    )
    e.add_argument("--render", action="store_true", help="show episodes in a window")
    e.add_argument("--json", action="store_true", help="print JSON")
    foreign.add_options(e)
    e.set_defaults(run=evaluate)


def evaluate(args: argparse.Namespace) -> int:
    """A line for each policy and one for all, or one JSON object; with --render, windows instead."""
    from rlexp.policies.files import find_policy
    from rlexp.rollout.score import play

    if args.episodes < 1:
        raise UserError(f"--episodes: must be ≥ 1, not {args.episodes}")
    unfinished = _unfinished(Path(args.policy))
    policies = foreign.load_all(args, find_policy(args.policy, "best" if args.best else "final"))
    if args.render:
        _show(policies, args)
        return 0
    scores = []
    for saved in policies:
        result = play(saved, args.episodes, sampled=args.sampled, seed=args.seed)
        actions = "sampled" if result.sampled else "mean"
        how = "" if saved.env.clip_actions else ", executed as drawn"
        scores.append(_score(saved, result, args.bar))
        if args.video:
            _film(saved, result)
        if not args.json:
            print(_line(scores[-1], f"{actions} actions{how}, n = {args.episodes}"))
            for note in scores[-1].get("notes", []):
                print(f"  {note}")
    if args.json:
        settings = {"actions": actions, "episodes": args.episodes, "seed": args.seed}
        print_json({**settings, **_facts(scores, unfinished)})
    else:
        _print_all(scores, unfinished)
    return 0


def _unfinished(run: Path) -> list[str]:
    """The seeds of a run folder that have not reached its budget, each with its status."""
    if not (run / "run.json").is_file():
        return []
    from rlexp.report.records import read_record

    status = {seed: facts["status"] for seed, facts in read_record(run)["seeds"].items()}
    return [f"seed {seed} ({word})" for seed, word in status.items() if word != "done"]


def _show(policies: list["Saved"], args: argparse.Namespace) -> None:
    from rlexp.report.window import show

    for saved in policies:
        show(saved, args.episodes, sampled=args.sampled, seed=args.seed)


def _score(saved: "Saved", result: "Evaluation", bar: float | None) -> dict[str, Any]:
    """What one policy returned, and in how many of the episodes at least `bar`."""
    score = {
        "policy": str(saved.path),
        "env": saved.env.id,
        "card": saved.card,
        **result.summary(saved.env),
    }
    notes = _notes(saved)
    if notes:
        score["notes"] = notes
    if bar is not None:
        score |= _share_at(bar, result)
    return score


def _notes(saved: "Saved") -> list[str]:
    """What else is to be known of a policy: how a file of others was read, whom a shipped one was chosen among."""
    from rlexp.report.ship import chosen

    among = chosen(saved.path)
    return [*foreign.notes(saved), *([among] if among else [])]


def _share_at(bar: float, result: "Evaluation") -> dict[str, Any]:
    """How many of the episodes return `bar` or more."""
    from rlexp.util import stats

    n = len(result.episodes)
    count = sum(episode.total >= bar for episode in result.episodes)
    low, high = stats.wilson(count, n)
    return {"bar": bar, "share_at_bar": count / n, "wilson95": [low, high]}


def _film(saved: "Saved", result: "Evaluation") -> None:
    from rlexp.report import film
    from rlexp.report.film import VideoConfig

    name = f"{saved.card.get('algo')}_{saved.env.name}_{saved.card.get('seed')}"
    video = VideoConfig(enabled=True, gif=False, seconds=60, size=320)
    try:
        for path in film.films(saved.env.on_gymnasium(), result, Path("videos") / name, video):
            print(path, file=sys.stderr)
    except film.CannotRender as error:
        print(f"warning: no video: {error}", file=sys.stderr)


def _line(score: dict[str, Any], kind: str) -> str:
    """What is printed of one policy; `kind` says how it was played."""
    statistics = ("mean", "std", "min", "median", "max")
    parts = [f"{name} {score[f'return_{name}']:.2f}" for name in statistics]
    if "score" in score:
        parts.append(f"score {score['score']:.1f}")
    if "success_rate" in score:
        parts.append(f"success {score['success_rate']:.1%}")
    if "bar" in score:
        low, high = score["wilson95"]
        share = f"{score['share_at_bar']:.0%} (Wilson {low:.0%} to {high:.0%})"
        parts.append(f"≥ {score['bar']:g} in {share}")
    return f"{score['policy']}: {score['env']}, {kind}: {', '.join(parts)}"


def _facts(scores: list[dict[str, Any]], unfinished: list[str]) -> dict[str, Any]:
    """What --json prints beside the settings."""
    from rlexp.experiment.provenance import versions
    from rlexp.util import stats

    mean, half = stats.t_interval([score["return_mean"] for score in scores])
    return {
        "policies": scores,
        "mean": mean,
        "t95": finite(half),
        "unfinished": unfinished,
        "versions": versions(),
    }


def _print_all(scores: list[dict[str, Any]], unfinished: list[str]) -> None:
    from rlexp.report.words import with_interval
    from rlexp.util import stats

    if len(scores) > 1:
        mean = with_interval(*stats.t_interval([score["return_mean"] for score in scores]))
        print(f"mean of {len(scores)} policies: {mean} (95 % t-interval)")
    if unfinished:
        note = "of these the latest checkpoint was played, if there was one"
        print(f"not finished: {', '.join(unfinished)}; {note}")
