"""Commands about preference learning: `rlexp sigma` and `rlexp pairs`.

sigma: how much of a gain is only a smaller standard deviation? Every policy is scored three times on the same fresh
episodes: sampling with its own σ, by its mean action, and sampling with one σ for all (the first policy's, or --std).
What a policy gains at the common σ, its mean has learned.

pairs: play a policy, pair its trajectories, label the pairs, and save them in one file, from which
`algo=dpo algo.preferences=FILE policy.init=POLICY` learns.
"""

import argparse
import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.cli.commands import foreign, print_json
from rlexp.report.words import count
from rlexp.util.errors import UserError, said_of

if TYPE_CHECKING:
    from rlexp.buffers.trajectories import Trajectories
    from rlexp.policies.actor import ActorPolicy
    from rlexp.policies.files import Saved

# How a policy is scored; matched: by sampling at the common σ.
WAYS = ("sampled", "mean_action", "matched")
EPISODES = 512  # to make pairs of, where it is not said otherwise


def add(commands: Any) -> None:
    """Put the commands on the `rlexp` command line."""
    _add_sigma(commands)
    _add_pairs(commands)


def _add_sigma(commands: Any) -> None:
    s = commands.add_parser(
        "sigma",
        help="score policies sampled, by mean action, and at one standard deviation",
    )
    s.add_argument(
        "policy",
        nargs="+",
        help="run folders, policy files or shipped names; the first is the start",
    )
    s.add_argument(
        "--std",
        type=float,
        help="the common standard deviation (default: the first policy's)",
    )
    s.add_argument("--episodes", type=int, default=100, help="per score (default 100)")
    s.add_argument("--seed", type=int, default=0, help="of the evaluation's episodes (default 0)")
    s.add_argument("--json", action="store_true", help="print JSON")
    foreign.add_options(s)
    s.set_defaults(run=sigma)


def _add_pairs(commands: Any) -> None:
    p = commands.add_parser(
        "pairs",
        help="play a policy and save labelled pairs of its trajectories",
    )
    p.add_argument(
        "policy",
        help="run folder, policy file or shipped name; its sampled actions are played",
    )
    p.add_argument(
        "file",
        type=Path,
        help="where to write, ending in .safetensors; or in .pt: a list of {traj1, traj2, label}",
    )
    p.add_argument("--trajectories", type=int, help=f"episodes to play (default {EPISODES}; two a pair are enough)")
    p.add_argument("--pairs", type=int, help="labelled pairs (default: each trajectory in one)")
    p.add_argument(
        "--pairing",
        choices=("random", "adjacent"),
        default="random",
        help="adjacent: by return",
    )
    p.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="of the Bradley-Terry labels (default 1)",
    )
    p.add_argument(
        "--soft",
        action="store_true",
        help="labels are Bradley-Terry probabilities, not samples",
    )
    p.add_argument(
        "--standardise",
        action="store_true",
        help="labels see returns in standard deviations",
    )
    p.add_argument("--envs", type=int, default=16, help="environments side by side (default 16)")
    p.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of episodes, actions and labels (default 0)",
    )
    p.add_argument("--replace", action="store_true", help="a file that is there")
    foreign.add_options(p)
    p.set_defaults(run=pairs)


def sigma(args: argparse.Namespace) -> int:
    """A table of the policies' scores and gains, or one JSON object."""
    import torch

    from rlexp.policies.files import find_policy

    if args.std is not None and not 0 < args.std < math.inf:
        raise UserError(f"--std: must be > 0, not {args.std}")
    found = foreign.load_all(args, [path for where in args.policy for path in find_policy(where)])
    env = found[0].env.id
    for saved in found:
        if saved.env.id != env:
            raise UserError(f"{saved.path}: is of {saved.env.id}, the first policy of {env}")
    common_A = _std(found[0])
    if args.std is not None:
        common_A = torch.full_like(common_A, args.std)
    rows = [_row(saved, common_A, args) for saved in found]
    for way in WAYS:
        start = rows[0][way]["mean"]
        for row in rows:
            row[way]["gain"] = row[way]["mean"] - start
    if args.json:
        facts = {"env": env, "episodes": args.episodes, "seed": args.seed}
        print_json({**facts, "std": common_A.tolist(), "policies": rows})
    else:
        print(table(rows, common_A.mean().item(), args.episodes))
        for saved in found:
            for note in foreign.notes(saved):
                print(f"{saved.path}: {note}")
    return 0


def _row(saved: "Saved", common_A: Any, args: argparse.Namespace) -> dict[str, Any]:
    """A policy scored in all three ways."""
    from rlexp.rollout.score import evaluate

    row: dict[str, Any] = {"policy": str(saved.path), "std": _std(saved).mean().item()}
    for way in WAYS:
        policy = with_std(saved, common_A) if way == "matched" else saved
        sampled = way != "mean_action"
        score = evaluate(policy, args.episodes, sampled=sampled, seed=args.seed)
        row[way] = {"mean": score["return_mean"], "std": score["return_std"]}
    return row


