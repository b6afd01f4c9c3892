"""Any metrics of a run, or of a study's arms, side by side in one picture.

Without names it draws, as far as there is any, what iterated preference learning does to itself: the returns of
sampled and of mean actions, the standard deviation, the spread of returns, and how much the labels still tell.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlexp.report.history import Run, folders
from rlexp.report.lines import Line, smoothed
from rlexp.report.style import STYLE, clock_axis, draw_mean, nth_colour, panel_grid, save
from rlexp.report.words import quantity
from rlexp.util.errors import UserError, did_you_mean, nearest

HELD_OUT = "opt/accuracy_held_out"
ITERATIONS = {
    "data/return_mean": "return, sampled actions",
    "data/return_mean_action": "return, mean actions",
    "data/std": "σ of the policy",
    "data/return_std": "spread (std) of sampled returns",
    "data/label_informativeness": "label informativeness |2p − 1|",
    HELD_OUT: "accuracy on held-out pairs",
}
FEW_PAIRS = 20  # held out, of which an accuracy is mostly noise
NOISY = ("loss/", "opt/")  # of a batch, or of a few held-out pairs: bold is smoothed, as in curves.png


def known_metrics(runs: Iterable[Run]) -> list[str]:
    """Sorted names of the metrics, the counters left out, that any of `runs` has."""
    names = {name for run in runs for name in run.metrics("") if "/" in name}
    return sorted(names)


def default(folder: Path) -> dict[str, str]:
    """Those of `ITERATIONS` that a run or study has. Raises UserError where there is none."""
    runs = [Run.read(place) for place in folders(folder).values()]
    known = known_metrics(runs)
    found = {name: title for name, title in ITERATIONS.items() if name in known}
    if any(_pairs_held_out(run) < FEW_PAIRS for run in runs):
        found.pop(HELD_OUT, None)
    if not found:
        raise UserError(f"{folder}: name the metrics to draw, such as {', '.join(known[:4])}")
    return found


def _pairs_held_out(run: Run) -> float:
    """Pairs by which an iteration's accuracy is measured; infinite where they come from elsewhere."""
    algo = run.config["algo"]
    if algo.get("preferences") or "episodes_per_iteration" not in algo:
        return math.inf
    return algo["episodes_per_iteration"] * algo["validation_fraction"] / 2


def draw(folder: Path, titles: dict[str, str], picture: Path) -> Path:
    """A panel for each metric: each arm's (or the run's) seeds thin, their mean bold with its interval; of losses and
    accuracies the bold line is smoothed.

    Raises UserError where `folder` is no run or study, or has none of a metric.
    """
    places = folders(folder)
    is_study = folder not in places.values()
    runs = {arm: Run.read(place) for arm, place in places.items()}
    known = known_metrics(runs.values())
    for name in titles:
        if name not in known:
            hint = did_you_mean(nearest(name, known))
            raise UserError(f"{name}: no such metric in {folder}{hint}")
    clock = next(iter(runs.values())).clock
    columns = min(3, len(titles))
    rows = math.ceil(len(titles) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * columns, 2.6 * rows))
        panels = panel_grid(figure, rows, columns, len(titles))
        for axes, (name, title) in zip(panels, titles.items(), strict=True):
            _draw_arms(axes, runs, name)
            axes.set_title(title)
            axes.set_ylabel(quantity(name))
            clock_axis(axes, clock)
        if is_study:
            panels[0].legend(loc="best")
        save(figure, picture)
    return picture


def _draw_arms(axes: Axes, runs: Mapping[str, Run], name: str) -> None:
    for place, (arm, run) in enumerate(runs.items()):
        lines = run.lines(name)
        for line in lines.values():
            _draw_seed(axes, line, nth_colour(place))
        averaged = run.averaged(lines)
        if not averaged:
            continue
        if name.startswith(NOISY):
            averaged = [smoothed(line) for line in averaged]
        draw_mean(axes, averaged, nth_colour(place), arm)


def _draw_seed(axes: Axes, line: Line, colour: str) -> None:
    x, y = line
    marker = "." if len(x) == 1 else None  # a line of one point would not be seen
    axes.plot(x, y, color=colour, lw=0.6, alpha=0.5, marker=marker)
