"""Intervals that are named where they are drawn."""

import math
from collections.abc import Sequence

import numpy as np


def t_quantile(confidence: float, dof: int) -> float:
    """t such that a Student-t variable with `dof` ≥ 1 lies in ±t with probability `confidence`.

    With t = √dof · tan θ the density becomes proportional to cos^(dof−1) θ, whose integral is summed on a fine grid.
    """
    theta = np.linspace(0, math.pi / 2, 200_001)
    density = np.cos(theta) ** (dof - 1)
    mass = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return math.sqrt(dof) * math.tan(np.interp(confidence, mass / mass[-1], theta))


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Mean of `values` and half the width of its Student-t interval; the half width of one value is NaN.

    At 3 to 5 seeds this covers what it says, while a percentile bootstrap covers 75 to 85 %.
    """
    n = len(values)
    mean = float(np.mean(values))
    if n < 2:
        return mean, math.nan
    return mean, t_quantile(confidence, n - 1) * float(np.std(values, ddof=1)) / math.sqrt(n)


def wilson(successes: float, n: int) -> tuple[float, float]:
    """95 % Wilson interval of a proportion (Wilson 1927)."""
    z, p = 1.959964, successes / n
    centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)


def welch(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """Welch's t-test that two samples, of ≥ 2 values each, have the same mean: (t, degrees of freedom, two-sided p).

    Variances may differ (Welch 1947). Two samples without any spread have p = 1 where they are equal, else 0.
    """
    parts = [float(np.var(x, ddof=1)) / len(x) for x in (a, b)]
    gap, square = float(np.mean(a) - np.mean(b)), sum(parts)
    if square == 0:
        return (math.copysign(math.inf, gap), math.nan, 0.0) if gap else (0.0, math.nan, 1.0)
    t = gap / math.sqrt(square)
    dof = square**2 / sum(v**2 / (len(x) - 1) for v, x in zip(parts, (a, b), strict=True))
    start = math.atan(abs(t) / math.sqrt(dof))  # as in t_quantile: the tail beyond t, over the whole half
    tail, half = (_cos_power(low, dof - 1) for low in (start, 0.0))
    return t, dof, tail / half


def _cos_power(low: float, power: float) -> float:
    """∫ cos^power θ dθ from `low` to π/2."""
    theta = np.linspace(low, math.pi / 2, 200_001)
    return float(np.trapezoid(np.maximum(np.cos(theta), 0.0) ** power, theta))
