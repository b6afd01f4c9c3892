"""Colours, fonts, axes, and the strokes that all pictures share.

A band is the 95 % Student-t interval of the mean over seeds, and is labelled so; below BAND_FROM seeds, whose interval
would cover everything, there are the seeds' own lines instead. Around a reference stands a prediction band: a right
curve lies outside of the mean's interval the more often the more seeds the reference has. Means are taken at common
steps, interpolated between a seed's own and never extrapolated. Matplotlib without pyplot, hence without global state.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from rlexp.report.lines import Line, mean_band, prediction_band

# Okabe & Ito 2008: told apart by readers of every kind of colour vision.
COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#8C6D31",
    "#6A51A3",
)
INK = "#222222"
GREY = "#9A9A9A"
DASH = 3
STYLE: Any = {
    "font.size": 9,
    "text.parse_math": False,  # names are shown as they were typed, with dollars too
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
PREDICTION = "95 % prediction band"
BAND_FROM = 4  # seeds: of two or three the interval is wider than anything that they did


def nth_colour(place: int) -> str:
    """The colour of the line, arm or kind at `place`, counted from 0; they begin anew after the eighth."""
    return COLOURS[place % len(COLOURS)]


def dash(below: int) -> tuple[int, int]:
    """Length and gap of the dashes of a line that lies on so many others: in its gaps each of them is seen."""
    return DASH, DASH * (2**below - 1)


def dashes(below: int) -> dict[str, Any]:
    """How such a line is plotted; as ever, where it lies on none."""
    return {"ls": (0, dash(below))} if below else {}


def draw_mean(
    axes: Axes,
    lines: list[Line],
    colour: str,
    label: str | None,
    *,
    band: bool = True,
    **style: Any,
) -> None:
    """The mean of `lines` in bold and, of BAND_FROM or more, with `band`, the interval around it."""
    x, mean, half = mean_band(lines)
    axes.plot(x, mean, color=colour, label=label, **{"lw": 1.9, **style})
    if band and len(lines) >= BAND_FROM:
        behind = style.get("zorder", 2) - 0.5
        axes.fill_between(
            x,
            mean - half,
            mean + half,
            color=colour,
            alpha=0.14,
            lw=0,
            zorder=behind,
        )


def draw_prediction(axes: Axes, lines: list[Line], colour: str, zorder: float) -> None:
    """Where one more seed lies in 95 of 100 cases, at each step by itself."""
    x, mean, half = prediction_band(lines)
    axes.fill_between(x, mean - half, mean + half, color=colour, alpha=0.14, lw=0, zorder=zorder)


def mean_label(lines: int, band: str = BAND) -> str:
    """What is drawn of so many lines: `mean, n = 3`, or with its band `mean and 95 % t-interval, n = 10`."""
    if lines < BAND_FROM:
        return f"mean, n = {lines}"
    return f"mean and {band}, n = {lines}"


def fit_lines(axes: Axes) -> None:
    """Show all lines, and of their bands what fits: that of few seeds can be wider than all the rest."""
    values = [np.asarray(line.get_ydata(), float) for line in axes.lines]
    drawn = np.concatenate([[], *values])
    if len(drawn) == 0:
        return
    low = drawn.min()
    high = drawn.max()
    if high > low:
        margin = 0.15 * (high - low)
        axes.set_ylim(low - margin, high + margin)


def clock_axis(axes: Axes, clock: str) -> None:
    """An x axis that counts `clock` in thousands and millions, and says so."""
    count_axis(axes, 6)
    axes.set_xlabel(CLOCKS[clock])


def count_axis(axes: Axes, ticks: int) -> None:
    """An x axis of whole numbers in thousands and millions, with about `ticks` of them."""
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True, steps=[1, 2, 2.5, 5, 10]))


def panel_grid(figure: Figure, rows: int, columns: int, count: int, **shared: Any) -> list[Axes]:
    """The first `count` of rows × columns axes, row by row; the others are removed."""
    every = list(figure.subplots(rows, columns, squeeze=False, **shared).flat)
    for spare in every[count:]:
        spare.remove()
    return every[:count]


def save(figure: Figure, path: Path) -> None:
    """Write a picture in the format that its name ends in. Whoever looks while it is written sees the old one."""
    part = path.with_name(f".part_{path.name}")
    try:
        figure.savefig(part, format=path.suffix.removeprefix(".") or "png")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
