"""Pictures of runs and studies, drawn from what their seeds have written so far.

A band is the 95 % Student-t interval of the mean over seeds, and is labelled so. Means are taken at common steps,
interpolated between a seed's own and never extrapolated. Matplotlib without pyplot, hence without global state.
"""

import csv
import math
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter
from omegaconf import OmegaConf

from rlexp import gallery, stats
from rlexp.config import names
from rlexp.errors import UserError
from rlexp.history import Line, Run, mean_band, smoothed, thinned

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


def curves(folder: Path, picture: Path | None = None, *, reference: bool | str = True) -> None:
    """Draw `folder`/curves.png (or `picture`): evaluation return, losses, and sample returns where there are two kinds.

    Where the metrics hold a search in the plane, also draws `folder`/path.png. Nothing is drawn before the first
    evaluation. `reference`: with the gallery's curve underneath, the run's own or the entry of that name.
    """
    run = Run.read(folder)
    if isinstance(reference, str):
        run.config["reference"] = reference
    if not (returns := run.lines("eval/return_mean")):
        return
    with matplotlib.rc_context(STYLE):
        panels = [name for name in run.metrics("loss/") if _moves(run.lines(name))]
        panels += ["sample return"] if run.lines("data/return_best") else []
        columns = math.ceil(len(panels) / 3)
        rows = math.ceil(len(panels) / columns) if panels else 1
        figure = Figure(figsize=(6.2 + 3.1 * columns, max(4.0, 1.9 * rows)))
        grid = figure.add_gridspec(rows, columns + 1, width_ratios=[2.0] + [1.0] * columns)
        main = figure.add_subplot(grid[:, 0])
        end = max(float(x[-1]) for x, _ in returns.values())
        if reference:
            _draw_reference(main, run, end)
        _draw_seeds(main, run, returns)
        episodes, actions = run.record["eval"]["episodes"], run.record["eval"]["actions"]
        main.set_ylabel(f"evaluation return ({actions} actions, {episodes} episodes)")
        main.set_xlim(0, 1.01 * end or 1)
        main.set_title(_title(run), fontweight="bold")
        main.legend(loc="best")
        for i, name in enumerate(panels):
            axes = figure.add_subplot(grid[i % rows, 1 + i // rows])
            if name == "sample return":
                _draw_sample_returns(axes, run)
            else:
                if reference:
                    _draw_reference(axes, run, end, name)
                _draw_seeds(axes, run, run.lines(name), legend=False)
            axes.set_title(name)
            axes.set_xlim(main.get_xlim())
            if i % rows == rows - 1 or i == len(panels) - 1:
                axes.set_xlabel("thin: each seed; bold: their mean, smoothed" if len(run.rows) > 1 else "", fontsize=8)
            else:
                axes.tick_params(labelbottom=False)
        _save(figure, picture or folder / "curves.png")
        if picture is None and run.lines("state/mean_1") and not run.lines("state/mean_2"):
            _save(_path(run), folder / "path.png")


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


def _moves(lines: Mapping[str, Line]) -> bool:
    """Whether there is anything to draw over the clock: some stages of learning stand still in it."""
    return any(np.ptp(x) > 0 for x, _ in lines.values())


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


def _draw_seeds(axes: Axes, run: Run, lines: Mapping[str, Line], legend: bool = True) -> None:
    """A thin line per seed, the mean and its band from the second seed on; a failed seed ends in a cross.

    Without `legend` it is a small panel of a noisy metric: the mean is smoothed and has no band.
    """
    few = len(lines) <= 5
    first = next((seed for seed in lines if run.status(seed) != "failed"), None)
    for i, (seed, line) in enumerate(lines.items()):
        label = f"seed {seed}" if few else f"{len(lines)} seeds" if seed == first else None
        if failed := run.status(seed) == "failed":
            label = f"seed {seed}, failed"
            axes.plot(line[0][-1], line[1][-1], "x", color=INK, markersize=6, markeredgewidth=1.6, zorder=5)
        axes.plot(
            *thinned(line),
            color=COLOURS[i % len(COLOURS)] if few else COLOURS[4],
            label=label if legend else None,
            lw=(0.9 if legend else 0.6) if len(lines) > 1 else 1.6,
            ls=":" if failed else "-",
            marker="." if len(line[0]) == 1 else None,  # a line of one point would not be seen
            alpha=0.75 if legend else 0.55,
        )
    averaged = run.averaged(lines)
    if len(averaged) > 1:
        label = f"mean and {BAND}, n = {len(averaged)}" if legend else None
        _draw_mean(axes, averaged if legend else [smoothed(line) for line in averaged], INK, label, band=legend)
    _fit(axes)
    _axis(axes, run.clock if legend else None)


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


def _draw_reference(axes: Axes, run: Run, end: float, column: str = "return_mean") -> None:
    """The gallery's curve of the same algorithm and environment, in this run's clock and as far as `end`; nothing where
    the entry has no such column (other people's curves may have one of the loss)."""
    try:
        data = gallery.data_of(run.config)
        file = gallery.find(run.config.get("reference"), "_".join(names(run.config)), data)
    except UserError:  # it was there when the run began; a training run is not stopped for a picture
        return
    if file is None:
        return
    seeds: dict[str, list[tuple[float, float]]] = {}
    with open(file, newline="") as table:
        for row in csv.DictReader(table):
            if column in row:
                seeds.setdefault(row["seed"], []).append((float(row[run.clock]), float(row[column])))
    card, lines = gallery.card(file), []
    for seed, points in seeds.items():
        if card["seeds"][seed]["status"] == "done":
            x, y = np.array(points).T
            cut = np.append(x[x < end], min(end, x[-1]))
            lines.append((cut, np.interp(cut, x, y)))
    if lines:
        actions = card["eval"]["actions"]
        note = "" if actions == run.record["eval"]["actions"] else f", {actions} actions"
        note += "" if (theirs := gallery.data_of(card.get("config", {}))) in (data, None) else f", on {theirs}"
        label = f"gallery {file.stem}: mean{f' and {BAND}' * (len(lines) > 1)}, n = {len(lines)}{note}"
        _draw_mean(axes, lines, GREY, label, ls="--", lw=1.6, zorder=1.5)


def _draw_sample_returns(axes: Axes, run: Run) -> None:
    """Mean and best return of an iteration's samples."""
    for name, colour, label in (("data/return_best", COLOURS[1], "best"), ("data/return_mean", COLOURS[0], "mean")):
        lines = run.lines(name)
        for line in lines.values() if len(lines) > 1 else ():
            axes.plot(*thinned(line), color=colour, lw=0.7, alpha=0.5)
        if averaged := run.averaged(lines) or list(lines.values()):
            _draw_mean(axes, [smoothed(line) for line in averaged], colour, f"{label} of an iteration", band=False)
    axes.legend(loc="best")
    _axis(axes, None)


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


def _path(run: Run) -> Figure:
    """The way of a search's mean through the plane, the first seed emphasised."""
    figure = Figure(figsize=(5.6, 5.2))
    axes = figure.subplots()
    xs, ys = run.lines("state/mean_0"), run.lines("state/mean_1")
    for i, seed in reversed(list(enumerate(ys))):
        (step, x), (_, y) = xs[seed], ys[seed]
        colour, label = (COLOURS[0], f"mean of seed {seed}") if i == 0 else (GREY, f"{len(ys) - 1} more" * (i == 1))
        axes.plot(x, y, "-o", color=colour, ms=3 if i == 0 else 2, lw=1.6 if i == 0 else 0.8, label=label or None,
                  zorder=3 if i == 0 else 2)  # fmt: skip
        if i == 0:
            axes.plot(
                x[0], y[0], "o", color=INK, ms=7, mfc="white", mew=1.5, zorder=4, label=f"start (step {step[0]:.0f})"
            )
            axes.plot(
                x[-1], y[-1], "s", color=INK, ms=7, mfc=colour, mew=1.2, zorder=4, label=f"end (step {step[-1]:.0f})"
            )
    optimum = run.config["env"].get("kwargs", {}).get("optimum")
    if optimum and len(optimum) == 2:
        axes.plot(*optimum, "*", color=COLOURS[5], ms=14, mec="white", zorder=5, label=f"optimum {list(optimum)}")
    axes.set(xlabel="μ[0]", ylabel="μ[1]", title=_title(run))
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(loc="best")
    return figure


def _axis(axes: Axes, clock: str | None) -> None:
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_major_locator(MaxNLocator(6 if clock else 4, integer=True, steps=[1, 2, 2.5, 5, 10]))
    if clock:
        axes.set_xlabel(CLOCKS[clock])


def _title(run: Run) -> str:
    title = " on ".join(names(run.config))
    if data := gallery.data_of(run.config):
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
