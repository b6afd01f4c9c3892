"""Commands about preference learning: `rlexp sigma` and `rlexp pairs`.

sigma: how much of a gain is only a smaller standard deviation? Every policy is scored three times on the same fresh
episodes: sampling with its own σ, by its mean action, and sampling with one σ for all (the first policy's, or --std).
What a policy gains at the common σ, its mean has learned.

pairs: play a policy, pair its trajectories, label the pairs, and save them in one file, from which
`algo=dpo algo.preferences=FILE policy.init=POLICY` learns.
"""

import argparse
import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlexp.util.errors import UserError, said_of


def add(commands: Any) -> None:
    """Put the commands on the `rlexp` command line."""
    s = commands.add_parser("sigma", help="score policies sampled, by mean action, and at one standard deviation")
    s.add_argument("policy", nargs="+", help="run folders, policy files or shipped names; the first is the start")
    s.add_argument("--std", type=float, help="the common standard deviation (default: the first policy's)")
    s.add_argument("--episodes", type=int, default=100, help="per score (default 100)")
    s.add_argument("--seed", type=int, default=0, help="of the evaluation's episodes (default 0)")
    s.add_argument("--json", action="store_true", help="print JSON")
    s.set_defaults(run=sigma)

    p = commands.add_parser("pairs", help="play a policy and save labelled pairs of its trajectories")
    p.add_argument("policy", help="run folder, policy file or shipped name; its sampled actions are played")
    p.add_argument("file", type=Path, help="where to write, ending in .safetensors")
    p.add_argument("--trajectories", type=int, default=512, help="episodes to play (default 512)")
    p.add_argument("--pairs", type=int, help="labelled pairs (default: each trajectory in one)")
    p.add_argument("--pairing", choices=("random", "adjacent"), default="random", help="adjacent: by return")
    p.add_argument("--temperature", type=float, default=1.0, help="of the Bradley-Terry labels (default 1)")
    p.add_argument("--standardise", action="store_true", help="labels see returns in standard deviations")
    p.add_argument("--envs", type=int, default=16, help="environments side by side (default 16)")
    p.add_argument("--seed", type=int, default=0, help="of episodes, actions and labels (default 0)")
    p.add_argument("--replace", action="store_true", help="a file that is there")
    p.set_defaults(run=pairs)


def sigma(args: argparse.Namespace) -> int:
    import torch

    from rlexp.policies.files import find_policy, load_policy
    from rlexp.rollout.score import evaluate

    if args.std is not None and not 0 < args.std < math.inf:
        raise UserError(f"--std: must be > 0, not {args.std}")
    found = [load_policy(path) for where in args.policy for path in find_policy(where)]
    for saved in found:
        if saved.env.id != found[0].env.id:
            raise UserError(f"{saved.path}: is of {saved.env.id}, the first policy of {found[0].env.id}")
    first = _std(found[0])
    common = first if args.std is None else torch.full_like(first, args.std)
    rows: list[dict[str, Any]] = []
    for saved in found:
        row: dict[str, Any] = {"policy": str(saved.path), "std": _std(saved).mean().item()}
        tries = (("sampled", saved, True), ("mean_action", saved, False), ("matched", with_std(saved, common), True))
        for name, policy, sampled in tries:
            score = evaluate(policy, args.episodes, sampled=sampled, seed=args.seed)
            row[name] = {"mean": score["return_mean"], "std": score["return_std"]}
        for name, _, _ in tries:
            row[name]["gain"] = row[name]["mean"] - (rows[0] if rows else row)[name]["mean"]
        rows.append(row)
    if args.json:
        facts = {"env": found[0].env.id, "episodes": args.episodes, "seed": args.seed, "std": common.tolist()}
        print(json.dumps({**facts, "policies": rows}, indent=2))
    else:
        print(table(rows, common.mean().item(), args.episodes))
    return 0


