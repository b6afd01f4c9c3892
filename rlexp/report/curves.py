"""The picture of one run: evaluation return of its seeds, beside the gallery's, and its losses.

Drawn from what the seeds have written so far, again and again while they train.
"""

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlexp.report import episodes, path
from rlexp.report.differences import MEANINGLESS, SETTING, differences
from rlexp.report.history import Run
from rlexp.report.lines import Line, moves, smoothed, thinned
from rlexp.report.naming import data_of, title
from rlexp.report.references import Entry, entry_of
from rlexp.report.score_axis import beside_returns
from rlexp.report.style import (
    BAND_FROM,
    CLOCKS,
    COLOURS,
    GREY,
    INK,
    PREDICTION,
    STYLE,
    clock_axis,
    count_axis,
    draw_mean,
    draw_prediction,
    fit_lines,
    mean_label,
    nth_colour,
    save,
)
from rlexp.report.words import count, phrase, quantity, spoken

FEW = 5  # seeds that have a colour and a label each
ROWS = 3  # of small panels
TITLE = 64  # characters that there is room for above the large panel
NAMED = 2  # settings, in the legend, in which the reference is another
SAMPLES = "sample return"  # the panel of best and mean return of what was tried
# A reward is learned in passes over all comparisons, many of them in one step: its panels count these.
REWARD = ("loss/reward", "data/reward_accuracy")


def curves(folder: Path, picture: Path | None = None, *, reference: bool | str = True) -> None:
    """Draw `folder`/curves.png (or `picture`): evaluation return, losses, and sample returns where there are two kinds.

    Where the metrics hold a search in the plane, also draws `folder`/path.png; of what learns from recorded episodes
    or from an expert, `folder`/episodes.png. Nothing is drawn before the first evaluation.

    reference: with the gallery's curve underneath, the run's own or the entry of that name
    """
    run = Run.read(folder)
    if isinstance(reference, str):
        run.config["reference"] = reference
    if not run.lines("eval/return_mean"):
        return
    entry = entry_of(run.about) if reference else None
    with matplotlib.rc_context(STYLE):
        save(_figure(run, entry), picture or folder / "curves.png")
        if picture is None and path.in_the_plane(run):
            save(path.draw(run), folder / "path.png")
        if picture is None and episodes.imitates(run):
            save(episodes.draw(run), folder / "episodes.png")


def of_entry(entry: Run, picture: Path) -> None:
    """Draw what an entry of the gallery holds: its evaluations, under its name. Losses are with its run alone."""
    with matplotlib.rc_context(STYLE):
        figure = _figure(entry, None)
        figure.axes[0].set_title(f"{title(entry)} ({entry.record['name']})", fontweight="bold")
        save(figure, picture)


def _figure(run: Run, entry: Entry | None) -> Figure:
    """The returns in a large panel; the losses to its right, in columns of at most ROWS small ones."""
    panels = _panel_names(run)
    columns = math.ceil(len(panels) / ROWS)
    rows = math.ceil(len(panels) / max(columns, 1)) or 1
    figure = Figure(figsize=(6.2 + 3.1 * columns, max(4.0, 1.9 * rows)))
    grid = figure.add_gridspec(rows, columns + 1, width_ratios=[2.0] + [1.0] * columns)
    main = figure.add_subplot(grid[:, 0])
    _draw_returns(main, run, entry)
    for place, name in enumerate(panels):
        column, row = divmod(place, rows)
        axes = figure.add_subplot(grid[row, 1 + column])
        if name in REWARD:
            _draw_passes(axes, run, name)
            continue
        _draw_panel(axes, run, entry, name)
        axes.set_xlim(main.get_xlim())
        below = panels[place + 1 : place + 2]
        is_lowest = row == rows - 1 or not below or below[0] in REWARD
        if not is_lowest:
            axes.tick_params(labelbottom=False)
        else:
            axes.set_xlabel(_panel_x_label(run), fontsize=8)
    figure.align_ylabels()
    return figure


