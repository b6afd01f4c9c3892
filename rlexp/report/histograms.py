"""The picture of data sets: how the returns of their episodes are spread.

One panel for each; those of one environment share their axis of returns, and stand in one row where all environments
have the same kinds. Where normalised scores are defined they stand above.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rlexp.report.style import COLOURS, INK, STYLE

PLACES = {"random": 4, "medium": 0, "medium-replay": 1, "expert": 2, "medium-expert": 3}  # of colours


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
    rows = {env: [s for s in spreads if s.env == env] for env in dict.fromkeys(s.env for s in spreads)}
    regular = len({tuple(s.kind for s in row) for row in rows.values()}) == 1 and len(rows) > 1
    columns = len(next(iter(rows.values()))) if regular else min(3, len(spreads))
    lines = -(-len(spreads) // columns)
    size = (6.4, 4.2) if len(spreads) == 1 else (0.6 + 3.5 * columns, 0.4 + 2.65 * lines)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size)
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.1)  # type: ignore[union-attr, call-arg]
        panels = list(figure.subplots(lines, columns, squeeze=False).flat)
        for place, (axes, spread) in enumerate(zip(panels, spreads, strict=False)):
            _panel(axes, spread, _edges(rows[spread.env]))
            if place % columns == 0:
                axes.set_ylabel("episodes")
            if place >= len(spreads) - columns:
                axes.set_xlabel("return of an episode")
        for axes in panels[len(spreads) :]:
            axes.remove()
        part = path.with_name(f".part_{path.name}")
        figure.savefig(part, format="png")
        os.replace(part, path)


def _edges(row: list[Spread]) -> np.ndarray:
    """Common bins of one environment's data sets."""
    returns = np.concatenate([s.return_E for s in row])
    low, high = float(returns.min()), float(returns.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, 51)


def _panel(axes: Axes, spread: Spread, edges: np.ndarray) -> None:
    colour = COLOURS[PLACES.get(spread.kind, 5)]
    total = spread.return_E
    axes.hist(total, edges.tolist(), color=colour, alpha=0.85, edgecolor="white", linewidth=0.4)
    axes.axvline(total.mean(), color=INK, lw=1.2, dashes=(4, 2))
    std = total.std(ddof=1) if len(total) > 1 else 0.0
    right = total.mean() > (edges[0] + edges[-1]) / 2  # the note stands where the bars are not
    axes.annotate(
        f"{len(total):,} episodes\nmean {total.mean():,.{_digits(edges)}f}\nstd {std:,.{_digits(edges)}f}",
        (0.03 if right else 0.97, 0.95), xycoords="axes fraction", va="top", ha="left" if right else "right",
        fontsize=8, color="#444444", linespacing=1.35,
    )  # fmt: skip
    axes.set_title(spread.name, fontweight="bold", pad=15)
    axes.set_xlim(edges[0], edges[-1])
    axes.margins(y=0.12)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x", visible=False)
    low, high = spread.random_return, spread.expert_return
    if low is not None and high is not None:
        span = (high - low) / 100
        above = axes.secondary_xaxis("top", functions=(lambda x: (x - low) / span, lambda s: low + s * span))  # type: ignore[operator]
        above.xaxis.set_major_locator(MaxNLocator(5))
        above.tick_params(labelsize=7, colors="#8A8A8A", length=2, pad=1)
        above.spines["top"].set_visible(False)
        axes.set_title("normalised score", loc="right", fontsize=7, color="#8A8A8A", pad=15)


def _digits(edges: np.ndarray) -> int:
    """Decimals that a number of this spread deserves."""
    return max(0, 2 - int(np.floor(np.log10(edges[-1] - edges[0]))))
