"""Pictures of runs and studies, drawn from what their seeds have written so far.

A band is the 95 % Student-t interval of the mean over seeds, and is labelled so. Means are taken at common steps,
interpolated between a seed's own and never extrapolated. Matplotlib without pyplot, hence without global state.
"""

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlexp.report.history import Line, Run, names, smoothed, thinned
from rlexp.report.references import card, data_of, find
from rlexp.report.style import BAND, COLOURS, GREY, INK, STYLE, _axis, _draw_mean, _fit, _moves, _save, _title
from rlexp.util.errors import UserError


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


def _draw_reference(axes: Axes, run: Run, end: float, column: str = "return_mean") -> None:
    """The gallery's curve of the same algorithm and environment, in this run's clock and as far as `end`; nothing where
    the entry has no such column (other people's curves may have one of the loss)."""
    try:
        data = data_of(run.config)
        file = find(run.config.get("reference"), "_".join(names(run.config)), data)
    except UserError:  # it was there when the run began; a training run is not stopped for a picture
        return
    if file is None:
        return
    seeds: dict[str, list[tuple[float, float]]] = {}
    with open(file, newline="") as table:
        for row in csv.DictReader(table):
            if column in row:
                seeds.setdefault(row["seed"], []).append((float(row[run.clock]), float(row[column])))
    about = card(file)
    lines = []
    for seed, points in seeds.items():
        if about["seeds"][seed]["status"] == "done":
            x, y = np.array(points).T
            cut = np.append(x[x < end], min(end, x[-1]))
            lines.append((cut, np.interp(cut, x, y)))
    if lines:
        actions = about["eval"]["actions"]
        note = "" if actions == run.record["eval"]["actions"] else f", {actions} actions"
        note += "" if (theirs := data_of(about.get("config", {}))) in (data, None) else f", on {theirs}"
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