def table(rows: list[dict[str, Any]], std: float, episodes: int) -> str:
    """Markdown; each score with its gain over the first row, and the share of the sampled gain that σ does not make."""
    lines = [
        f"Mean return of {episodes} episodes (gain over the first policy)",
        "",
        f"| policy | σ | sampled | mean action | sampled at σ = {std:.3f} | of the sampled gain, the mean's |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        scores = [f"{row[n]['mean']:.1f} ({row[n]['gain']:+.1f})" for n in ("sampled", "mean_action", "matched")]
        gained = row["sampled"]["gain"]
        share = f"{row['matched']['gain'] / gained:.0%}" if gained > 0 else ""
        lines.append(f"| {short(row['policy'])} | {row['std']:.3f} | {' | '.join(scores)} | {share} |")
    return "\n".join(lines)


def short(path: str) -> str:
    """A policy file's name, or for one of a run the run's and the seed's."""
    parts = Path(path).parts
    return "/".join(parts[-4:-2]) if "checkpoints" in parts else Path(path).stem


def with_std(saved: Any, std_A: Any) -> Any:
    """The same saved policy with another standard deviation."""
    import torch

    policy = copy.copy(_gaussian(saved))
    policy.actor = copy.deepcopy(policy.actor)
    with torch.no_grad():
        policy.actor.log_std.copy_(std_A.log())
    return replace(saved, policy=policy)


def _std(saved: Any) -> Any:
    return _gaussian(saved).actor.log_std.detach().exp()


def _gaussian(saved: Any) -> Any:
    from rlexp.nn.actors import GaussianActor
    from rlexp.policies.actor import ActorPolicy

    policy = saved.policy
    if not (isinstance(policy, ActorPolicy) and isinstance(policy.actor, GaussianActor)):
        raise UserError(f"{saved.path}: has no standard deviation, its policy is no Gaussian one")
    return policy


def pairs(args: argparse.Namespace) -> int:
    import numpy as np

    from rlexp.buffers import preferences
    from rlexp.buffers.trajectories import Trajectories
    from rlexp.envs.make import describe
    from rlexp.envs.vector import VecEnv
    from rlexp.nn.actors import require_probabilities
    from rlexp.policies.actor import ActorPolicy
    from rlexp.policies.files import load_policy
    from rlexp.rollout.collector import collect
    from rlexp.util import seeding

    bounds = {
        "trajectories": args.trajectories >= 2,
        "envs": args.envs >= 1,
        "temperature": 0 < args.temperature < math.inf,
        "pairs": args.pairs is None or args.pairs >= 1,
    }
    for name, fine in bounds.items():
        if not fine:
            raise UserError(f"--{name}: {getattr(args, name)} is out of range")
    if args.file.suffix != ".safetensors":
        raise UserError(f"{args.file}: the file's name must end in .safetensors")
    if not args.file.parent.is_dir():
        raise UserError(f"{args.file}: there is no folder {args.file.parent}")
    if args.file.exists() and not args.replace:
        raise UserError(f"{args.file}: is there already; --replace it, or take another name")
    saved = load_policy(args.policy)
    policy = saved.policy
    if not isinstance(policy, ActorPolicy):
        raise UserError(f"{saved.path}: has no log-probabilities, its policy is no actor network")
    with said_of(str(saved.path)):
        require_probabilities(policy.actor)
    spec = describe(saved.env)
    generator = seeding.torch_generator(seeding.stream(args.seed, "explore"))
    rounds = []
    for begun in range(0, args.trajectories, args.envs):
        n = min(args.envs, args.trajectories - begun)
        vec = VecEnv(saved.env, seeding.env_seeds(seeding.stream(args.seed, "train_env", begun), n))
        rounds.append(collect(vec, spec, policy.actor, generator, policy.normaliser))
        vec.close()
    data = Trajectories.join(rounds)
    rng = np.random.default_rng(seeding.stream(args.seed, "batch"))
    found = preferences.label(data, args.pairing, rng, args.temperature, args.standardise, args.pairs)
    facts = {"policy": str(args.policy), "env": saved.env.id, "seed": args.seed}
    preferences.save_pairs(args.file, preferences.Pairs(data, found.index_P2, found.first_P, {**found.card, **facts}))
    print(
        f"{args.file}: {len(found.first_P)} pairs of {len(data)} trajectories, "
        f"return {data.return_E.mean():.1f} ± {data.return_E.std(ddof=1):.1f}"
    )
    return 0
