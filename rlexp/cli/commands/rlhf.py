"""Commands about RLHF: `rlexp novices` and `rlexp reward`.

novices: what the policies scored whose episodes a run compared. With --export, one seed's compared episodes as a file;
what behaviour cloning makes of them: `python main.py algo=bc env=... buffer.path=FILE.npz`.

reward: does the learned reward see what the true one sees? Predicted against true returns, drawn for every seed; and
how well it orders the pieces that it did not learn from.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.util import strict_json
from rlexp.util.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from rlexp.buffers.preferences import Pairs
    from rlexp.buffers.trajectories import Trajectories


def add(commands: Any) -> None:
    """Put the commands on the `rlexp` command line."""
    _add_novices(commands)
    _add_reward(commands)


def _add_novices(commands: Any) -> None:
    n = commands.add_parser(
        "novices",
        help="score the policies that an RLHF run learned its reward from",
    )
    n.add_argument("folder", type=Path, help="a run with algo=rlhf, or one of its seed folders")
    n.add_argument(
        "--episodes",
        type=int,
        default=100,
        help="per novice, sampled actions (default 100)",
    )
    n.add_argument("--seed", type=int, default=0, help="of the evaluation's episodes (default 0)")
    n.add_argument(
        "--export",
        type=Path,
        metavar="FILE.npz",
        help="instead, write a seed's compared episodes",
    )
    n.add_argument("--json", action="store_true", help="print JSON")
    n.set_defaults(run=novices)


def _add_reward(commands: Any) -> None:
    r = commands.add_parser("reward", help="compare a learned reward with the true one")
    r.add_argument("folder", type=Path, help="a run with algo=rlhf, or one of its seed folders")
    r.add_argument("--out", type=Path, help="picture to write (default FOLDER/reward.png)")
    r.add_argument("--json", action="store_true", help="print JSON")
    r.set_defaults(run=reward)


def novices(args: argparse.Namespace) -> int:
    """A line of scores for each seed, or one JSON object; with --export, a file instead."""
    if args.export:
        return _export(args)
    rows = []
    for seed in seeds_of(args.folder):
        scores = _novice_scores(seed, args)
        best = max(scores)
        rows.append({"seed": seed.name, "scores": scores, "best": best})
        if not args.json:
            each = ", ".join(f"{score:.1f}" for score in scores)
            print(f"{seed.name}: best {best:.1f}; {each}")
    if args.json:
        facts = {"episodes": args.episodes, "actions": "sampled", "novices": rows}
        print(strict_json.dumps(facts))
    return 0


def _novice_scores(seed: Path, args: argparse.Namespace) -> list[float]:
    """The mean return of each policy that played episodes to compare. Raises UserError where one was not kept."""
    from rlexp.policies.files import load_policy
    from rlexp.rollout.score import evaluate

    count = len(_novices(seed))
    files = [seed / "checkpoints" / f"policy_{epoch:012d}.safetensors" for epoch in range(count)]
    for file in files:
        if not file.is_file():
            how = "novices are kept with train.snapshot_every=1"
            raise UserError(f"{file}: no such file; {how}")
    scores = []
    for file in files:
        saved = load_policy(file)
        score = evaluate(saved, args.episodes, sampled=True, seed=args.seed)
        scores.append(score["return_mean"])
    return scores


def reward(args: argparse.Namespace) -> int:
    """A picture with a panel for each seed, and a table of the held-out pieces or one JSON object."""
    from rlexp.report import scatter

    rows = []
    clouds = []
    for seed in seeds_of(args.folder):
        learned, held_out = _predictions(seed)
        points = {"learned from": learned.points, "held out": held_out.points}
        clouds.append(scatter.Cloud(seed.name, points))
        rows.append({"seed": seed.name, **held_out.summary()})
    picture = args.out or args.folder / "reward.png"
    scatter.draw(clouds, picture, "true return", "predicted return")
    if args.json:
        print(strict_json.dumps({"picture": str(picture), "held_out": rows}))
        return 0
    print("| held out | pairs | labels predicted | pieces | Pearson | Spearman |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(_line(row))
    behind = [seed.name for seed in seeds_of(args.folder) if _algo(seed)["fits_left"]]
    if behind:
        which = "the newest checkpoint was saved before the latest comparisons had been learned from"
        print(f"{', '.join(behind)}: {which} (train.save_every)")
    print(picture)
    return 0


class _Predictions:
    """What a learned reward says of compared pieces."""

    def __init__(self, pairs: "Pairs", sum_E: "np.ndarray"):
        self.pairs = pairs
        self.sum_E = sum_E  # predicted rewards, added up over each piece

    @property
    def points(self) -> "tuple[np.ndarray, np.ndarray]":
        """(true return, predicted return), (E,) each."""
        return self.pairs.trajectories.return_E, self.sum_E

    def summary(self) -> dict[str, Any]:
        """How many labels it predicts, and how its returns go with the true ones."""
        from rlexp.report import scatter

        left_P, right_P = self.pairs.index_P2.T
        left_is_better_P = self.sum_E[left_P] > self.sum_E[right_P]
        pearson, spearman = scatter.correlations(*self.points)
        return {
            "pairs": len(self.pairs.first_P),
            "accuracy": float((left_is_better_P == self.pairs.first_P).mean()),
            "pieces": len(self.sum_E),
            "pearson": pearson,
            "spearman": spearman,
        }


def _predictions(seed: Path) -> list[_Predictions]:
    """Of the pairs that a seed learned its reward from, and of those held out. Raises UserError where it has none."""
    from rlexp.buffers.preferences import Pairs
    from rlexp.policies.files import load_policy

    net = getattr(load_policy(seed).policy, "reward", None)
    compared = [Pairs.from_tree(tree) for tree in _algo(seed).get("compared", [])]
    if net is None or not compared:
        who = "a seed with algo.reward=learned that has ended has one"
        raise UserError(f"{seed}: has no learned reward; {who}")
    return [_Predictions(pairs, net.pay_all(pairs.trajectories)) for pairs in compared]


def _line(row: dict[str, Any]) -> str:
    cells = [
        row["seed"],
        str(row["pairs"]),
        f"{row['accuracy']:.1%}",
        str(row["pieces"]),
        f"{row['pearson']:.3f}",
        f"{row['spearman']:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def seeds_of(folder: Path) -> list[Path]:
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
    found = _algo(seed)["novices"]
    if not found:
        reason = "its reward is another run's (algo.reward_from), or it has just begun"
        raise UserError(f"{seed}: had no novices; {reason}")
    return found


def _export(args: argparse.Namespace) -> int:
    """Write the compared episodes of one seed as npz."""
    if args.export.suffix != ".npz":
        raise UserError(f"{args.export}: must end in .npz")
    if not (args.folder / "checkpoints").is_dir():
        example = args.folder / "seed_0"
        raise UserError(f"{args.folder}: --export takes one seed's folder, such as {example}")
    episodes = write_episodes(args.folder, args.export)
    steps = int(episodes.length_E.sum())
    mean = episodes.return_E.mean()
    if args.json:
        print(strict_json.dumps({"episodes": len(episodes), "steps": steps, "return_mean": mean}))
    else:
        print(f"{len(episodes)} episodes, {steps:,} steps, mean return {mean:.1f}")
    return 0


def write_episodes(seed: Path, file: Path) -> "Trajectories":
    """Write the episodes that the seed in the folder `seed` compared as npz; returns them. Raises UserError."""
    import numpy as np

    from rlexp.buffers.trajectories import Trajectories
    from rlexp.policies.files import load_policy

    episodes = Trajectories.join([Trajectories(**columns) for columns in _novices(seed)])
    arrays: dict[str, Any] = flat(episodes, load_policy(seed).env.time_limit)
    np.savez_compressed(file, **arrays)
    return episodes


def flat(episodes: "Trajectories", limit: int | None) -> "dict[str, np.ndarray]":
    """Episodes one after another, as D4RL has them. One of `limit` steps is taken to have ended by its time limit."""
    import numpy as np

    valid_ET = episodes.valid_ET
    length_E = episodes.length_E
    last_N = np.concatenate([np.arange(length) == length - 1 for length in length_E])
    timeout_N = last_N & (np.repeat(length_E, length_E) == limit)
    return {
        "observations": episodes.obs_ETO[valid_ET],
        "actions": episodes.action[valid_ET],
        "rewards": episodes.reward_ET[valid_ET],
        "terminals": last_N & ~timeout_N,
        "timeouts": timeout_N,
    }
