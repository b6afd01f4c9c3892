"""Colours, fonts, axes, and the strokes that all pictures share."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from rlexp.report.history import Line, Run, mean_band, names
from rlexp.report.references import data_of

# Okabe & Ito 2008: told apart by readers of every kind of colour vision.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D31", "#6A51A3")
INK, GREY = "#222222", "#9A9A9A"
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "grid.color": "#E8E8E8",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.solid_capstyle": "round",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "figure.constrained_layout.use": True,
    "savefig.dpi": 130,
}
CLOCKS = {"env_steps": "environment steps", "updates": "updates"}
BAND = "95 % t-interval"


def _moves(lines: Mapping[str, Line]) -> bool:
    """Whether there is anything to draw over the clock: some stages of learning stand still in it."""
    return any(np.ptp(x) > 0 for x, _ in lines.values())


def _fit(axes: Axes) -> None:
    """Show all lines: the band of two or three seeds can be wider than all the rest, and may leave the picture."""
    drawn = np.concatenate([[], *(np.asarray(line.get_ydata(), float) for line in axes.lines)])
    low, high = (drawn.min(), drawn.max()) if len(drawn) else (0.0, 0.0)
    if high > low:
        axes.set_ylim(low - 0.15 * (high - low), high + 0.15 * (high - low))


def _draw_mean(
    axes: Axes, lines: list[Line], colour: str, label: str | None, *, band: bool = True, **style: Any
) -> None:
    x, mean, half = mean_band(lines)
    axes.plot(x, mean, color=colour, label=label, **{"lw": 1.9, **style})
    if band and len(lines) > 1:
        axes.fill_between(
            x, mean - half, mean + half, color=colour, alpha=0.14, lw=0, zorder=style.get("zorder", 2) - 0.5
        )


def _axis(axes: Axes, clock: str | None) -> None:
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(6 if clock else 4, integer=True, steps=[1, 2, 2.5, 5, 10]))
    if clock:
        axes.set_xlabel(CLOCKS[clock])


def _title(run: Run) -> str:
    title = " on ".join(names(run.config))
    if data := data_of(run.config):
        title += f", {data}"
    counts = Counter(run.status(seed) for seed in run.rows)
    if set(counts) == {"done"}:
        return title
    return f"{title}, {len(run.rows)} seeds: " + ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))


def _save(figure: Figure, path: Path) -> None:
    """Whoever looks while it is written sees the old picture."""
    part = path.with_name(f".part_{path.name}")
    figure.savefig(part, format="png")
    os.replace(part, path)
