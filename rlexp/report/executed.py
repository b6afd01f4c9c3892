"""The picture of a diffusion policy that executes 1, 2, 3, … actions of each plan: its returns, and what they cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rlexp.report.style import COLOURS, STYLE, nth_colour, save

RETURNS = {"return_mean": "mean", "return_median": "median", "return_max": "max"}


def draw(rows: Sequence[Mapping[str, Any]], episodes: int, picture: Path) -> None:
    """Returns to the left, seconds to the right. Each of `rows` has `execute`, `seconds` and the scores of `episodes`
    trajectories."""
    executed = [row["execute"] for row in rows]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.0, 3.4))
        left, right = figure.subplots(1, 2)
        for place, (name, label) in enumerate(RETURNS.items()):
            left.plot(executed, [row[name] for row in rows], "-o", color=nth_colour(place), label=label)
        left.legend(loc="best")
        _name_axes(left, f"return of {episodes} trajectories")
        right.plot(executed, [row["seconds"] for row in rows], "-o", color=COLOURS[0])
        right.set_ylim(bottom=0)
        _name_axes(right, "seconds a trajectory")
        save(figure, picture)


def _name_axes(axes: Axes, y: str) -> None:
    axes.set_xlabel("actions executed of each plan")
    axes.set_ylabel(y)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
