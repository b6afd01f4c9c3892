"""What learns from recorded episodes or from an expert: mean, median and best return of an evaluation, and the losses.

The picture that hand-outs on imitation ask for: two panels, both with their axes.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlexp.report.history import Run
from rlexp.report.lines import Line, are_same, moves, smoothed, thinned
from rlexp.report.naming import data_of, title
from rlexp.report.style import clock_axis, dashes, draw_mean, fit_lines, nth_colour
from rlexp.report.words import count

KINDS = {"mean": "mean", "median": "median", "max": "max"}  # of an evaluation's episodes, by the end of the metric


def imitates(run: Run) -> bool:
    """Whether a run learns from recorded episodes or from an expert's answers, and has been evaluated."""
    expert = run.config.get("expert") or {}
    has_teacher = data_of(run.config) is not None or expert.get("policy") is not None
    return has_teacher and bool(run.lines("eval/return_median"))


def draw(run: Run) -> Figure:
    """Returns to the left, losses to the right; of several seeds each is thin, their mean bold."""
    losses = [name for name in run.metrics("loss/") if moves(run.lines(name).values())]
    figure = Figure(figsize=(10.0, 4.0))
    if losses:
        left, right = figure.subplots(1, 2, width_ratios=[1.4, 1.0])
        _draw_losses(right, run, losses)
    else:
        left = figure.subplots()
    _draw_returns(left, run)
    figure.suptitle(title(run), fontweight="bold", x=0.01, ha="left")
    return figure


def _draw_returns(axes: Axes, run: Run) -> None:
    drawn: list[list[Line]] = []
    for place, (kind, label) in enumerate(KINDS.items()):
        metric = f"eval/return_{kind}"
        lines = list(run.lines(metric).values())
        below = sum(are_same(lines, others) for others in drawn)
        drawn.append(lines)
        _draw_lines(axes, run, metric, nth_colour(place), label, smooth=False, below=below)
    fit_lines(axes)
    clock_axis(axes, run.clock)
    facts = run.record["eval"]
    axes.set_ylabel(f"return of {count(facts['episodes'], 'episode')} ({facts['actions']} actions)")
    axes.set_title(_what_is_drawn(run, "mean, median and max return"))
    axes.legend(loc="best")


def _draw_losses(axes: Axes, run: Run, losses: list[str]) -> None:
    for place, name in enumerate(losses):
        _draw_lines(axes, run, name, nth_colour(place), name.removeprefix("loss/").replace("_", " "), smooth=True)
    fit_lines(axes)
    clock_axis(axes, run.clock)
    axes.set_ylabel("loss")
    axes.set_title("loss; bold: smoothed")
    axes.legend(loc="best")


def _draw_lines(axes: Axes, run: Run, metric: str, colour: str, label: str, *, smooth: bool, below: int = 0) -> None:
    """`below`: on how many lines that are just the same this one lies, dashed so that they are seen."""
    lines = run.lines(metric)
    if len(lines) > 1 or smooth:
        for line in lines.values():
            axes.plot(*thinned(line), color=colour, lw=0.6, alpha=0.4)
    averaged = run.averaged(lines) or list(lines.values())
    if smooth:
        averaged = [smoothed(line) for line in averaged]
    if averaged:
        draw_mean(axes, averaged, colour, label, band=False, **dashes(below))


def _what_is_drawn(run: Run, what: str) -> str:
    if len(run.rows) == 1:
        return what
    return f"{what}; thin: each seed, bold: mean of {len(run.rows)}"
