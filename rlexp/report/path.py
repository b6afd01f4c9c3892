"""The picture of a search in the plane: the way that its mean has gone."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlexp.report.history import Run
from rlexp.report.naming import title
from rlexp.report.style import COLOURS, GREY, INK


def in_the_plane(run: Run) -> bool:
    """Whether a run searches among points of two coordinates."""
    return bool(run.lines("state/mean_1")) and not run.lines("state/mean_2")


def draw(run: Run) -> Figure:
    """The ways of all seeds; the first seed's emphasised, with its start, its end and the optimum if that is known."""
    figure = Figure(figsize=(5.6, 5.2))
    axes = figure.subplots()
    first, *others = run.lines("state/mean_1")
    for seed in reversed(others):
        label = f"{len(others)} more" if seed == others[0] else None
        _way(axes, run, seed, color=GREY, ms=2, lw=0.8, zorder=2, label=label)
    _way(axes, run, first, color=COLOURS[0], ms=3, lw=1.6, zorder=3, label=f"mean of seed {first}")
    _ends(axes, run, first)
    optimum = run.config["env"].get("kwargs", {}).get("optimum")
    if optimum and len(optimum) == 2:
        label = f"optimum {list(optimum)}"
        axes.plot(*optimum, "*", color=COLOURS[5], ms=14, mec="white", zorder=5, label=label)
    axes.set(xlabel="μ[0]", ylabel="μ[1]", title=title(run))
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(loc="best")
    return figure


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
