"""Several runs, or the arms of a study, in one picture."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from omegaconf import OmegaConf

from rlexp.report.history import Line, Run
from rlexp.report.style import BAND, COLOURS, STYLE, _axis, _draw_mean, _fit, _save
from rlexp.util import stats


def study(folder: Path) -> None:
    """Draw `folder`/study.png: its arms compared by the study's metric, and `against` another where it names one."""
    spec: Any = OmegaConf.to_container(OmegaConf.load(folder / "study.yaml"))
    arms = {arm: Run.read(folder / arm) for arm in spec["arms"]}
    if any(run.lines(spec["metric"]) for run in arms.values()):
        title = spec.get("title", folder.name)
        compare(arms, spec["metric"], folder / "study.png", title=title, against=spec.get("against"))


def compare(
    arms: Mapping[str, Run], metric: str, picture: Path, *, title: str = "", against: str | None = None
) -> None:
    """Draw `metric` of runs over time, and its final value with every seed; between them, over the metric `against`."""
    name = metric.removeprefix("eval/").replace("_", " ")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(14 if against else 10, max(4.0, 0.7 * len(arms) + 1)))
        left, *middle, right = figure.subplots(1, 3 if against else 2, width_ratios=[1.5] * (1 + bool(against)) + [1])
        clocks = {run.clock for run in arms.values()}
        clock = clocks.pop() if len(clocks) == 1 else "env_steps"  # the one that all algorithms have in common
        kinds = {(run.record["eval"]["actions"], run.record["eval"]["episodes"]) for run in arms.values()}
        kind = " or ".join(f"{actions} actions, {episodes} episodes" for actions, episodes in sorted(kinds))
        for place, (arm, run) in enumerate(arms.items()):
            colour = COLOURS[place % len(COLOURS)]
            for axes, x in zip((left, *middle), (clock, against or clock), strict=False):
                _draw_arm(axes, run.averaged(run.lines(metric, x)), colour, arm)
            _draw_final(right, place, run, metric, colour)
        _fit(left)
        _axis(left, clock)
        left.set_xlim(left=0)
        left.set_ylabel(f"{name}\n({kind})" if len(name + kind) > 40 else f"{name} ({kind})")
        left.set_title(f"mean over seeds and {BAND}")
        left.legend(loc="best")
        for axes in middle:
            axes.set_xscale("log")
            axes.set_ylim(left.get_ylim())
            axes.set_xlabel((against or "").split("/")[-1].replace("_", " "))
            axes.set_title("the same; a dot for an arm that never moves")
        right.set_yticks(range(len(arms)), list(arms))
        right.set_ylim(len(arms) - 0.5, -0.5)
        right.grid(False, axis="y")
        right.set_xlabel(f"final {name}")
        right.set_title(f"every seed, mean and {BAND}")
        if metric.endswith("_rate"):
            left.yaxis.set_major_formatter(PercentFormatter(1))
            right.xaxis.set_major_formatter(PercentFormatter(1))
            left.set_ylim(-0.02, 1.02)
            right.set_xlim(-0.02, 1.02)
        figure.suptitle(title, fontweight="bold", x=0.01, ha="left")
        _save(figure, picture)


def _draw_arm(axes: Axes, lines: list[Line], colour: str, label: str) -> None:
    """A mean with its band; where all of it lies at one x, the last value with its interval."""
    if not lines:
        return
    if any(np.ptp(x) > 0 for x, _ in lines):
        _draw_mean(axes, lines, colour, label)
        return
    mean, half = stats.t_interval([float(y[-1]) for _, y in lines])
    x = float(np.mean([x[-1] for x, _ in lines]))
    spread = None if math.isnan(half) else half
    axes.errorbar(x, mean, yerr=spread, fmt="o", color=colour, ms=5, capsize=3, lw=1.4, label=label)


def _draw_final(axes: Axes, place: int, run: Run, metric: str, colour: str) -> None:
    """One arm's row: a dot per seed, the mean with its interval, and what is missing. Evaluations have a final one of
    their own; of another metric it is the last value of seeds that are done."""
    name = metric.removeprefix("eval/")
    values = [facts["final"][name] for facts in run.record["seeds"].values() if name in (facts.get("final") or {})]
    if name == metric:
        values = [float(y[-1]) for seed, (_, y) in run.lines(metric).items() if run.status(seed) == "done"]
    n, missing = len(values), len(run.rows) - len(values)
    if values:
        mean, half = stats.t_interval(values)
        spread = 0.12 * ((np.arange(n) % 3) - 1)  # side by side where seeds agree
        axes.plot(values, place + 0.2 + 0.5 * spread, "o", color=colour, markersize=4, alpha=0.6, markeredgewidth=0)
        axes.errorbar(
            mean, place - 0.12, xerr=None if math.isnan(half) else half, fmt="D", color=colour, ms=6, capsize=4, lw=1.8
        )
    note = f"n = {n}" + (f", {missing} without a value" if missing else "")
    axes.annotate(note, (1, place), xycoords=axes.get_yaxis_transform(), xytext=(4, 0), textcoords="offset points",
                  va="center", fontsize=8, color="#555555")  # fmt: skip
