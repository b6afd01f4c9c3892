"""A command about RLHF: `rlexp novices SEED-FOLDER FILE.npz` writes the episodes that a run compared.

What behaviour cloning would have made of them: `python main.py algo=bc env=... buffer.path=FILE.npz`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlexp.errors import UserError

if TYPE_CHECKING:
    from rlexp.preferences import Trajectories


def add(commands: Any) -> None:
    """Put the command on the `rlexp` command line."""
    n = commands.add_parser("novices", help="write the episodes that an RLHF run learned its reward from")
    n.add_argument("folder", type=Path, help="seed folder of a run with algo=rlhf")
    n.add_argument("file", type=Path, help="where to write, ending in .npz: flat arrays, as D4RL has them")
    n.add_argument("--json", action="store_true", help="print JSON")
    n.set_defaults(run=novices)


def novices(args: argparse.Namespace) -> int:
    from rlexp import ckpt, envs
    from rlexp.preferences import Trajectories

    latest = ckpt.latest(args.folder / "checkpoints")
    parts = ckpt.load(latest, "algo").get("novices") if latest else None
    if not latest or not parts:
        raise UserError(f"{args.folder}: holds no novices' episodes; a seed folder of a run with algo=rlhf does")
    if args.file.suffix != ".npz":
        raise UserError(f"{args.file}: must end in .npz")
    episodes = Trajectories.join([Trajectories(**columns) for columns in parts])
    env = envs.make(envs.EnvConfig(**ckpt.load(latest, "policy")["env"]))
    limit = env.spec.max_episode_steps if env.spec else None
    env.close()
    arrays: dict[str, Any] = flat(episodes, limit)
    np.savez_compressed(args.file, **arrays)
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
