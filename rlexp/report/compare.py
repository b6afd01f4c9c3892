"""Several runs, or the arms of a study, in one picture."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter, PercentFormatter

from rlexp.report.history import Run, folders
from rlexp.report.lines import Line, are_same, moves, thinned
from rlexp.report.records import read_study
from rlexp.report.style import BAND, BAND_FROM, STYLE, clock_axis, dashes, draw_mean, fit_lines, nth_colour, save
from rlexp.report.words import count, spoken
from rlexp.util import stats

Arms = Mapping[str, Run]
MOST = 16  # arms of a picture that anybody could read
ONE_SEED = "one seed each"
LONGEST = 40  # characters of a label beside an axis


def study(folder: Path) -> None:
    """Draw `folder`/study.png: its arms compared by the study's metric, and `against` another where it names one."""
    spec = read_study(folder)
    arms = {name: Run.read(place) for name, place in folders(folder).items()}
    metric = spec["metric"]
    if any(run.lines(metric) for run in arms.values()):
        title = spec.get("title", folder.name)
        compare(arms, metric, folder / "study.png", title=title, against=spec.get("against"))


def compare(
    arms: Arms,
    metric: str,
    picture: Path,
    *,
    title: str = "",
    against: str | None = None,
) -> None:
    """Draw `metric` of runs over time, and its final value with every seed; between them, over the metric `against`.
    Of more than `MOST` runs those whose final value is best are drawn."""
    if len(arms) > MOST:
        title = f"{title} (the best {MOST} of {len(arms)})".strip()
        arms = _best(arms, metric)
    widths = [1.5, 1.0]
    size = (10, max(4.0, 0.7 * len(arms) + 1))
    if against:
        widths = [1.5, 1.5, 1.0]
        size = (14, size[1])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size)
        left, *middle, right = figure.subplots(1, len(widths), width_ratios=widths)
        _draw_over_time(left, arms, metric)
        if against:
            _draw_against(middle[0], arms, metric, against)
            middle[0].set_ylim(left.get_ylim())
        _draw_finals(right, arms, metric)
        if metric.endswith("_rate"):
            _in_percent(left, right)
        figure.suptitle(title, fontweight="bold", x=0.01, ha="left")
        save(figure, picture)


def _best(arms: Arms, metric: str) -> Arms:
    """The `MOST` arms with the highest mean of the final values."""
    means = {name: np.mean(_final_values(run, metric) or [-math.inf]) for name, run in arms.items()}
    kept = sorted(arms, key=lambda name: -means[name])[:MOST]
    return {name: arms[name] for name in arms if name in kept}


def _draw_over_time(axes: Axes, arms: Arms, metric: str) -> None:
    """Every arm's mean over its clock or, where the clocks differ, over environment steps."""
    clocks = {run.clock for run in arms.values()}
    clock = "env_steps"  # all algorithms have that in common
    if len(clocks) == 1:
        clock = clocks.pop()
    _draw_arms(axes, arms, metric, clock)
    fit_lines(axes)
    clock_axis(axes, clock)
    axes.set_xlim(left=0)
    axes.set_ylabel(_with_kinds(spoken(metric), _kinds_of_evaluation(arms)))
    axes.set_title(_what_is_drawn(arms, metric))
    axes.legend(loc="best")


def _what_is_drawn(arms: Arms, metric: str) -> str:
    """The title: whether arms have bands, or their seeds' own lines, or some these and some those."""
    seeds = [len(run.averaged(run.lines(metric))) for run in arms.values()]
    if max(seeds, default=0) < 2:
        return ONE_SEED
    few = [n for n in seeds if 1 < n < BAND_FROM]
    many = [n for n in seeds if n >= BAND_FROM]
    if few and many:
        return f"mean over seeds and {BAND}, or each seed"
    if few:
        return "mean over seeds, and each seed"
    return f"mean over seeds and {BAND}"


def _kinds_of_evaluation(arms: Arms) -> list[str]:
    """The ways in which the arms are evaluated: `mean actions, 10 episodes`."""
    facts = [run.record["eval"] for run in arms.values() if "eval" in run.record]
    kinds = {(fact["actions"], fact["episodes"]) for fact in facts}
    return [f"{actions} actions, {count(episodes, 'episode')}" for actions, episodes in sorted(kinds)]


def _with_kinds(name: str, kinds: list[str]) -> str:
    """A label that says how what it names was evaluated, on further lines where it would be longer than its axis."""
    if not kinds:
        return name
    if len(kinds) == 1 and len(name + kinds[0]) <= LONGEST:
        return f"{name} ({kinds[0]})"
    return f"{name}\n(" + "\nor ".join(kinds) + ")"