def _panel_x_label(run: Run) -> str:
    """What stands under the lowest small panel of each column."""
    clock = CLOCKS[run.clock]
    if len(run.rows) == 1:
        return clock
    return f"{clock}\nthin: each seed; bold: their mean, smoothed"


def _panel_names(run: Run) -> list[str]:
    """Losses that have been logged at more than one step, and SAMPLES where an iteration has a best return."""
    losses = [name for name in run.metrics("loss/") if moves(run.lines(name).values())]
    found = [name for name in losses if name not in REWARD]
    found += [name for name in REWARD if run.lines(name)]
    if run.lines("data/return_best"):
        found.append(SAMPLES)
    return found


def _draw_returns(axes: Axes, run: Run, entry: Entry | None) -> None:
    """The evaluations of every seed, their mean with its band, and the reference under them."""
    lines = run.lines("eval/return_mean")
    end = _end(lines)
    if entry is not None:
        _draw_reference(axes, run, entry, "return_mean", end)
    _draw_seeds(axes, run, lines, _seed_labels(run, lines), lw=0.9, alpha=0.75)
    averaged = run.averaged(lines)
    if len(averaged) > 1:
        draw_mean(axes, averaged, INK, mean_label(len(averaged)))
    fit_lines(axes)
    _mark_novices(axes, run)
    clock_axis(axes, run.clock)
    kind = run.record["eval"]
    axes.set_ylabel(f"evaluation return ({kind['actions']} actions, {count(kind['episodes'], 'episode')})")
    beside_returns(axes, run.config["env"])
    axes.set_xlim(0, 1.01 * end or 1)
    axes.set_title(textwrap.fill(_title(run, entry), TITLE), fontweight="bold")
    axes.legend(loc="best")


def _mark_novices(axes: Axes, run: Run) -> None:
    """Where the novices end, whose episodes a reward is learned from, and the policy begins that is trained on it."""
    epochs = run.config["algo"].get("novice_epochs")
    if epochs:
        axes.axvline(epochs, color=GREY, ls=":", lw=1.2, zorder=1, label="novices end")


def _title(run: Run, entry: Entry | None) -> str:
    """What is drawn and, where it is judged by the entry beneath it, the verdict."""
    judged = run.record.get("verdict")
    if not judged or entry is None or judged.get("reference") != entry.name:
        return title(run)
    return f"{title(run)}: {phrase(judged['verdict'], entry.name)}"


def _draw_panel(axes: Axes, run: Run, entry: Entry | None, name: str) -> None:
    """A small panel of a noisy metric: the mean is smoothed and has no band."""
    axes.set_title(spoken(name))
    axes.set_ylabel("return" if name == SAMPLES else quantity(name))
    if name == SAMPLES:
        _draw_sample_returns(axes, run)
        return
    if entry is not None:
        _draw_reference(axes, run, entry, name, _end(run.lines("eval/return_mean")))
    lines = run.lines(name)
    _draw_seeds(axes, run, lines, {}, lw=0.6, alpha=0.55)
    averaged = run.averaged(lines)
    if len(averaged) > 1:
        draw_mean(axes, [smoothed(line) for line in averaged], INK, None, band=False)
    fit_lines(axes)
    count_axis(axes, 4)


def _draw_passes(axes: Axes, run: Run, name: str) -> None:
    """A small panel of what is learned in passes over the same comparisons: each seed's, one after another."""
    lines = {}
    for seed, (_, y) in run.lines(name).items():
        lines[seed] = (np.arange(1.0, len(y) + 1), y)
    axes.set_title(spoken(name))
    axes.set_ylabel(quantity(name))
    axes.set_xlabel("passes over the comparisons", fontsize=8)
    _draw_seeds(axes, run, lines, {}, lw=0.9, alpha=0.75)
    fit_lines(axes)
    count_axis(axes, 4)


def _end(lines: Mapping[str, Line]) -> float:
    """How far the furthest seed has come."""
    return max(float(x[-1]) for x, _ in lines.values())


