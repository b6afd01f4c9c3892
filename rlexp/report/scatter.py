"""Clouds of points: what something predicted against what was so."""

import math
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlexp.report.style import STYLE, nth_colour, panel_grid, save


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
    mean_ranks = np.cumsum(counts) - (counts + 1) / 2
    return mean_ranks[inverse_N]


def draw(clouds: list[Cloud], picture: Path, x_label: str, y_label: str) -> Path:
    """A panel for each cloud, three in a row, on common axes; the kind that is drawn last lies on top."""
    columns = min(3, len(clouds))
    rows = math.ceil(len(clouds) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.6 + 3.1 * columns, 0.5 + 2.6 * rows))
        panels = panel_grid(figure, rows, columns, len(clouds), sharex=True, sharey=True)
        for place, (axes, cloud) in enumerate(zip(panels, clouds, strict=True)):
            _draw_cloud(axes, cloud)
            if place % columns == 0:
                axes.set_ylabel(y_label)
            if place + columns >= len(clouds):
                axes.set_xlabel(x_label)
                axes.tick_params(labelbottom=True)
        panels[0].legend(loc="lower right", markerscale=2)
        save(figure, picture)
    return picture


def _draw_cloud(axes: Axes, cloud: Cloud) -> None:
    notes = []
    for place, (kind, (x_N, y_N)) in enumerate(cloud.points.items()):
        axes.scatter(x_N, y_N, s=9, color=nth_colour(place), alpha=0.45, linewidths=0, label=kind)
        notes.append(f"{kind}: n = {len(x_N)}, r = {_pearson(x_N, y_N):.2f}")
    axes.set_title(cloud.name.replace("_", " "), fontweight="bold")
    corner = (0.03, 0.97)
    axes.annotate("\n".join(notes), corner, xycoords="axes fraction", va="top", fontsize=7.5)
