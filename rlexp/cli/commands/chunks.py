"""`rlexp chunks`: a diffusion policy executing 1, 2, 3, … actions of each plan: what it scores, how long it takes.

Of a policy that lies in its run folder the training loss is printed too, after 10,000 updates and at the end, as
summary.md gives it; and chunks.png is drawn there, which `rlexp report` shows.
"""

import argparse
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.cli.commands import print_json
from rlexp.loggers.jsonl import read
from rlexp.util.errors import UserError

if TYPE_CHECKING:
    from rlexp.policies.files import Saved

LOSS = "loss/noise"
HEADS = {
    "return_mean": "mean return",
    "return_median": "median",
    "return_max": "max",
    "length_mean": "mean length",
    "seconds": "seconds",
    "plans": "plans",
}


def add(commands: Any) -> None:
    """Add `chunks` to the parser's commands."""
    c = commands.add_parser(
        "chunks",
        help="score a diffusion policy by how many actions of each plan it executes",
    )
    c.add_argument(
        "policy",
        help="run folder, checkpoint or policy file, or the name of a policy in gallery/policies",
    )
    c.add_argument(
        "--episodes",
        type=int,
        default=20,
        help="for each number of actions (default 20)",
    )
    c.add_argument(
        "--execute",
        type=int,
        nargs="+",
        metavar="N",
        help="numbers of actions (default: 1 to the horizon)",
    )
    c.add_argument(
        "--one-by-one",
        action="store_true",
        help="episodes one after another instead of side by side",
    )
    c.add_argument("--sampler", choices=("ddpm", "ddim"), help="instead of the policy's own")
    c.add_argument("--steps", type=int, help="denoising steps, instead of the policy's own")
    c.add_argument(
        "--best",
        action="store_true",
        help="the best policy by evaluation instead of the last one",
    )
    c.add_argument("--seed", type=int, default=0, help="of the episodes (default 0)")
    c.add_argument("--json", action="store_true", help="print JSON")
    c.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """One row for each number of actions: return of `--episodes` trajectories, seconds and plans per trajectory."""
    from rlexp.policies.files import load_policy

    if args.episodes < 1:
        raise UserError(f"--episodes: must be ≥ 1, not {args.episodes}")
    saved = load_policy(args.policy, "best" if args.best else "final")
    if saved.policy.kind != "diffusion":
        what = f"holds a policy of kind '{saved.policy.kind}'; only diffusion policies plan several actions"
        raise UserError(f"{saved.path}: {what}")
    sampler = _sampler(args, saved)
    numbers = _numbers(args, saved)
    losses = _losses(saved.path.parent.parent / "metrics.jsonl")
    if not args.json:
        _print_head(saved, sampler, args)
    rows = []
    for execute in numbers:
        rows.append(_row(saved, {"execute": execute, **sampler}, args))
        if not args.json:
            print(_line(rows[-1]), flush=True)
    if args.json:
        facts = {"policy": str(saved.path), "env": saved.env.id, "card": saved.card}
        print_json({**facts, "losses": losses, "rows": rows})
    else:
        _print_losses(losses)
    run_folder = saved.path.parent.parent.parent  # of RUN/seed_0/checkpoints/final.safetensors
    if (run_folder / "run.json").is_file():
        from rlexp.report import executed

        executed.draw(rows, args.episodes, run_folder / "chunks.png")
    return 0


def _numbers(args: argparse.Namespace, saved: "Saved") -> Iterable[int]:
    """How many actions of each plan to execute, one number after another. Raises UserError."""
    horizon = saved.policy.spec()["net"]["horizon"]
    numbers = args.execute or range(1, horizon + 1)
    for execute in numbers:
        if not 1 <= execute <= horizon:
            raise UserError(f"--execute {execute}: a plan of {saved.path} has {horizon} actions")
    return numbers


def _sampler(args: argparse.Namespace, saved: "Saved") -> dict[str, Any]:
    """The policy's own sampler and number of denoising steps, unless others are asked for. Raises UserError."""
    spec = saved.policy.spec()
    steps = spec["steps"] if args.steps is None else args.steps
    levels = spec["net"]["levels"]
    if not 1 <= steps <= levels:
        raise UserError(f"--steps {steps}: {saved.path} has {levels} noise levels")
    return {"sampler": args.sampler or spec["sampler"], "steps": steps}


def _row(saved: "Saved", options: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """The policy with these options, played; the same episodes for every row."""
    import torch

    from rlexp.rollout.evaluation import Evaluation, evaluate
    from rlexp.util import seeding

    torch.set_num_threads(1)
    spec = {**saved.policy.spec(), **options}
    policy = type(saved.policy).from_spec(spec, saved.policy.state_dict())
    env = saved.env.on_gymnasium()
    sequences = [seeding.stream(args.seed, "final")]
    if args.one_by_one:
        sequences = [seeding.stream(args.seed, "final", i) for i in range(args.episodes)]
    found = []
    start = time.perf_counter()
    for sequence in sequences:
        found += evaluate(policy, env, sequence, args.episodes // len(sequences)).episodes
    seconds = (time.perf_counter() - start) / len(found)
    plans = sum(math.ceil(len(one.reward_T) / options["execute"]) for one in found) / len(found)
    scores = Evaluation(found, True).summary(saved.env)
    return {**options, "seconds": seconds, "plans": plans, "threads": 1, **scores}


def _losses(metrics: Path) -> dict[int, float]:
    """The loss after 10,000 updates and after the last, by the number of updates."""
    from rlexp.experiment import tables

    if not metrics.is_file():
        return {}
    rows = [row for row in read(metrics) if LOSS in row]
    if not rows:
        return {}
    last = int(rows[-1]["step"])
    ends = sorted({min(10_000, last), last})
    return {end: tables.loss_at(rows, LOSS, end) for end in ends}


def _print_head(saved: "Saved", sampler: dict[str, Any], args: argparse.Namespace) -> None:
    """What is played, and the table's head: its rows follow one after another, each when it has been played."""
    trajectories = "1 trajectory" if args.episodes == 1 else f"{args.episodes} trajectories"
    facts = [
        saved.env.id,
        f"{trajectories} {'one by one' if args.one_by_one else 'side by side'}",
        sampler["sampler"],
        f"{sampler['steps']} denoising steps",
    ]
    print(f"{saved.path}: {', '.join(facts)}; seconds and plans are per trajectory\n")
    print("| actions per plan | " + " | ".join(HEADS.values()) + " |")
    print("|" + " --- |" * (1 + len(HEADS)), flush=True)


def _line(row: dict[str, Any]) -> str:
    cells = [f"{row[name]:.1f}" for name in HEADS]
    return f"| {row['execute']} | " + " | ".join(cells) + " |"


def _print_losses(losses: dict[int, float]) -> None:
    if losses:
        parts = [f"{loss:.4g} after {updates:,} updates" for updates, loss in losses.items()]
        print("\nnoise loss (mean of the last 5 % of the steps): " + ", ".join(parts))