def _seed_labels(run: Run, lines: Mapping[str, Line]) -> dict[str, str]:
    """What the legend says of each seed; of more than FEW one label stands for all, and for each that failed."""
    failed = [seed for seed in lines if run.status(seed) == "failed"]
    others = [seed for seed in lines if seed not in failed]
    labels = {seed: f"seed {seed}, failed" for seed in failed}
    if len(lines) <= FEW:
        labels |= {seed: f"seed {seed}" for seed in others}
    elif others:
        labels[others[0]] = f"{len(lines)} seeds"
    return labels


def _draw_seeds(
    axes: Axes,
    run: Run,
    lines: Mapping[str, Line],
    labels: Mapping[str, str],
    lw: float,
    alpha: float,
) -> None:
    """A thin line per seed, a bold one where there is only one; a failed seed's is dotted and ends in a cross."""
    for place, (seed, line) in enumerate(lines.items()):
        look: dict[str, Any] = {"color": nth_colour(place), "lw": lw, "alpha": alpha}
        if len(lines) > FEW:
            look["color"] = COLOURS[4]
        if len(lines) == 1:
            look["lw"] = 1.6
        x, y = line
        if len(x) == 1:
            look["marker"] = "."  # a line of one point would not be seen
        if run.status(seed) == "failed":
            look["ls"] = ":"
            axes.plot(x[-1], y[-1], "x", color=INK, markersize=6, markeredgewidth=1.6, zorder=5)
        axes.plot(*thinned(line), label=labels.get(seed), **look)


def _draw_reference(axes: Axes, run: Run, entry: Entry, column: str, end: float) -> None:
    """The mean of an entry's seeds in this run's clock, as far as `end`. Of returns also where one more seed lies in
    95 of 100 cases or, below BAND_FROM seeds, each seed.

    Nothing where the entry has no such column: other people's curves may have one of the loss, ours have not.
    """
    found = entry.lines(column, run.clock)
    lines = [_cut(line, end) for line in found.values()]
    if not lines:
        return
    is_return = column == "return_mean"
    if is_return and len(lines) < BAND_FROM:
        for x, y in lines:
            axes.plot(x, y, color=GREY, ls="--", lw=0.7, alpha=0.6, zorder=1.5)
    elif is_return:
        draw_prediction(axes, lines, GREY, zorder=1.0)
    label = _reference_label(run, entry, len(lines))
    draw_mean(axes, lines, GREY, label, band=False, ls="--", lw=1.6, zorder=1.5)


def _cut(line: Line, end: float) -> Line:
    """The part of a line up to x = `end`."""
    x, y = line
    kept = np.append(x[x < end], min(end, x[-1]))
    return kept, np.interp(kept, x, y)


def _reference_label(run: Run, entry: Entry, seeds: int) -> str:
    """What the legend says of an entry: how it differs from the run in actions, data or settings, too."""
    label = f"gallery {entry.name}: {mean_label(seeds, PREDICTION)}"
    actions = entry.card["eval"]["actions"]
    if actions != run.record["eval"]["actions"]:
        label += f", {actions} actions"
    data = data_of(entry.card.get("config", {}))
    if data not in (None, data_of(run.config)):
        label += f", on {data}"
    found = differences({"config": run.config}, {"config": entry.card.get("config")})
    other = [one.what for one in found if one.kind in (SETTING, MEANINGLESS) and one.what != "data"]
    if other:
        more = f" and {len(other) - NAMED} more" if len(other) > NAMED else ""
        label += f",\nother {', '.join(other[:NAMED])}{more}"
    return label


def _draw_sample_returns(axes: Axes, run: Run) -> None:
    """Best and mean return of an iteration's samples, smoothed."""
    colours = {"best": COLOURS[1], "mean": COLOURS[0]}
    for kind, colour in colours.items():
        lines = run.lines(f"data/return_{kind}")
        if len(lines) > 1:
            for line in lines.values():
                axes.plot(*thinned(line), color=colour, lw=0.7, alpha=0.5)
        averaged = run.averaged(lines) or list(lines.values())
        if averaged:
            smooth = [smoothed(line) for line in averaged]
            draw_mean(axes, smooth, colour, f"{kind} of an iteration", band=False)
    axes.legend(loc="best")
    count_axis(axes, 4)
