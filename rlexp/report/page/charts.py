"""Curves that zoom and hover, by Bokeh, whose wheel carries the JavaScript that a page needs.

Axes, grids and texts get their colours in the page, which is light or dark; lines have those of style.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from bokeh.embed import components
from bokeh.models import ColumnDataSource, DataRange1d, HoverTool, Legend, LegendItem, NumeralTickFormatter, Range1d
from bokeh.plotting import figure
from bokeh.resources import Resources

from rlexp.report.lines import Line, are_same, mean_band, prediction_band, thinned
from rlexp.report.page.coordinates import coordinates
from rlexp.report.style import BAND, BAND_FROM, PREDICTION, dash, mean_label
from rlexp.report.sweeps import Arm

TOOLBAR = "@media print { :host { display: none; } } .bk-tool-overflow { display: none !important; }"
FAINT = "faint"  # tag of the lines that the page draws less faint where it is dark
FEW = 6  # groups whose names stand above a chart; of more they stand beside it


@dataclass(frozen=True)
class Group:
    """Lines of one colour: a run's seeds, an arm's, an entry's."""

    name: str
    lines: Mapping[str, Line]  # by seed
    colour: str
    averaged: Sequence[Line] = ()  # what the mean is of
    reference: bool = False

    @property
    def drawn(self) -> list[Line]:
        return list(self.averaged or self.lines.values())


