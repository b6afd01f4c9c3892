"""The picture of what Decision Transformers do for several returns that they are asked for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlexp.report.style import BAND, GREY, STYLE, nth_colour, save
from rlexp.report.words import count
from rlexp.util import stats


@dataclass(frozen=True)
class Answers:
    """What one run's policies return for each return that they are asked for."""

    data_best: float  # the best return of an episode in the data
    asked: list[float]
    returns: list[list[float]]  # for each of `asked`, of each policy


def draw(found: Mapping[str, Answers], path: Path, episodes: int) -> None:
    """Mean and 95 % t-interval over policies against the return asked for, the diagonal, and the data's best return.

    `found` is by the name in the legend; `episodes` is how many each policy played for each return.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6, 4.5))
        axes = figure.subplots()
        every = [asked for answers in found.values() for asked in answers.asked]
        ends = [min(every), max(every)]
        axes.plot(ends, ends, color=GREY, linewidth=1, linestyle="--", label="as asked")
        for place, (name, answers) in enumerate(found.items()):
            _draw_answers(axes, name, answers, nth_colour(place))
        axes.set_xlabel("return asked for")
        axes.set_ylabel(f"mean return ({count(episodes, 'episode')} per policy)")
        axes.set_title(f"mean over policies and {BAND}")
        axes.legend(loc="best")
        save(figure, path)


def _draw_answers(axes: Axes, name: str, answers: Answers, colour: str) -> None:
    means = []
    halves = []
    for returns in answers.returns:
        mean, half = stats.t_interval(returns)
        means.append(mean)
        halves.append(0.0 if math.isnan(half) else half)
    label = f"{name}, n = {len(answers.returns[0])}"
    axes.errorbar(answers.asked, means, halves, color=colour, marker="o", capsize=3, label=label)
    best = f"{name}, best in data"
    axes.axvline(answers.data_best, color=colour, linewidth=1, linestyle=":", label=best)