def _draw_against(axes: Axes, arms: Arms, metric: str, against: str) -> None:
    """Every arm's mean over another metric, which grows in training: labels asked for, say."""
    _draw_arms(axes, arms, metric, against)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # the scale's own is written as mathematics
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(spoken(against))
    axes.set_title("the same; a dot for an arm that never moves")


def _draw_arms(axes: Axes, arms: Arms, metric: str, x: str) -> None:
    drawn: list[list[Line]] = []
    for place, (arm, run) in enumerate(arms.items()):
        averaged = run.averaged(run.lines(metric, x))
        if moves(averaged):
            if 1 < len(averaged) < BAND_FROM:
                _draw_seeds(axes, averaged, nth_colour(place))
            below = sum(are_same(averaged, other) for other in drawn)
            drawn.append(averaged)
            draw_mean(axes, averaged, nth_colour(place), arm, **dashes(below))
        elif averaged:
            _draw_point(axes, averaged, nth_colour(place), arm)


def _draw_seeds(axes: Axes, lines: list[Line], colour: str) -> None:
    for line in lines:
        x, y = thinned(line)
        axes.plot(x, y, color=colour, lw=0.7, alpha=0.5)


def _draw_point(axes: Axes, lines: list[Line], colour: str, label: str) -> None:
    """What lies all at one x: the mean of the last values, with its interval of BAND_FROM or more."""
    mean, half = _interval([float(y[-1]) for _, y in lines])
    x = float(np.mean([x[-1] for x, _ in lines]))
    look: Any = {"fmt": "o", "color": colour, "ms": 5, "capsize": 3, "lw": 1.4}
    axes.errorbar(x, mean, yerr=_bar(half), label=label, **look)


def _interval(values: list[float]) -> tuple[float, float]:
    """The mean and half of its 95 % t-interval; NaN of fewer than BAND_FROM, where it would be wider than all that
    anybody did."""
    mean, half = stats.t_interval(values)
    return mean, half if len(values) >= BAND_FROM else math.nan


def _bar(half: float) -> float | None:
    """The half width of an error bar; None, which draws none, where it is not known."""
    return None if math.isnan(half) else half


def _draw_finals(axes: Axes, arms: Arms, metric: str) -> None:
    """A row for each arm: a dot per seed, the mean, its interval of BAND_FROM seeds or more, and what is missing."""
    most = 0
    for place, run in enumerate(arms.values()):
        values = _final_values(run, metric)
        most = max(most, len(values))
        if values:
            _draw_values(axes, place, values)
        _annotate(axes, place, len(values), len(run.rows) - len(values))
    axes.set_yticks(range(len(arms)), list(arms))
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.set_xlabel(f"final {spoken(metric)}")
    axes.set_title(_what_of_finals(most))


def _what_of_finals(most: int) -> str:
    """The title, where no arm has more seeds than `most`."""
    if most < 2:
        return ONE_SEED
    if most < BAND_FROM:
        return "every seed, and their mean"
    return f"every seed, mean and {BAND}"


def _final_values(run: Run, metric: str) -> list[float]:
    """Of an evaluation's metric, what the last policies scored; of another, the last values of seeds that are done."""
    name = metric.removeprefix("eval/")
    if name == metric:
        lines = run.lines(metric)
        return [float(y[-1]) for seed, (_, y) in lines.items() if run.status(seed) == "done"]
    finals = [facts.get("final") or {} for facts in run.record["seeds"].values()]
    return [final[name] for final in finals if name in final]


def _draw_values(axes: Axes, place: int, values: list[float]) -> None:
    side_by_side = 0.06 * ((np.arange(len(values)) % 3) - 1)  # where seeds agree
    dots: Any = {"color": nth_colour(place), "markersize": 4, "alpha": 0.6, "markeredgewidth": 0}
    axes.plot(values, place + 0.2 + side_by_side, "o", **dots)
    mean, half = _interval(values)
    look: Any = {"fmt": "D", "color": nth_colour(place), "ms": 6, "capsize": 4, "lw": 1.8}
    axes.errorbar(mean, place - 0.12, xerr=_bar(half), **look)


def _annotate(axes: Axes, place: int, n: int, missing: int) -> None:
    """How many seeds a row stands for, to its right."""
    note = f"n = {n}"
    if missing:
        note += f", {missing} without a value"
    axes.annotate(
        note,
        (1, place),
        xycoords=axes.get_yaxis_transform(),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color="#555555",
    )


def _in_percent(left: Axes, right: Axes) -> None:
    left.yaxis.set_major_formatter(PercentFormatter(1))
    right.xaxis.set_major_formatter(PercentFormatter(1))
    left.set_ylim(-0.02, 1.02)
    right.set_xlim(-0.02, 1.02)
