"""The picture of data sets: how the returns of their episodes are spread.

One panel for each; those of one environment share their axis of returns, and stand in one row where all environments
have the same kinds. Where normalised scores are defined they stand above.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rlexp.report.score_axis import scales
from rlexp.report.style import COLOURS, INK, STYLE, panel_grid, save

# Of the kinds that this project makes; other data have the sixth.
COLOUR_OF_KIND = {
    "random": COLOURS[4],
    "medium": COLOURS[0],
    "medium-replay": COLOURS[1],
    "expert": COLOURS[2],
    "medium-expert": COLOURS[3],
}
FAINT = "#8A8A8A"
BINS = 50


@dataclass(frozen=True)
class Spread:
    """What is drawn of one data set."""

    name: str
    env: str
    kind: str
    return_E: np.ndarray
    random_return: float | None = None  # normalised score 0
    expert_return: float | None = None  # normalised score 100


def draw(spreads: list[Spread], path: Path) -> None:
    """One picture of all, as PNG. Whoever looks while it is written sees the old one."""
    rows = _by_environment(spreads)
    columns = _columns(rows)
    lines = math.ceil(len(spreads) / columns)
    size = (0.6 + 3.5 * columns, 0.4 + 2.65 * lines)
    if len(spreads) == 1:
        size = (6.4, 4.2)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size)
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.1)  # type: ignore[union-attr, call-arg]
        panels = panel_grid(figure, lines, columns, len(spreads))
        for place, (axes, spread) in enumerate(zip(panels, spreads, strict=True)):
            _draw_panel(axes, spread, _edges(rows[spread.env]))
            if place % columns == 0:
                axes.set_ylabel("episodes")
            if place >= len(spreads) - columns:
                axes.set_xlabel("return of an episode")
        save(figure, path)


def _by_environment(spreads: list[Spread]) -> dict[str, list[Spread]]:
    rows: dict[str, list[Spread]] = {}
    for spread in spreads:
        rows.setdefault(spread.env, []).append(spread)
    return rows


def _columns(rows: dict[str, list[Spread]]) -> int:
    """A column for each kind where several environments have the same kinds, else at most three."""
    kinds = {tuple(spread.kind for spread in row) for row in rows.values()}
    if len(kinds) == 1 and len(rows) > 1:
        return len(kinds.pop())
    return min(3, sum(len(row) for row in rows.values()))


def _edges(row: list[Spread]) -> np.ndarray:
    """Common bins of one environment's data sets."""
    returns = np.concatenate([spread.return_E for spread in row])
    low = float(returns.min())
    high = float(returns.max())
    if low == high:
        low -= 0.5
        high += 0.5
    return np.linspace(low, high, BINS + 1)


def _draw_panel(axes: Axes, spread: Spread, edges: np.ndarray) -> None:
    mean = spread.return_E.mean()
    fill = COLOUR_OF_KIND.get(spread.kind, COLOURS[5])
    look: Any = {"alpha": 0.85, "edgecolor": "white", "linewidth": 0.4}
    axes.hist(spread.return_E, edges.tolist(), color=fill, **look)
    axes.axvline(mean, color=INK, lw=1.2, dashes=(4, 2))
    middle = (edges[0] + edges[-1]) / 2
    _annotate(axes, spread, _digits(edges), left=mean > middle)  # where the bars are not
    axes.set_title(spread.name, fontweight="bold", pad=15)
    axes.set_xlim(edges[0], edges[-1])
    axes.margins(y=0.12)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x", visible=False)
    if spread.random_return is not None and spread.expert_return is not None:
        _draw_scores(axes, spread.random_return, spread.expert_return)


def _annotate(axes: Axes, spread: Spread, digits: int, left: bool) -> None:
    """Number, mean and standard deviation (ddof 1) of the episodes' returns, in the upper left or right corner."""
    total_E = spread.return_E
    std = total_E.std(ddof=1) if len(total_E) > 1 else 0.0
    lines = [
        f"{len(total_E):,} episodes",
        f"mean {total_E.mean():,.{digits}f}",
        f"std {std:,.{digits}f}",
    ]
    x, side = (0.03, "left") if left else (0.97, "right")
    axes.annotate(
        "\n".join(lines),
        (x, 0.95),
        xycoords="axes fraction",
        va="top",
        ha=side,
        fontsize=8,
        color="#444444",
        linespacing=1.35,
    )


def _draw_scores(axes: Axes, random_return: float, expert_return: float) -> None:
    """A second axis, above: 0 where a random policy is, 100 where the expert is."""
    above = axes.secondary_xaxis("top", functions=scales(random_return, expert_return))
    above.xaxis.set_major_locator(MaxNLocator(5))
    above.tick_params(labelsize=7, colors=FAINT, length=2, pad=1)
    above.spines["top"].set_visible(False)
    axes.set_title("normalised score", loc="right", fontsize=7, color=FAINT, pad=15)


def _digits(edges: np.ndarray) -> int:
    """Decimals that a number of this spread deserves."""
    magnitude = math.floor(math.log10(edges[-1] - edges[0]))
    return max(0, 2 - magnitude)
