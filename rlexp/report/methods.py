"""Methods over several environments: scores of runs by method and environment, a table, and their profiles drawn."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from rlexp.report import aggregate
from rlexp.report.aggregate import Scores
from rlexp.report.history import Run
from rlexp.report.naming import names
from rlexp.report.style import STYLE, nth_colour, save

TAUS = 101  # points of a profile


def scores(arms: Mapping[str, Run], metric: str) -> dict[str, dict[str, np.ndarray]]:
    """Final values of the seeds that are done, by method and environment, between the lowest and the highest of each
    environment that all methods have. Runs that do not say their environment are left out."""
    values: dict[str, dict[str, np.ndarray]] = {}
    for name, run in arms.items():
        env = environment_of(run)
        finals_S = _finals(run, metric)
        if env is not None and len(finals_S) > 0:
            of_method = values.setdefault(method_of(name, run), {})
            of_method[env] = np.concatenate([of_method.get(env, np.empty(0)), finals_S])
    return aggregate.normalised(values)


def environment_of(run: Run) -> str | None:
    """Gymnasium's id of the environment, with the time limit where a run has one of its own."""
    env = run.config.get("env") or {}
    if env.get("max_episode_steps"):
        return f"{env['id']}, {env['max_episode_steps']} steps"
    return env.get("id")


def method_of(name: str, run: Run) -> str:
    """What an arm is one of, over environments: its algorithm, with a gallery entry's variant; its name where it does
    not say."""
    if not {"algo", "env"} <= run.config.keys():
        return name
    algorithm, environment = names(run.config)
    _, found, variant = name.partition(f"{algorithm}_{environment}-")
    return f"{algorithm}-{variant}" if found else algorithm


def table(found: Mapping[str, Scores], baseline: str | None) -> list[dict[str, Any]]:
    """A row for each method: IQM, and the probability that it improves on the method `baseline`."""
    rows = []
    for method, of_method in found.items():
        row: dict[str, Any] = {"method": method, "environments": len(of_method), "iqm": list(aggregate.iqm(of_method))}
        row["improvement"] = None
        if baseline is not None and method != baseline:
            row["improvement"] = list(aggregate.improvement(of_method, found[baseline]))
        rows.append(row)
    return rows


def draw(found: Mapping[str, Scores], picture: Path) -> None:
    """The performance profile of every method, with its interval at each score."""
    tau_T = np.linspace(0, 1, TAUS)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.2, 4.0))
        axes = figure.subplots()
        for place, (method, of_method) in enumerate(found.items()):
            share_T, low_T, high_T = aggregate.profile(of_method, tau_T)
            seeds = sum(len(score_S) for score_S in of_method.values())
            label = f"{method}: {seeds} seeds, {len(of_method)} environments"
            axes.step(tau_T, share_T, where="post", color=nth_colour(place), lw=1.6, label=label)
            axes.fill_between(tau_T, low_T, high_T, step="post", color=nth_colour(place), alpha=0.14, lw=0)
        axes.set_xlabel("score τ: 0 the lowest, 1 the highest of an environment's seeds")
        axes.set_ylabel("share of seeds with a score ≥ τ")
        axes.set_ylim(-0.02, 1.02)
        axes.set_title("performance profiles, 95 % bootstrap intervals")
        axes.legend(loc="best")
        save(figure, picture)


def _finals(run: Run, metric: str) -> np.ndarray:
    lines = run.lines(metric)
    return np.array([float(y[-1]) for seed, (_, y) in lines.items() if run.status(seed) == "done"])
