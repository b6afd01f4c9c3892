"""Whether the seeds of a run are like those of its reference: the rule, in numbers only.

Each seed's evaluations y_0, y_1, ... at the reference's steps are summed up twice:

    F     mean of the evaluations in the last tenth, at least two: where it ends
    A     mean of all evaluations after the first: how fast it gets there

Of each, with n seeds of the run and m of the reference,

    span  = |mean F of the reference - mean y_0 of the reference|
    d     = mean over the run's seeds - mean over the reference's
    s     = max(standard deviation over seeds, pooled; 1 % of span), with n + m - 2 degrees of freedom
    w     = sqrt(1/n + 1/m)

1. differs (better or worse; of one seed only: unusual), where |d| > 2 % of span in F or A, and there either
   |d| > t(0.9975) s w, or every seed of the run lies beyond every seed of the reference by 2 % of span, and
   4 / C(n + m, n) <= 5 %: so seldom chance orders the seeds so, in either direction, in F or A.
2. matches, within 10 % of span, where |d| + t(0.95) s w <= 10 % of span in F and A: two one-sided tests
   (Schuirmann 1987).
3. cannot tell: else.

t(p) is the p-quantile of Student's t. How often the rule errs is simulated by benchmarks/verdict.py and stands in
gallery/verdict.md. Shapes: S seeds, N evaluations.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from rlexp.report.lines import Line
from rlexp.util import stats

SMALL = 0.02  # of span: no difference that anybody need look at
TOLERANCE = 0.10  # of span: up to here a run matches
FLOOR = 0.01  # of span: seeds that agree better than this agree by chance
TAIL = 0.1  # of the evaluations, which F is the mean of
CHANCE = 0.05  # of an order of seeds that counts as a difference
DIFFERS_AT = 0.9975
MATCHES_AT = 0.95
MOST_SEEDS = 100  # that anybody would train to be told


@dataclass(frozen=True)
class Measure:
    """What F or A says."""

    name: str  # end or mean
    difference: float  # run - reference
    half_width: float | None  # of the difference's 90 % interval; None where two single seeds give none
    span: float
    s: float
    separated: bool  # every seed of the run lies beyond every seed of the reference, and that is no chance

    def differs(self, n: int, m: int) -> bool:
        """Whether n seeds of a run and m of a reference that measure this are of different curves."""
        size = abs(self.difference)
        if size <= SMALL * self.span:
            return False
        if n + m < 3:
            return False
        return self.separated or size > _quantile(DIFFERS_AT, n + m - 2) * self.s * width(n, m)

    def matches(self, n: int, m: int) -> bool:
        """Whether n seeds of a run and m of a reference that measure this are of one curve, within the tolerance."""
        if n + m < 3:
            return False
        half = _quantile(MATCHES_AT, n + m - 2) * self.s * width(n, m)
        return abs(self.difference) + half <= TOLERANCE * self.span


@dataclass(frozen=True)
class Verdict:
    """What the rule says of n seeds beside m of a reference."""

    word: str  # better, worse, unusual, matches, cannot_tell
    n: int
    m: int
    measures: tuple[Measure, Measure]  # F, A
    decided_by: Measure  # the one that differs, or else the one that is further from matching

    @property
    def direction(self) -> str:
        """better or worse, of a run that differs or is unusual."""
        return "better" if self.decided_by.difference > 0 else "worse"


def decide(run_SN: np.ndarray, reference_SN: np.ndarray) -> Verdict:
    """The rule of this file. Rows: seeds; columns: at least two evaluations, of both at the same steps."""
    n = len(run_SN)
    m = len(reference_SN)
    end_S, mean_S = _sums(run_SN)
    their_end_S, their_mean_S = _sums(reference_SN)
    span = abs(float(their_end_S.mean() - reference_SN[:, 0].mean()))
    end = _measure("end", end_S, their_end_S, span)
    mean = _measure("mean", mean_S, their_mean_S, span)
    measures = (end, mean)
    differing = [one for one in measures if one.differs(n, m)]
    if differing:
        decided_by = differing[0]
        word = "better" if decided_by.difference > 0 else "worse"
        if n == 1:
            word = "unusual"
        return Verdict(word, n, m, measures, decided_by)
    decided_by = max(measures, key=_distance)
    matching = all(one.matches(n, m) for one in measures)
    word = "matches" if matching else "cannot_tell"
    return Verdict(word, n, m, measures, decided_by)


def seeds_that_would_tell(found: Verdict) -> tuple[int, int] | None:
    """The fewest seeds (of the run, of the reference) at which what was found, seen again, would be a verdict.

    More seeds of the run where that is enough, else as many of both; None beyond MOST_SEEDS, or where nothing is known
    of the spread over seeds.
    """
    if found.n + found.m < 3:
        return None
    for n in range(max(found.n, 2), MOST_SEEDS + 1):
        if _would_tell(found, n, found.m):
            return n, found.m
    for n in range(max(found.n, found.m, 2), MOST_SEEDS + 1):
        if _would_tell(found, n, n):
            return n, n
    return None


def _would_tell(found: Verdict, n: int, m: int) -> bool:
    is_different = any(one.differs(n, m) for one in found.measures)
    return is_different or all(one.matches(n, m) for one in found.measures)


def width(n: int, m: int) -> float:
    """Standard error of a difference of two means, of n and m values with standard deviation 1."""
    return math.sqrt(1 / n + 1 / m)


def align(run: Mapping[str, Line], reference: Mapping[str, Line]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(steps_N, run_SN, reference_SN): both at the steps of the reference's first seed, as far as all seeds are.

    Of a line with other steps the values since the step before are averaged; where there are none, neighbours are
    interpolated. N is 0 where the lines have no step in common.
    """
    every = [*run.values(), *reference.values()]
    start = max(x[0] for x, _ in every)
    end = min(x[-1] for x, _ in every)
    steps = next(iter(reference.values()))[0]
    steps_N = steps[(steps >= start) & (steps <= end)]
    if len(steps_N) == 0:
        return steps_N, np.empty((len(run), 0)), np.empty((len(reference), 0))
    run_SN = np.array([_at(line, steps_N) for line in run.values()])
    reference_SN = np.array([_at(line, steps_N) for line in reference.values()])
    return steps_N, run_SN, reference_SN


