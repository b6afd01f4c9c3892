"""Lines of points: the mean of several with its interval, and what is left out of them in a picture."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from rlexp.util import stats

Line = tuple[np.ndarray, np.ndarray]  # x ascending, y

POINTS = 600  # of one line: more cannot be seen
STRETCHES = 60  # that a noisy metric is averaged in before its mean over seeds is drawn


def moves(lines: Iterable[Line]) -> bool:
    """Whether there is anything to draw over x: some stages of learning stand still in their clock."""
    return any(np.ptp(x) > 0 for x, _ in lines)


def are_same(lines: Sequence[Line], others: Sequence[Line]) -> bool:
    """Whether both have the same points."""
    pairs = zip(lines, others, strict=False)
    return len(lines) == len(others) and all(np.array_equal(x, z) and np.array_equal(y, w) for (x, y), (z, w) in pairs)


def mean_band(lines: list[Line]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x, mean, half width of the 95 % t-interval) of `lines`, where all of them are.

    Between its own points a line is interpolated, beyond them it is not extrapolated: x may be empty.
    The half width of a single line is NaN.
    """
    x = _common_x(lines)
    y = np.array([np.interp(x, *line) for line in lines])
    n = len(lines)
    if n < 2:
        return x, y[0], np.full(len(x), np.nan)
    half = stats.t_quantile(0.95, n - 1) * y.std(axis=0, ddof=1) / math.sqrt(n)
    return x, y.mean(axis=0), half


def prediction_band(lines: list[Line]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x, mean, half width) of where one more line lies in 95 of 100 cases, at each x by itself; as in `mean_band`."""
    x, mean, half = mean_band(lines)
    return x, mean, half * math.sqrt(len(lines) + 1)  # t s sqrt(1 + 1/n) instead of t s / sqrt(n)


def _common_x(lines: list[Line]) -> np.ndarray:
    """Every x of any line in the range that all lines cover, evenly thinned to POINTS."""
    start = max(x[0] for x, _ in lines)
    end = min(x[-1] for x, _ in lines)
    every_x = np.unique(np.concatenate([x for x, _ in lines]))
    common = every_x[(every_x >= start) & (every_x <= end)]
    if len(common) <= POINTS:
        return common
    places = np.linspace(0, len(common) - 1, POINTS).astype(int)
    return common[np.unique(places)]


def smoothed(line: Line) -> Line:
    """Means over STRETCHES stretches of neighbouring points; a line of fewer points as it is."""
    x, y = line
    if len(x) <= STRETCHES:
        return line
    return _stretch_means(x), _stretch_means(y)


def _stretch_means(values: np.ndarray) -> np.ndarray:
    return np.array([stretch.mean() for stretch in np.array_split(values, STRETCHES)])


def thinned(line: Line) -> Line:
    """At most 2 · POINTS points: of each stretch the lowest and the highest, so that no spike is lost."""
    x, y = line
    if len(x) <= 2 * POINTS:
        return line
    edges = np.linspace(0, len(x), POINTS + 1).astype(int)
    keep = set()
    for start, end in pairwise(edges):
        keep.add(start + np.argmin(y[start:end]))
        keep.add(start + np.argmax(y[start:end]))
    places = sorted(keep)
    return x[places], y[places]
