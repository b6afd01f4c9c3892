"""What a tuning found, in a table and a picture. Trials are Optuna's frozen ones."""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from rlexp.report import style
from rlexp.report.words import spoken
from rlexp.util import stats

if TYPE_CHECKING:
    import optuna

TOP = 10  # trials in the table
PANEL = 3.0  # inches
FEW = 4  # choices or powers of ten whose names stand side by side


def table(study: "optuna.Study", best_first: "list[optuna.trial.FrozenTrial]", metric: str, seeds: int) -> list[str]:
    """Lines of markdown: how the trials ended, and the best of them with a 95 % t-interval over their `seeds`."""
    trials = study.get_trials(deepcopy=False)
    early = sum(bool(one.user_attrs.get("ended early")) for one in trials)
    failed = [one for one in trials if "failed" in one.user_attrs]
    lines = [f"{len(trials)} trials: {len(best_first)} whole, {early} ended early, {len(failed)} failed.", ""]
    lines += [f"- trial {one.number} failed: {one.user_attrs['failed']}" for one in failed] + [""] * bool(failed)
    lines += [
        f"| trial | seeds | {metric.replace('_', ' ')} | 95 % t-interval | options |",
        "|---|---|---|---|---|",
    ]
    if len(best_first) > TOP:
        lines.insert(1, f"The best {TOP} of those that are whole:")
    for one in best_first[:TOP]:
        values = [score for _, score in sorted(one.intermediate_values.items())][-seeds:]  # on the last budget
        mean, half = stats.t_interval(values)
        ends = "" if len(values) < 2 else f"{mean - half:.4g} to {mean + half:.4g}"
        lines.append(f"| {one.number} | {len(values)} | {mean:.4g} | {ends} | `{options(one.params)}` |")
    return lines


def options(params: dict[str, Any]) -> str:
    """As they are typed; numbers by four digits."""
    words = [f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in params.items()]
    return " ".join(words)


def importance(study: "optuna.Study") -> dict[str, float]:
    """How much each option mattered among the better trials, by PED-ANOVA (Watanabe et al. 2023); sums to one. Empty
    where there are too few trials to say."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    try:
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    except (ValueError, RuntimeError):
        return {}


def picture(study: "optuna.Study", file: Path, title: str, metric: str) -> None:
    """Trials in their order, importance of options, and every option's values beside what they led to."""
    trials = [one for one in study.get_trials(deepcopy=False) if one.value is not None]
    if not trials:
        return
    names = list(trials[0].params)
    count = len(names) + 2
    columns = min(4, count)
    rows = -(-count // columns)
    label = spoken(metric)
    with matplotlib.rc_context(style.STYLE):
        figure = Figure(figsize=(PANEL * columns * 1.1, PANEL * rows))
        panels = style.panel_grid(figure, rows, columns, count)
        figure.suptitle(title, fontweight="bold", x=0.01, ha="left")
        _history(panels[0], trials, label)
        _bars(panels[1], importance(study))
        for axes, name in zip(panels[2:], names, strict=False):
            _slice(axes, trials, name, label)
        style.save(figure, file)


def _history(axes: Axes, trials: "list[optuna.trial.FrozenTrial]", label: str) -> None:
    early = [one for one in trials if one.user_attrs.get("ended early")]
    kept = [one for one in trials if one not in early]
    axes.plot([one.number for one in kept], _values(kept), "o", color=style.COLOURS[0], label="all seeds")
    if early:
        axes.plot([one.number for one in early], _values(early), "x", color="0.5", label="ended early")
    best = itertools.accumulate(_values(kept), max)
    numbers = [one.number for one in kept]
    axes.plot(numbers, list(best), "-", color=style.COLOURS[1], drawstyle="steps-post", label="best so far")
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(label)
    axes.legend(loc="best")


def _bars(axes: Axes, found: dict[str, float]) -> None:
    names = list(found)[::-1]
    axes.barh(names, [found[name] for name in names], color=style.COLOURS[0])
    axes.grid(False, axis="y")
    axes.set_xlabel("importance, as a share" if found else "importance: too few trials")


def _slice(axes: Axes, trials: "list[optuna.trial.FrozenTrial]", name: str, label: str) -> None:
    from optuna.distributions import CategoricalDistribution

    distribution = trials[0].distributions[name]
    values = [one.params[name] for one in trials]
    scores = _values(trials)
    look: Any = {"color": style.COLOURS[0], "alpha": 0.6}
    if isinstance(distribution, CategoricalDistribution):
        places = [str(choice) for choice in distribution.choices]
        axes.plot([places.index(str(value)) for value in values], scores, "o", **look)
        axes.set_xticks(range(len(places)), places, rotation=30 if len(places) > FEW else 0)
        axes.set_xlim(-0.5, len(places) - 0.5)
    else:
        axes.plot(values, scores, "o", **look)
        if getattr(distribution, "log", False):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(numticks=FEW))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(name)
    axes.set_ylabel(label)


def _values(trials: "list[optuna.trial.FrozenTrial]") -> list[float]:
    return [one.value for one in trials if one.value is not None]
