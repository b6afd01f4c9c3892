"""How good a saved policy is: fresh episodes that training never saw. What `rlexp eval` and notebooks are made of."""

from rlexp.policies.files import Saved
from rlexp.rollout import evaluation
from rlexp.rollout.evaluation import Episode, Evaluation
from rlexp.util import seeding
from rlexp.util.errors import UserError

SIDE_BY_SIDE = 500  # episodes; each has a simulator of its own, of some megabytes


def play(saved: Saved, n: int, *, sampled: bool = False, seed: int = 0) -> Evaluation:
    """`n` fresh episodes of a policy in the environment it was trained on, on Gymnasium, from a stream of their own:
    training never saw these episodes. `sampled`: sampled instead of mean (most likely) actions; raises UserError for a
    policy that has none."""
    if n < 1:
        raise UserError(f"episodes must be ≥ 1, not {n}")
    before = saved.policy.explore
    saved.policy.explore = sampled
    episodes: list[Episode] = []
    try:
        if sampled:
            require_spread(saved)
        while (left := n - len(episodes)) > 0:
            index = [len(episodes)] if episodes else []
            sequence = seeding.stream(seed, "final", *index)
            count = min(left, SIDE_BY_SIDE)
            episodes += evaluation.evaluate(saved.policy, saved.env.on_gymnasium(), sequence, count).episodes
        return Evaluation(episodes, saved.policy.samples)
    finally:
        saved.policy.explore = before


def require_spread(saved: Saved) -> None:
    """Raise UserError where a policy that is asked for sampled actions has none."""
    if not saved.policy.samples:
        raise UserError(f"{saved.path}: has no spread to sample from; its actions are the mean ones")


def evaluate(saved: Saved, episodes: int = 100, *, sampled: bool = False, seed: int = 0) -> dict[str, float]:
    """Mean, std (ddof 1), min, median and max return, mean length, and the normalised score where there is one."""
    return play(saved, episodes, sampled=sampled, seed=seed).summary(saved.env)
