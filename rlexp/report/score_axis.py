"""A second scale beside returns: the normalised score, 0 where a random policy is, 100 where an expert is."""

from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes

Scale = Callable[[Any], Any]


def scales(random_return: float, expert_return: float) -> tuple[Scale, Scale]:
    """Score of a return, and return of a score."""
    span = (expert_return - random_return) / 100

    def score_of(total: Any) -> Any:
        return (total - random_return) / span

    def return_of(score: Any) -> Any:
        return random_return + score * span

    return score_of, return_of


def beside_returns(axes: Axes, env: dict[str, Any]) -> None:
    """The scale on the right of `axes`, whose y are returns; none where the environment's config has no constants."""
    if env.get("random_return") is None or env.get("expert_return") is None:
        return
    right = axes.secondary_yaxis("right", functions=scales(env["random_return"], env["expert_return"]))
    right.set_ylabel("normalised score")
    right.spines["right"].set_visible(False)
