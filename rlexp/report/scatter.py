"""Clouds of points: what something predicted against what was so."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from rlexp.report.style import COLOURS, STYLE, _save


@dataclass(frozen=True)
class Cloud:
    """One panel: for each kind of point (x (N,), y (N,))."""

    name: str
    points: dict[str, tuple[np.ndarray, np.ndarray]]


def correlations(x_N: np.ndarray, y_N: np.ndarray) -> tuple[float, float]:
    """Pearson's and Spearman's; NaN where x or y is everywhere the same."""
    return _pearson(x_N, y_N), _pearson(_ranks(x_N), _ranks(y_N))


def _pearson(x_N: np.ndarray, y_N: np.ndarray) -> float:
    if np.ptp(x_N) == 0 or np.ptp(y_N) == 0:
        return math.nan
    return float(np.corrcoef(x_N, y_N)[0, 1])


def _ranks(x_N: np.ndarray) -> np.ndarray:
    """Ranks from 0; equal values share the mean of theirs."""
    _, inverse_N, counts = np.unique(x_N, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse_N]


def draw(clouds: list[Cloud], picture: Path, x_label: str, y_label: str) -> Path:
    """A panel for each cloud, three in a row, on common axes; the kind that is drawn last lies on top."""
    columns = min(3, len(clouds))
    rows = math.ceil(len(clouds) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.6 + 3.1 * columns, 0.5 + 2.6 * rows))
        grid: Any = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes in grid.flat[len(clouds) :]:
            axes.remove()
        for place, (axes, cloud) in enumerate(zip(grid.flat, clouds, strict=False)):
            notes = []
            for colour, (kind, (x_N, y_N)) in zip(COLOURS, cloud.points.items(), strict=False):
                axes.scatter(x_N, y_N, s=9, color=colour, alpha=0.45, linewidths=0, label=kind)
                notes.append(f"{kind}: n = {len(x_N)}, r = {_pearson(x_N, y_N):.2f}")
            axes.set_title(cloud.name.replace("_", " "), fontweight="bold")
            axes.annotate("\n".join(notes), (0.03, 0.97), xycoords="axes fraction", va="top", fontsize=7.5)
            if place % columns == 0:
                axes.set_ylabel(y_label)
            if place + columns >= len(clouds):
                axes.set_xlabel(x_label)
                axes.tick_params(labelbottom=True)
        grid.flat[0].legend(loc="lower right", markerscale=2)
        _save(figure, picture)
    return picture