def table(rows: list[dict[str, Any]], std: float, episodes: int) -> str:
    """Markdown; each score with its gain over the first row, and the share of the sampled gain that σ does not make."""
    heads = [
        "policy",
        "σ",
        "sampled",
        "mean action",
        f"sampled at σ = {std:.3f}",
        "of the sampled gain, the mean's",
    ]
    lines = [
        f"Mean return of {count(episodes, 'episode')} (gain over the first policy)",
        "",
        f"| {' | '.join(heads)} |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        scores = [f"{row[way]['mean']:.1f} ({row[way]['gain']:+.1f})" for way in WAYS]
        gained = row["sampled"]["gain"]
        share = f"{row['matched']['gain'] / gained:.0%}" if gained > 0 else ""
        cells = [short(row["policy"]), f"{row['std']:.3f}", *scores, share]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def short(path: str) -> str:
    """A policy file's name, or for one of a run the run's and the seed's."""
    parts = Path(path).parts
    if "checkpoints" in parts:
        return "/".join(parts[-4:-2])
    return Path(path).stem


def with_std(saved: Any, std_A: Any) -> Any:
    """The same saved policy with another standard deviation."""
    import torch

    policy = copy.copy(_gaussian(saved))
    policy.actor = copy.deepcopy(policy.actor)
    with torch.no_grad():
        policy.actor.log_std.copy_(std_A.log())
    return replace(saved, policy=policy)


def _std(saved: Any) -> Any:
    """The standard deviation of each action dimension (A,)."""
    return _gaussian(saved).actor.log_std.detach().exp()


def _gaussian(saved: Any) -> Any:
    """The policy, if it is a Gaussian actor network. Raises UserError for others."""
    from rlexp.nn.actors import GaussianActor
    from rlexp.policies.actor import ActorPolicy

    policy = saved.policy
    if not (isinstance(policy, ActorPolicy) and isinstance(policy.actor, GaussianActor)):
        raise UserError(f"{saved.path}: has no standard deviation, its policy is no Gaussian one")
    return policy


def pairs(args: argparse.Namespace) -> int:
    """Play, pair, label, and write the file."""
    import numpy as np

    from rlexp.buffers import pair_files, preferences
    from rlexp.policies.files import find_policy
    from rlexp.util import seeding

    if args.trajectories is None:
        args.trajectories = min(EPISODES, 2 * (args.pairs or EPISODES))
    _check_pairs(args)
    saved = foreign.load_all(args, find_policy(args.policy)[:1])[0]
    data = _play(saved, _actor_policy(saved), args)
    rng = np.random.default_rng(seeding.stream(args.seed, "batch"))
    found = preferences.label(
        data,
        args.pairing,
        rng,
        args.temperature,
        args.standardise,
        args.pairs,
        soft=args.soft,
    )
    facts = {"policy": str(args.policy), "env": saved.env.id, "seed": args.seed}
    labelled = replace(found, card={**found.card, **facts})
    pair_files.save_pairs(args.file, labelled)
    what = f"{len(found.first_P)} pairs of {len(data)} trajectories"
    returns = f"return {data.return_E.mean():.1f} ± {data.return_E.std(ddof=1):.1f}"
    print(f"{args.file}: {what}, {returns}")
    for note in foreign.notes(saved):
        print(f"{saved.path}: {note}")
    return 0


def _check_pairs(args: argparse.Namespace) -> None:
    """Raises UserError for numbers out of range, and for a file that cannot be written."""
    fine = {
        "trajectories": args.trajectories >= 2,
        "envs": args.envs >= 1,
        "temperature": 0 < args.temperature < math.inf,
        "pairs": args.pairs is None or args.pairs >= 1,
    }
    for name, is_fine in fine.items():
        if not is_fine:
            raise UserError(f"--{name}: {getattr(args, name)} is out of range")
    file = args.file
    if file.suffix not in (".safetensors", ".pt"):
        raise UserError(f"{file}: the file's name must end in .safetensors or .pt")
    if not file.parent.is_dir():
        raise UserError(f"{file}: there is no folder {file.parent}")
    if file.exists() and not args.replace:
        raise UserError(f"{file}: is there already; --replace it, or take another name")


def _actor_policy(saved: "Saved") -> "ActorPolicy":
    """The policy, if its actions have log-probabilities. Raises UserError for others."""
    from rlexp.nn.actors import require_probabilities
    from rlexp.policies.actor import ActorPolicy

    policy = saved.policy
    if not isinstance(policy, ActorPolicy):
        raise UserError(f"{saved.path}: has no log-probabilities, its policy is no actor network")
    with said_of(str(saved.path)):
        require_probabilities(policy.actor)
    return policy


def _play(saved: "Saved", policy: "ActorPolicy", args: argparse.Namespace) -> "Trajectories":
    """--trajectories whole episodes of sampled actions, --envs at a time."""
    from rlexp.buffers.trajectories import Trajectories
    from rlexp.envs.make import describe
    from rlexp.envs.vector import VecEnv
    from rlexp.rollout.collector import collect
    from rlexp.util import seeding

    spec = describe(saved.env)
    generator = seeding.torch_generator(seeding.stream(args.seed, "explore"))
    rounds = []
    for begun in range(0, args.trajectories, args.envs):
        n = min(args.envs, args.trajectories - begun)
        sequence = seeding.stream(args.seed, "train_env", begun)
        vec = VecEnv(saved.env, seeding.env_seeds(sequence, n))
        rounds.append(collect(vec, spec, policy.actor, generator, policy.normaliser))
        vec.close()
    return Trajectories.join(rounds)
