"""Commands about RLHF: `rlexp novices` and `rlexp reward`.

novices: what the policies scored whose episodes a run compared. With --export, one seed's compared episodes as a file;
what behaviour cloning makes of them: `python main.py algo=bc env=... buffer.path=FILE.npz`.

reward: does the learned reward see what the true one sees? Predicted against true returns, drawn for every seed; and
how well it orders the pieces that it did not learn from.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlexp.util.errors import UserError

if TYPE_CHECKING:
    from rlexp.buffers.trajectories import Trajectories


def add(commands: Any) -> None:
    """Put the commands on the `rlexp` command line."""
    n = commands.add_parser("novices", help="score the policies that an RLHF run learned its reward from")
    n.add_argument("folder", type=Path, help="a run with algo=rlhf, or one of its seed folders")
    n.add_argument("--episodes", type=int, default=100, help="per novice, sampled actions (default 100)")
    n.add_argument("--seed", type=int, default=0, help="of the evaluation's episodes (default 0)")
    n.add_argument("--export", type=Path, metavar="FILE.npz", help="instead, write a seed's compared episodes")
    n.set_defaults(run=novices)

    r = commands.add_parser("reward", help="compare a learned reward with the true one")
    r.add_argument("folder", type=Path, help="a run with algo=rlhf, or one of its seed folders")
    r.add_argument("--out", type=Path, help="picture to write (default FOLDER/reward.png)")
    r.set_defaults(run=reward)

    for command in (n, r):
        command.add_argument("--json", action="store_true", help="print JSON")


def novices(args: argparse.Namespace) -> int:
    from rlexp.policies.files import load_policy
    from rlexp.rollout.score import evaluate

    if args.export:
        return _export(args)
    rows = []
    for seed in _seeds(args.folder):
        count = len(_novices(seed))
        files = [seed / "checkpoints" / f"policy_{epoch:012d}.safetensors" for epoch in range(count)]  # who played them
        if missing := [file for file in files if not file.is_file()]:
            raise UserError(f"{missing[0]}: no such file; novices are kept with train.snapshot_every=1")
        scores = [
            evaluate(load_policy(file), args.episodes, sampled=True, seed=args.seed)["return_mean"] for file in files
        ]
        rows.append({"seed": seed.name, "scores": scores, "best": max(scores)})
        if not args.json:
            print(f"{seed.name}: best {max(scores):.1f}; " + ", ".join(f"{score:.1f}" for score in scores))
    if args.json:
        print(json.dumps({"episodes": args.episodes, "actions": "sampled", "novices": rows}))
    return 0


def reward(args: argparse.Namespace) -> int:
    from rlexp.buffers.preferences import Pairs
    from rlexp.policies.files import load_policy
    from rlexp.report import scatter

    rows: list[dict[str, Any]] = []
    clouds = []
    for seed in _seeds(args.folder):
        net = getattr(load_policy(seed).policy, "reward", None)
        compared = [Pairs.from_tree(tree) for tree in _algo(seed).get("compared", [])]
        if net is None or not compared:
            raise UserError(f"{seed}: has no learned reward; a seed with algo.reward=learned that has ended has one")
        returns = [pairs.trajectories.return_E for pairs in compared]
        sums = [net.pay_all(pairs.trajectories) for pairs in compared]
        pairs, sum_E = compared[1], sums[1]
        left_P, right_P = pairs.index_P2.T
        pearson, spearman = scatter.correlations(returns[1], sum_E)
        rows.append(
            {
                "seed": seed.name,
                "pairs": len(pairs.first_P),
                "accuracy": float(np.mean((sum_E[left_P] > sum_E[right_P]) == pairs.first_P)),
                "pieces": len(sum_E),
                "pearson": pearson,
                "spearman": spearman,
            }
        )
        both = zip(("learned from", "held out"), zip(returns, sums, strict=True), strict=True)
        clouds.append(scatter.Cloud(seed.name, dict(both)))
    behind = [seed.name for seed in _seeds(args.folder) if _algo(seed)["fits_left"]]
    picture = scatter.draw(clouds, args.out or args.folder / "reward.png", "true return", "predicted return")
    if args.json:
        print(json.dumps({"picture": str(picture), "held_out": rows}))
        return 0
    print("| held out | pairs | labels predicted | pieces | Pearson | Spearman |\n|---|---|---|---|---|---|")
    for row in rows:
        print("| {seed} | {pairs} | {accuracy:.1%} | {pieces} | {pearson:.3f} | {spearman:.3f} |".format(**row))
    if behind:
        print(f"{', '.join(behind)}: ended before the latest comparisons had been learned from")
    print(picture)
    return 0


def _seeds(folder: Path) -> list[Path]:
    """A run's seed folders, or the one that `folder` is."""
    from rlexp.policies.files import find_policy

    return [file.parent.parent for file in find_policy(str(folder))]


def _algo(seed: Path) -> dict[str, Any]:
    """The latest checkpoint of an RLHF seed. Raises UserError where it is none."""
    from rlexp.util import checkpoint

    latest = checkpoint.latest(seed / "checkpoints")
    algo = checkpoint.load(latest, "algo") if latest else {}
    if "novices" not in algo:
        raise UserError(f"{seed}: is of no run with algo=rlhf")
    return algo


def _novices(seed: Path) -> list[dict[str, Any]]:
    """The kept episodes of each novice. Raises UserError where there was none."""
    if not (found := _algo(seed)["novices"]):
        raise UserError(f"{seed}: had no novices; its reward is another run's (algo.reward_from), or it has just begun")
    return found


def _export(args: argparse.Namespace) -> int:
    from rlexp.buffers.trajectories import Trajectories
    from rlexp.policies.files import load_policy

    if args.export.suffix != ".npz":
        raise UserError(f"{args.export}: must end in .npz")
    if not (args.folder / "checkpoints").is_dir():
        raise UserError(f"{args.folder}: --export takes one seed's folder, such as {args.folder / 'seed_0'}")
    parts = _novices(args.folder)
    episodes = Trajectories.join([Trajectories(**columns) for columns in parts])
    arrays: dict[str, Any] = flat(episodes, load_policy(args.folder).env.time_limit)
    np.savez_compressed(args.export, **arrays)
    facts = {"episodes": len(episodes), "steps": int(episodes.length_E.sum()), "return_mean": episodes.return_E.mean()}
    text = "{episodes} episodes, {steps:,} steps, mean return {return_mean:.1f}".format(**facts)
    print(json.dumps(facts) if args.json else text)
    return 0


def flat(episodes: Trajectories, limit: int | None) -> dict[str, np.ndarray]:
    """Episodes one after another, as D4RL has them. One of `limit` steps is taken to have ended by its time limit."""
    taken_ET = episodes.valid_ET
    last_N = np.concatenate([np.arange(n) == n - 1 for n in episodes.length_E])
    timeout_N = last_N & (np.repeat(episodes.length_E, episodes.length_E) == limit)
    return {
        "observations": episodes.obs_ETO[taken_ET],
        "actions": episodes.action[taken_ET],
        "rewards": episodes.reward_ET[taken_ET],
        "terminals": last_N & ~timeout_N,
        "timeouts": timeout_N,
    }
