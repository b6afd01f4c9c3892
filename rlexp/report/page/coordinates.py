"""Parallel coordinates: an axis for each option that a sweep varies and one for the result, a line a combination."""

import math
from collections.abc import Sequence

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool
from bokeh.palettes import Viridis256
from bokeh.plotting import figure
from bokeh.transform import linear_cmap

from rlexp.report.sweeps import Arm

TICKS = 5  # at most, of the result's axis
GAP = 0.06  # of an axis, between two texts
MANY = 6  # names of axes that stand side by side


def coordinates(arms: Sequence[Arm], metric: str, name: str) -> figure | None:
    """The chart of the arms that have a result, of `metric`, best the brightest; None where there are not two."""
    scored = [arm for arm in arms if arm.values]
    if len(scored) < 2:
        return None
    keys = list(scored[0].options)
    axes = [places([arm.options[key] for arm in scored]) for key in keys]
    result = np.array([arm.mean for arm in scored])
    low, high = float(result.min()), float(result.max())
    width = (high - low) or 1.0
    heights = [[axis[arm.options[key]] for key, axis in zip(keys, axes, strict=True)] for arm in scored]
    lines = [[*each, (value - low) / width] for each, value in zip(heights, result, strict=True)]
    order = np.argsort(result)  # the best lies on top
    source = ColumnDataSource(
        {
            "x": [list(range(len(keys) + 1)) for _ in order],
            "y": [lines[place] for place in order],
            "result": result[order],
            "name": [scored[place].said for place in order],
            "seeds": [len(scored[place].values) for place in order],
        }
    )
    plot = figure(height=340, sizing_mode="stretch_width", tools="save", name=name, x_range=(-0.4, len(keys) + 0.4))
    plot.toolbar.logo = None
    for each in ("background_fill_color", "border_fill_color", "outline_line_color"):
        setattr(plot, each, None)
    colour = linear_cmap("result", Viridis256[:235], low, high)
    drawn = plot.multi_line("x", "y", source=source, line_color=colour, line_width=2, line_alpha=0.75)
    tips = [("", "@name"), (metric, "@result{0,0.[000]}"), ("seeds", "@seeds")]
    plot.add_tools(HoverTool(renderers=[drawn], tooltips=tips))
    ends = {f"{value:.4g}": (value - low) / width for value in np.linspace(low, high, TICKS)}
    for x, ticks in enumerate([*axes, ends]):
        plot.segment(x, -0.02, x, 1.02, line_color="#888888", line_width=1)
        for text, y in apart(ticks).items():
            plot.text([x], [y], [text], x_offset=5, text_baseline="middle", text_font_size="11px")
    if len(keys) > MANY:
        plot.xaxis.major_label_orientation = 0.4
    plot.xaxis.ticker = list(range(len(keys) + 1))
    plot.xaxis.major_label_overrides = dict(enumerate([*keys, metric]))
    plot.yaxis.visible = False
    plot.grid.visible = False
    return plot


def places(values: Sequence[str]) -> dict[str, float]:
    """Where on an axis from 0 to 1 each value stands: numbers in their order, by their logarithm where they span
    tenfold or more; words side by side."""
    distinct = list(dict.fromkeys(values))
    try:
        numbers = {text: float(text) for text in distinct}
    except ValueError:
        numbers = {text: float(place) for place, text in enumerate(distinct)}
    else:
        if min(numbers.values()) > 0 and max(numbers.values()) >= 10 * min(numbers.values()):
            numbers = {text: math.log(number) for text, number in numbers.items()}
    low = min(numbers.values())
    width = max(numbers.values()) - low
    if width == 0 or not math.isfinite(width):
        return dict.fromkeys(distinct, 0.5)
    return {text: (number - low) / width for text, number in numbers.items()}


def apart(ticks: dict[str, float]) -> dict[str, float]:
    """Those of an axis's ticks whose texts do not lie over one another, the lowest first."""
    kept: dict[str, float] = {}
    for text, y in sorted(ticks.items(), key=lambda tick: tick[1]):
        if not kept or y - max(kept.values()) >= GAP:
            kept[text] = y
    return kept
