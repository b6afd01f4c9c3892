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