class Charts:
    """The charts of one page. Those that `share` an x axis zoom together."""

    def __init__(self) -> None:
        self.count = 0
        self.figures: dict[str, dict[str, figure]] = {}  # by the x axis they share, then by name
        self.ranges: dict[str, Range1d] = {}

    def add(
        self,
        groups: Sequence[Group],
        x_label: str,
        y_label: str,
        *,
        title: str = "",
        height: int = 380,
        share: str = "",
    ) -> str:
        """Draw a chart; returns the name under which `embed` has it.

        share: charts of the same word have one x axis; empty: none but this one
        """
        name = f"chart{self.count}"
        self.count += 1
        share = share or name
        small = height < 300
        plot = figure(
            height=height,
            sizing_mode="stretch_width",
            tools="pan,box_zoom,wheel_zoom,reset,save",
            active_drag="box_zoom",
            title=title or None,
            x_axis_label=x_label,
            y_axis_label=y_label,
            name=name,
            output_backend="canvas",
        )
        plot.toolbar.logo = None
        plot.toolbar.autohide = small
        plot.toolbar.stylesheets = [TOOLBAR]
        for each in ("background_fill_color", "border_fill_color", "outline_line_color"):
            setattr(plot, each, None)
        plot.xaxis.formatter = NumeralTickFormatter(format="0.[0]a")
        plot.axis.axis_label_text_font_style = "normal"
        plot.x_range = self._range(share, groups)
        plot.y_range = _heights(groups)
        items = []
        for place, group in enumerate(groups):
            below = sum(are_same(group.drawn, other.drawn) for other in groups[:place] if not other.reference)
            items.append(self._draw(plot, group, small, below))
        if not small:
            self._legend(plot, items)
        plot.add_tools(
            HoverTool(
                tooltips=[("", "@name"), (x_label, "$snap_x{0,0}"), (y_label, "$snap_y{0,0.[0000]}")],
                line_policy="nearest",
            )
        )
        self.figures.setdefault(share, {})[name] = plot
        return name

    def add_coordinates(self, arms: Sequence[Arm], metric: str) -> str:
        """Draw a sweep's parallel coordinates; returns the name under which `embed` has them, or nothing."""
        name = f"chart{self.count}"
        plot = coordinates(arms, metric, name)
        if plot is None:
            return ""
        self.count += 1
        self.figures[name] = {name: plot}
        return name

    def _range(self, share: str, groups: Sequence[Group]) -> Range1d:
        ends = [float(x[-1]) for group in groups for x, _ in [*group.lines.values(), *group.averaged]]
        end = max(ends, default=1.0)
        known = self.ranges.setdefault(share, Range1d(0, end or 1.0))
        known.end = max(known.end, end)
        known.reset_end = known.end
        return known

    def _draw(self, plot: figure, group: Group, small: bool, below: int) -> LegendItem:
        """The seeds' lines and, of several, their mean; where there are enough of them its interval, or a reference's
        prediction band. Dashed, where it would hide the same lines `below` it."""
        averaged = list(group.averaged)
        several = len(averaged) > 1
        look = {"line_color": group.colour, "line_width": 1.8}
        if several:
            look |= {"line_width": 0.9, "line_alpha": 0.5}
        dashes: str | list[int] = "solid"
        if below:
            dashes = [3 * length for length in dash(below)]  # pixels
        if group.reference:
            dashes = "dashed"
        seeds = {f"{group.name}, seed {seed}": line for seed, line in group.lines.items()}
        drawn = [plot.multi_line("x", "y", source=_source(seeds), line_dash=dashes, **look)]
        if several:
            drawn[0].glyph.tags = [FAINT]
        points = [line for line in seeds.values() if len(line[0]) == 1]
        if points:
            x, y = np.concatenate(points, axis=1)
            drawn.append(plot.scatter(x, y, color=group.colour, size=5))
        if not several:
            return LegendItem(label=group.name, renderers=drawn)
        band, what = mean_band, BAND
        if group.reference:  # a right curve often leaves the interval of a mean
            band, what = prediction_band, PREDICTION
        x, mean, half = band(averaged)
        label = f"{group.name}: {mean_label(len(averaged), what)}"
        source = _source({label: (x, mean)})
        look |= {"line_width": 2.4, "line_alpha": 1.0}
        drawn.append(plot.multi_line("x", "y", source=source, line_dash=dashes, **look))
        if len(averaged) >= BAND_FROM and not small:
            drawn.append(plot.varea(x=x, y1=mean - half, y2=mean + half, color=group.colour, fill_alpha=0.13))
        return LegendItem(label=label, renderers=drawn)

    def _legend(self, plot: figure, items: list[LegendItem]) -> None:
        place = "right"
        if len(items) <= FEW:
            place = "above"
        legend = Legend(
            items=items,
            click_policy="hide",
            location="top_left",
            background_fill_color=None,
            border_line_color=None,
            label_text_font_size="11px",
            spacing=0,
            margin=4,
        )
        plot.add_layout(legend, place)

    def embed(self) -> tuple[str, dict[str, str]]:
        """The page's scripts, and the HTML of each chart by its name."""
        scripts = []
        charts: dict[str, str] = {}
        for together in self.figures.values():
            script, found = components(together)
            scripts.append(script)
            charts |= found
        return "\n".join(scripts), charts


def _heights(groups: Sequence[Group]) -> Range1d | DataRange1d:
    """Where all lines are seen: a band of few seeds can be higher than all the rest."""
    values = [y for group in groups for _, y in [*group.lines.values(), *group.averaged]]
    drawn = np.concatenate([[], *values])
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) == 0 or drawn.min() == drawn.max():
        return DataRange1d()
    low, high = float(drawn.min()), float(drawn.max())
    margin = 0.1 * (high - low)
    return Range1d(low - margin, high + margin)


def library() -> str:
    """Bokeh's JavaScript, as a page has it inside."""
    return Resources(mode="inline", components=["bokeh"]).render_js()


def _source(lines: Mapping[str, Line]) -> ColumnDataSource:
    """A row a line, with its name."""
    few = [thinned(line) for line in lines.values()]
    return ColumnDataSource({"x": [_short(x) for x, _ in few], "y": [_short(y) for _, y in few], "name": list(lines)})


def _short(values: np.ndarray) -> np.ndarray:
    """In single precision, which no eye can tell from double, and which takes half the place."""
    if np.abs(values).max(initial=0) < 2**24:
        return values.astype(np.float32)
    return values
