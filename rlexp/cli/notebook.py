"""Training from a notebook or a script: what main.py does, with the same numbers, in this process."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from rlexp.cli import launch
from rlexp.cli.progress import say
from rlexp.experiment import compose, former_names, overrides, plan
from rlexp.experiment.compose import CONFIG_DIR
from rlexp.experiment.config import make_engine
from rlexp.experiment.hydra_errors import composed
from rlexp.policies.files import Saved, load_policy
from rlexp.report.history import Run
from rlexp.report.words import tenths
from rlexp.util import configs, seeding
from rlexp.util.errors import UserError
from rlexp.util.plugins import told_of_exits
from rlexp.util.processes import refuse_to_begin_again

NOT_WORDS = ("true", "false", "null", "nan", "inf")  # without quotes


@dataclass(repr=False)
class TrainedRun(Run):
    """A run folder and what it says: `config` and `record` as dicts, `rows` of metrics by seed."""

    folder: Path = Path()

    @classmethod
    def read(cls, folder: Path) -> "TrainedRun":
        """Raises UserError for what is no run folder."""
        run = Run.read(folder)
        return cls(run.config, run.record, run.rows, folder)

    def policy(self, seed: int | None = None, which: str = "final") -> Saved:
        """The last policy of a seed, or its `best` by evaluation; of the first seed where none is named. Raises
        UserError."""
        if seed is None:
            return load_policy(self.folder, which)
        return load_policy(self.folder / f"seed_{seed}", which)

    @property
    def scores(self) -> dict[int, dict[str, float]]:
        """What each seed that is done scored at last: return_mean, return_std, ..., by seed."""
        seeds = self.record["seeds"].items()
        return {int(seed): facts["final"] for seed, facts in seeds if facts["status"] == "done"}

    def curve(self, metric: str = "eval/return_mean") -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Steps and values of a metric, two arrays for each seed that has any of it."""
        return {int(seed): line for seed, line in self.lines(metric).items()}

    def __repr__(self) -> str:
        seeds = ", ".join(self._line(seed) for seed in self.record["seeds"])
        return f"{self.folder}: {seeds}"

    def _line(self, seed: str) -> str:
        facts = self.record["seeds"][seed]
        if facts["status"] == "done":
            return f"seed {seed} done, return {tenths(facts['final']['return_mean'])}"
        return f"seed {seed} {facts['status']} ({facts['message']})"


def train(*words: str, config_dir: str | Path | None = None, **options: Any) -> TrainedRun:
    """Train as `rlexp train *words` does, e.g. train("algo=ppo", "env=cartpole", seeds=[0]), and return the run.

    `options` are words too: `seeds=[0]`, `resume="runs/DAY/RUN"`, `**{"algo.lr": 1e-3}`. `config_dir` holds configs of
    your own, as --config-dir. Folders are relative to the current one. Raises UserError for a mistake, before anything
    is written; KeyboardInterrupt leaves a run that `resume` continues. A seed that fails is a warning in the output,
    and a status in the run.
    """
    refuse_to_begin_again()
    typed = [*words, *(_word(key, value) for key, value in options.items())]
    for word in typed:
        if word.startswith(CONFIG_DIR):
            raise UserError("--config-dir: is an argument here, train(..., config_dir='mine')")
        if word.startswith("-") or not re.match(r"[^=]+=", word):
            raise UserError(f"{word}: a notebook takes options, key=value, and no flags")
        if word.startswith("+study="):
            raise UserError(f"{word}: a study is several runs; start it on the command line: rlexp train {word}")
    twice = {word.partition("=")[0] for word in words} & set(options)
    if twice:
        key = min(twice)
        raise UserError(f"{key}: stands in a word and in {key}={options[key]!r}; give one of them")
    if config_dir is not None:
        typed = ["--config-dir", str(config_dir), *typed]
    with _as_typed(typed), _own_chance_and_threads(), configs.forgetting(), told_of_exits():
        return TrainedRun.read(_run(former_names.translated(compose.take(typed))).resolve())


def _word(key: str, value: Any) -> str:
    if key == "resume":  # is a folder's name, whatever is in it
        return f"resume={value}"
    return f"{key}={written(value)}"


def written(value: Any) -> str:
    """A Python value as one writes it on the command line. Raises UserError for what cannot be written there."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str() if re.fullmatch(r"[A-Za-z_/][\w./-]*", value) and value.lower() not in NOT_WORDS:
            return value
        case str() | Path():
            return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"
        case list() | tuple() | range():
            return "[" + ",".join(map(written, value)) + "]"
        case dict():
            return "{" + ",".join(f"{key}:{written(one)}" for key, one in value.items()) + "}"
    raise UserError(f"{value!r}: is no number, word, list or dict")


def _run(words: list[str]) -> Path:
    """Train what `words` say, in this process. Returns the run folder; raises UserError."""
    resumed = [Path(word.removeprefix("resume=")) for word in words if word.startswith("resume=")]
    if resumed:
        launch.resume(words)
        return resumed[-1]
    words = overrides.in_lists(words)
    overrides.require_readable(words, words)
    launch._check_groups(words)
    config = composed(words)
    engine = make_engine(OmegaConf.to_container(config.engine, resolve=True))
    work = plan.single(config, say, engine.at_once)
    launch.execute(work, engine)
    return work.path


@contextmanager
def _as_typed(words: list[str]) -> Iterator[None]:
    """The run's record holds the command that does the same."""
    before = sys.argv
    sys.argv = ["rlexp train", *words]
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def _own_chance_and_threads() -> Iterator[None]:
    """Training seeds the global generators and sets torch's threads; the notebook keeps its own."""
    state = seeding.globals_state()
    threads = torch.get_num_threads()
    environment = dict(os.environ)
    try:
        yield
    finally:
        seeding.set_globals_state(state)
        torch.set_num_threads(threads)
        os.environ.clear()
        os.environ.update(environment)
