"""Trials of a tuning on growing budgets: the better third of those that have been trained on one goes on to the next.

Asynchronous successive halving (Li et al. 2020, https://arxiv.org/abs/1810.05934), in the form that stops: whether a
trial goes on is decided when it comes to a budget's end, among those that were there before. It then goes on from its
checkpoints, and nothing is computed twice.
"""

from collections.abc import Mapping, Sequence

from rlexp.experiment.config import RunConfig, build
from rlexp.util.errors import UserError

FACTOR = 3  # between two budgets, and of so many trials one goes on


def budgets(run: RunConfig, rungs: int) -> list[int]:
    """`rungs` growing budgets, of which the run's own is the last; the others end with a scheduled save. Raises
    UserError where saves are too far apart for so many."""
    every = run.train.save_every
    shares = [run.train.budget / FACTOR**left for left in range(rungs - 1, 0, -1)]
    found = [max(1, round(share / every)) * every for share in shares] + [run.train.budget]
    if found != sorted(set(found)):
        raise UserError(
            f"--rungs: {rungs} budgets up to {run.train.budget:,} need saves closer to one another; "
            f"train.save_every is {every:,}"
        )
    return found


def at_budget(run: RunConfig, budget: int) -> RunConfig:
    """`run` as far as `budget`: schedules that end at its own budget still do. Raises UserError."""
    return build({**run.plain, "train": {**run.plain["train"], "budget": budget}})


def of_rung(scores: Mapping[int, float], rung: int, seeds: int) -> list[float]:
    """Of a trial's scores, by rung * seeds + place of the seed, those of a rung."""
    return [score for step, score in sorted(scores.items()) if step // seeds == rung]


def goes_on(mine: float, means: Sequence[float]) -> bool:
    """Whether a trial with this mean is among the best third of `means`, its own and those of trials before; of fewer
    than three the best goes on."""
    better = sum(one > mine for one in means)
    return better < max(1, len(means) // FACTOR)
