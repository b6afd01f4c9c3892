"""Fresh episodes of each seed's last policy: what an entry's card says it is worth, beside the curve's own evaluations.

Training never saw these episodes (`rlexp.rollout.score`), and `rlexp eval RUN` plays the same ones.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlexp.policies.files import load_policy
from rlexp.rollout.score import evaluate
from rlexp.util import stats
from rlexp.util.errors import UserError

EPISODES = 100  # a seed


def play_seeds(
    run: Path,
    seeds: Sequence[str],
    episodes: int = EPISODES,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """What `episodes` of each seed's last policy return, with mean actions and, where there are any, sampled ones.

    Returns {"episodes": n, "mean": {"seeds": {seed: scores}, "over_seeds": {score: {"mean", "t95"}}}, "sampled": ...};
    t95 is half of the 95 % t-interval over seeds, None for one seed. `say` gets a line a seed and kind of actions.
    Raises UserError for a seed without a policy.
    """
    by_kind: dict[str, dict[str, dict[str, float]]] = {}
    for seed in seeds:
        file = run / f"seed_{seed}" / "checkpoints" / "final.safetensors"
        if not file.is_file():
            raise UserError(f"{file}: is not there, so it cannot be played; --episodes 0 publishes the curve alone")
        for kind, one in scores(file, episodes).items():
            by_kind.setdefault(kind, {})[seed] = one
            say(f"seed {seed}, {episodes} episodes, {kind} actions: {one['return_mean']:.1f}")
    found: dict[str, Any] = {"episodes": episodes}
    for kind, of_seeds in by_kind.items():
        found[kind] = {"seeds": of_seeds, "over_seeds": stats.over_seeds(list(of_seeds.values()))}
    return found


def scores(policy: Path, episodes: int) -> dict[str, dict[str, float]]:
    """What a policy returns with `mean` and with `sampled` actions, as far as it has both."""
    saved = load_policy(policy)
    found = {}
    for kind, explore in (("mean", False), ("sampled", True)):
        saved.policy.explore = explore
        if saved.policy.samples == explore:
            found[kind] = evaluate(saved, episodes, sampled=explore)
    return found