def equal_rows(run: Mapping[str, Line], reference: Mapping[str, Line]) -> tuple[int, int, int]:
    """Of the evaluations at the same step of the same seed: how many are equal, how many there are, and how many seeds
    are equal in their first two at least."""
    equal = 0
    shared = 0
    same_start = 0
    for seed in run.keys() & reference.keys():
        x, y = run[seed]
        their_x, their_y = reference[seed]
        _, own, theirs = np.intersect1d(x, their_x, return_indices=True)
        same_N = y[own] == their_y[theirs]
        equal += int(same_N.sum())
        shared += len(same_N)
        same_start += int(len(same_N) > 2 and bool(same_N[:2].all()))
    return equal, shared, same_start


def _sums(values_SN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(F_S, A_S)."""
    count = values_SN.shape[1]
    tail = min(max(2, round(TAIL * (count - 1))), count - 1)
    return values_SN[:, -tail:].mean(axis=1), values_SN[:, 1:].mean(axis=1)


def _measure(name: str, run_S: np.ndarray, reference_S: np.ndarray, span: float) -> Measure:
    n = len(run_S)
    m = len(reference_S)
    difference = float(run_S.mean() - reference_S.mean())
    s = max(_pooled(run_S, reference_S), FLOOR * span)
    half = None
    if n + m > 2:
        half = _quantile(MATCHES_AT, n + m - 2) * s * width(n, m)
    above = run_S.min() - reference_S.max()
    below = reference_S.min() - run_S.max()
    is_rare = 4 / math.comb(n + m, n) <= CHANCE
    separated = is_rare and bool(max(above, below) > SMALL * span)
    return Measure(name, difference, half, span, s, separated)


def _pooled(run_S: np.ndarray, reference_S: np.ndarray) -> float:
    """Standard deviation around each side's own mean; 0 where each is a single seed."""
    freedom = len(run_S) + len(reference_S) - 2
    if freedom < 1:
        return 0.0
    squares = ((run_S - run_S.mean()) ** 2).sum() + ((reference_S - reference_S.mean()) ** 2).sum()
    return math.sqrt(squares / freedom)


def _distance(measure: Measure) -> float:
    return abs(measure.difference) + (measure.half_width or 0.0)


def _at(line: Line, steps_N: np.ndarray) -> np.ndarray:
    """The line's values at `steps_N`: its own there or, where its steps are others, means since the step before."""
    x, y = line
    if np.isin(steps_N, x).all():
        return y[np.searchsorted(x, steps_N)]
    found_N = np.interp(steps_N, x, y)
    bins = np.searchsorted(steps_N, x)  # x in (steps[i - 1], steps[i]] has bin i
    for place in range(1, len(steps_N)):
        within = y[bins == place]
        if len(within) > 1:
            found_N[place] = within.mean()
    return found_N


@cache
def _quantile(probability: float, freedom: int) -> float:
    """The `probability`-quantile of Student's t."""
    return stats.t_quantile(2 * probability - 1, freedom)
