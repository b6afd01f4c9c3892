"""The picture of a search in the plane: the way that its mean has gone."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlexp.report.history import Run
from rlexp.report.naming import title
from rlexp.report.style import COLOURS, GREY, INK

SPHERE = "rlexp/Sphere-v0"


def in_the_plane(run: Run) -> bool:
    """Whether a run searches among points of two coordinates."""
    return bool(run.lines("state/mean_1")) and not run.lines("state/mean_2")


def draw(run: Run) -> Figure:
    """The ways of all seeds; the first seed's emphasised, with its start, its end and the optimum if that is known.

    To the right the last quarter of the first seed's way, which the whole picture is too small for.
    """
    figure = Figure(figsize=(10.4, 5.2))
    whole, end = figure.subplots(1, 2)
    first, *_ = run.lines("state/mean_1")
    for axes in (whole, end):
        _ways(axes, run)
        axes.set(xlabel="μ[0]", ylabel="μ[1]")
    whole.set_aspect("equal", adjustable="datalim")
    end.set_aspect("equal", adjustable="box")
    _zoom(end, run, first)
    whole.set_title(title(run))
    end.set_title(f"the last quarter of seed {first}'s way")
    whole.legend(loc="best")
    figure.draw_without_rendering()  # the limits are known from here on
    for axes in (whole, end):
        _contours(axes, run)
    return figure


def _zoom(axes: Axes, run: Run, seed: str) -> None:
    """Show the last quarter of a seed's way, and the optimum."""
    _, x = run.lines("state/mean_0")[seed]
    _, y = run.lines("state/mean_1")[seed]
    late = slice(3 * len(x) // 4, None)
    gaps = np.hypot(x[late] - x[-1], y[late] - y[-1])
    optimum = _optimum(run)
    if optimum:
        gaps = np.append(gaps, np.hypot(optimum[0] - x[-1], optimum[1] - y[-1]))
    reach = 1.2 * float(gaps.max()) or 1.0
    axes.set_xlim(x[-1] - reach, x[-1] + reach)
    axes.set_ylim(y[-1] - reach, y[-1] + reach)


def _optimum(run: Run) -> list[float] | None:
    """Where the function is largest, if the environment says so."""
    optimum = run.config["env"].get("kwargs", {}).get("optimum")
    return list(optimum) if optimum and len(optimum) == 2 else None


def _contours(axes: Axes, run: Run) -> None:
    """Lines of equal value of the function, where it is the sphere's: minus the squared distance to its optimum."""
    optimum = _optimum(run)
    if optimum is None or run.config["env"].get("id") != SPHERE:
        return
    x_X = np.linspace(*axes.get_xlim(), 120)
    y_Y = np.linspace(*axes.get_ylim(), 120)
    x_YX, y_YX = np.meshgrid(x_X, y_Y)
    value_YX = -((x_YX - optimum[0]) ** 2) - (y_YX - optimum[1]) ** 2
    levels = axes.contour(x_YX, y_YX, value_YX, 7, colors=GREY, linewidths=0.6, linestyles="solid", zorder=0.5)
    axes.clabel(levels, fontsize=7, fmt="%.4g")
    axes.grid(False)


def _ways(axes: Axes, run: Run) -> None:
    first, *others = run.lines("state/mean_1")
    for seed in reversed(others):
        label = f"{len(others)} more" if seed == others[0] else None
        _way(axes, run, seed, color=GREY, ms=2, lw=0.8, zorder=2, label=label)
    _way(axes, run, first, color=COLOURS[0], ms=3, lw=1.6, zorder=3, label=f"mean of seed {first}")
    _ends(axes, run, first)
    optimum = _optimum(run)
    if optimum:
        axes.plot(*optimum, "*", color=COLOURS[5], ms=14, mec="white", zorder=3.5, label=f"optimum {optimum}")


def _way(axes: Axes, run: Run, seed: str, **style: Any) -> None:
    _, x = run.lines("state/mean_0")[seed]
    _, y = run.lines("state/mean_1")[seed]
    axes.plot(x, y, "-o", **style)


def _ends(axes: Axes, run: Run, seed: str) -> None:
    """Where a seed's way begins, a ring, and where it ends, a square."""
    step, x = run.lines("state/mean_0")[seed]
    _, y = run.lines("state/mean_1")[seed]
    common: Any = {"color": INK, "ms": 7, "zorder": 4}
    start = f"start (step {step[0]:.0f})"
    end = f"end (step {step[-1]:.0f})"
    axes.plot(x[0], y[0], "o", mfc="white", mew=1.5, label=start, **common)
    axes.plot(x[-1], y[-1], "s", mfc=COLOURS[0], mew=1.2, label=end, **common)
