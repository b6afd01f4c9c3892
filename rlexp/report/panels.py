"""Any metrics of a run, or of a study's arms, side by side in one picture.

Without names it draws, as far as there is any, what iterated preference learning does to itself: the returns of
sampled and of mean actions, the standard deviation, the spread of returns, and how much the labels still tell.
"""

import math
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from rlexp.report.history import Run, folders
from rlexp.report.style import COLOURS, STYLE, _axis, _draw_mean, _save
from rlexp.util.errors import UserError, did_you_mean, nearest

ITERATIONS = {
    "data/return_mean": "return, sampled actions",
    "data/return_mean_action": "return, mean actions",
    "data/std": "σ of the policy",
    "data/return_std": "spread (std) of sampled returns",
    "data/label_informativeness": "label informativeness |2p − 1|",
    "opt/accuracy_held_out": "accuracy on held-out pairs",
}


def default(folder: Path) -> dict[str, str]:
    """Those of `ITERATIONS` that a run or study has. Raises UserError where there is none."""
    known = {name for place in folders(folder).values() for name in Run.read(place).metrics("")}
    if not (found := {name: title for name, title in ITERATIONS.items() if name in known}):
        some = ", ".join(sorted(name for name in known if "/" in name)[:4])
        raise UserError(f"{folder}: name the metrics to draw, such as {some}")
    return found


def draw(folder: Path, titles: dict[str, str], picture: Path) -> Path:
    """A panel for each metric: each arm's (or the run's) seeds thin, their mean bold with its interval.

    Raises UserError where `folder` is no run or study, or has none of a metric."""
    places = folders(folder)
    is_study = folder not in places.values()
    runs = {arm: Run.read(place) for arm, place in places.items()}
    known = sorted({name for one in runs.values() for name in one.metrics("") if "/" in name})
    for name in titles:
        if name not in known:
            raise UserError(f"{name}: no such metric in {folder}{did_you_mean(nearest(name, known))}")
    columns = min(3, len(titles))
    rows = math.ceil(len(titles) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * columns, 2.6 * rows))
        grid: Any = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(titles) :]:
            axes.remove()
        for axes, (name, title) in zip(grid.flat, titles.items(), strict=False):
            for place, (arm, one) in enumerate(runs.items()):
                colour, lines = COLOURS[place % len(COLOURS)], one.lines(name)
                for line in lines.values():
                    axes.plot(*line, color=colour, lw=0.6, alpha=0.5, marker="." if len(line[0]) == 1 else None)
                if averaged := one.averaged(lines):
                    _draw_mean(axes, averaged, colour, arm if is_study else None)
            axes.set_title(title)
            _axis(axes, next(iter(runs.values())).clock)
        if is_study:
            grid.flat[0].legend(loc="best")
        _save(figure, picture)
    return picture
