"""Several methods over several environments: three numbers that few seeds can carry (Agarwal et al. 2021).

    IQM                         mean of the middle half of all scores of a method, over seeds and environments
    probability of improvement  that a seed of the method scores more than one of the baseline, mean over environments;
                                ties count half (Mann and Whitney 1947)
    performance profile         share of seeds, over environments, that score at least tau

Intervals are 95 % percentile bootstrap intervals; seeds are drawn anew within each environment. Shapes: S seeds.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

Scores = Mapping[str, np.ndarray]  # score_S of a method, by environment
RESAMPLES = 2000
SEED = 0  # of the bootstrap: the same table every time


class Interval(NamedTuple):
    value: float
    low: float
    high: float


def iqm(scores: Scores) -> Interval:
    """Interquartile mean over seeds and environments."""
    return _interval(list(scores.values()), _iqm)


def improvement(scores: Scores, baseline: Scores) -> Interval:
    """Probability that the method improves on the baseline. Raises ValueError where no environment has both."""
    common = [env for env in scores if env in baseline]
    if not common:
        raise ValueError("no environment in common")
    half = len(common)
    samples = [scores[env] for env in common] + [baseline[env] for env in common]
    return _interval(samples, lambda drawn: _improvement(drawn[:half], drawn[half:]))


def profile(scores: Scores, tau_T: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(share_T, low_T, high_T) of seeds that score at least each tau; environments count alike."""
    samples = list(scores.values())
    rng = np.random.default_rng(SEED)
    drawn = np.array([_profile(_resampled(samples, rng), tau_T) for _ in range(RESAMPLES)])
    low_T, high_T = np.percentile(drawn, (2.5, 97.5), axis=0)
    return _profile(samples, tau_T), low_T, high_T


def normalised(values: Mapping[str, Scores]) -> dict[str, dict[str, np.ndarray]]:
    """Returns as scores, in the environments that all methods have: 0 is the lowest and 1 the highest of any seed."""
    common = set.intersection(*(set(scores) for scores in values.values())) if values else set()
    found: dict[str, dict[str, np.ndarray]] = {method: {} for method in values}
    for env in sorted(common):
        every = np.concatenate([scores[env] for scores in values.values()])
        span = np.ptp(every)
        for method, scores in values.items():
            if span > 0:
                found[method][env] = (scores[env] - every.min()) / span
            else:
                found[method][env] = np.ones(len(scores[env]))
    return found


def _interval(samples: list[np.ndarray], statistic: Callable[[list[np.ndarray]], float]) -> Interval:
    rng = np.random.default_rng(SEED)
    drawn = [statistic(_resampled(samples, rng)) for _ in range(RESAMPLES)]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Interval(statistic(samples), float(low), float(high))


def _resampled(samples: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.choice(values_S, len(values_S)) for values_S in samples]


def _iqm(samples: list[np.ndarray]) -> float:
    from scipy import stats

    return float(stats.trim_mean(np.concatenate(samples), 0.25))


def _improvement(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    shares = []
    for own_S, their_S in zip(ours, theirs, strict=True):
        above = (own_S[:, None] > their_S).mean()
        equal = (own_S[:, None] == their_S).mean()
        shares.append(above + equal / 2)
    return float(np.mean(shares))


def _profile(samples: list[np.ndarray], tau_T: np.ndarray) -> np.ndarray:
    return np.mean([(values_S[:, None] >= tau_T).mean(axis=0) for values_S in samples], axis=0)
