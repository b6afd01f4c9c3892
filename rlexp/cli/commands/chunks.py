"""`rlexp chunks`: a diffusion policy executing 1, 2, 3, … actions of each plan: what it scores, how long it takes.

Of a policy that lies in its run folder the training loss is printed too: over the 1000 updates up to update 10,000,
and up to the last.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from rlexp.loggers.jsonl import read
from rlexp.util.errors import UserError

COLUMNS = ("return_mean", "return_median", "return_max", "length_mean", "seconds", "plans")


def add(commands: Any) -> None:
    """Add `chunks` to the parser's commands."""
    c = commands.add_parser("chunks", help="score a diffusion policy by how many actions of each plan it executes")
    c.add_argument("policy", help="run folder, checkpoint or policy file, or the name of a policy in gallery/policies")
    c.add_argument("--episodes", type=int, default=20, help="for each number of actions (default 20)")
    c.add_argument("--execute", type=int, nargs="+", metavar="N", help="numbers of actions (default: 1 to the horizon)")
    c.add_argument("--one-by-one", action="store_true", help="episodes one after another instead of side by side")
    c.add_argument("--sampler", choices=("ddpm", "ddim"), help="instead of the policy's own")
    c.add_argument("--steps", type=int, help="denoising steps, instead of the policy's own")
    c.add_argument("--best", action="store_true", help="the best policy by evaluation instead of the last one")
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
        raise UserError(f"{saved.path}: is a {saved.policy.kind} policy; only diffusion policies plan several actions")
    horizon = saved.policy.spec()["net"]["horizon"]
    numbers, sampler = args.execute or range(1, horizon + 1), _sampler(args, saved)
    for execute in numbers:
        if not 1 <= execute <= horizon:
            raise UserError(f"--execute {execute}: a plan of {saved.path} has {horizon} actions")
    rows = [_row(saved, {"execute": execute, **sampler}, args) for execute in numbers]
    losses = _losses(saved.path.parent.parent / "metrics.jsonl")
    if args.json:
        facts = {"policy": str(saved.path), "env": saved.env.id, "card": saved.card, "losses": losses}
        print(json.dumps({**facts, "rows": rows}, indent=2))
        return 0
    how = "one by one" if args.one_by_one else "side by side"
    options = {key: rows[0][key] for key in ("sampler", "steps")}
    print(f"{saved.path}: {saved.env.id}, {args.episodes} trajectories {how}, {options['sampler']}, ", end="")
    print(f"{options['steps']} denoising steps; seconds and plans are per trajectory\n")
    print("| actions per plan | mean return | median | max | mean length | seconds | plans |\n|" + " --- |" * 7)
    for row in rows:
        print(f"| {row['execute']} | " + " | ".join(f"{row[column]:.1f}" for column in COLUMNS) + " |")
    if losses:
        print("\nloss: " + ", ".join(f"{loss:.4f} at update {updates:,}" for updates, loss in losses.items()))
    return 0


def _losses(metrics: Path) -> dict[int, float]:
    """By update: the mean loss of the rows in the 1000 updates before it; at 10,000 updates and at the last."""
    rows = [row for row in read(metrics) if "loss/noise" in row] if metrics.is_file() else []
    found = {}
    for end in sorted({10_000, int(rows[-1]["updates"])} if rows else ()):
        near = [row["loss/noise"] for row in rows if end - 1000 < row["updates"] <= end]
        if near:
            found[end] = sum(near) / len(near)
    return found


def _sampler(args: argparse.Namespace, saved: Any) -> dict[str, Any]:
    spec = saved.policy.spec()
    steps, levels = spec["steps"] if args.steps is None else args.steps, spec["net"]["levels"]
    if not 1 <= steps <= levels:
        raise UserError(f"--steps {steps}: {saved.path} has {levels} noise levels")
    return {"sampler": args.sampler or spec["sampler"], "steps": steps}


def _row(saved: Any, options: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """The policy with these options, played; the same episodes for every row."""
    import torch

    from rlexp.rollout.evaluation import Evaluation, evaluate
    from rlexp.util import seeding

    torch.set_num_threads(1)
    policy = type(saved.policy).from_spec({**saved.policy.spec(), **options}, saved.policy.state_dict())
    env, found = saved.env.on_gymnasium(), []
    sequences = [seeding.stream(args.seed, "final")]
    if args.one_by_one:
        sequences = [seeding.stream(args.seed, "final", i) for i in range(args.episodes)]
    start = time.perf_counter()
    for sequence in sequences:
        found += evaluate(policy, env, sequence, args.episodes // len(sequences)).episodes
    seconds = (time.perf_counter() - start) / len(found)
    scores = Evaluation(found, True).summary(saved.env)
    plans = sum(-(-len(episode.reward_T) // options["execute"]) for episode in found) / len(found)
    return {**options, "seconds": seconds, "plans": plans, "threads": 1, **scores}
