"""What is to be run: one run folder and its seeds, or a study of several; and what is said at its end."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rlexp.experiment import status, study_table
from rlexp.experiment.config import RunConfig
from rlexp.experiment.folder import Folder, whole_or_none
from rlexp.experiment.forecast import training
from rlexp.experiment.job import SeedJob
from rlexp.experiment.provenance import now, origin
from rlexp.report.naming import names
from rlexp.report.words import count
from rlexp.util import checkpoint


@dataclass
class Work:
    """Run folders, each with its config; `path` is the folder that the user gets, which of several says in study.yaml
    what they are."""

    path: Path
    runs: list[tuple[Folder, RunConfig]]
    study: dict[str, Any] | None = None  # what study.yaml says, of a study or a sweep
    notes: list[str] = field(default_factory=list)  # to be said before it begins, a line each
    started: float = field(default_factory=time.perf_counter)
    begun: list[Folder] = field(default_factory=list)  # those with something to do

    @property
    def is_study(self) -> bool:
        return self.study is not None

    def jobs(self) -> list[SeedJob]:
        """Every seed that has not reached its budget."""
        found = []
        for folder, config in self.runs:
            for seed, facts in folder.seeds().items():
                if facts["status"] != "done" or facts["step"] < config.train.budget:
                    found.append(SeedJob(folder.path.resolve(), int(seed)))
        return found

    @property
    def clock(self) -> str:
        """What the budgets are counted in; `steps` where the runs differ."""
        clocks = {folder.clock for folder, _ in self.runs}
        return clocks.pop() if len(clocks) == 1 else "steps"

    def folders(self) -> dict[Path, Folder]:
        """The run folders, by the absolute path that jobs have."""
        return {folder.path.resolve(): folder for folder, _ in self.runs}

    def budgets(self) -> dict[Path, int]:
        """The budget of each run, by its folder's absolute path."""
        return {folder.path.resolve(): config.train.budget for folder, config in self.runs}

    def begin(self, prepare: Callable[[Path], None] | None = None) -> None:
        """Write config and record of every folder that has something to do, after `prepare` has seen the folder; last
        of all study.yaml, with which a study is there, whole. Of a new run that is interrupted here, or that `prepare`
        refuses, nothing is left."""
        new = not any((folder.path / "config.yaml").exists() for folder, _ in self.runs)
        due = {job.run_folder for job in self.jobs()}
        this = origin()
        with whole_or_none(self.path) if new else nullcontext():
            if prepare is not None:
                prepare(self.path.resolve())
            for folder, _ in self.runs:
                if folder.path.resolve() in due:
                    folder.begin(this)
                    folder.say(f"begins: {this['command']}")
                    self.begun.append(folder)
            if self.study is not None and new:
                checkpoint.write_text(self.path / "study.yaml", OmegaConf.to_yaml(self.study))

    def close(self, whole: bool) -> None:
        """Bring every record up to date; seeds that did not end are interrupted, at the last row of their metrics. Then
        the folders are free for others. `whole`: nothing ended the engine before its jobs."""
        for folder in self.begun:
            cut = _interrupt(folder)
            spent = time.perf_counter() - self.started
            if self.is_study:  # whose arms may have run one after another
                spent = folder.worked()
            folder.record["seconds"] += spent
            self._finish(folder, whole or not cut, draw=cut or not self.is_study)
            folder.release()
        self.sum_up()

    def leave(self) -> None:
        """Let the folders go, whose seeds go on in other processes."""
        for folder in self.begun:
            folder.release()

    def sum_up(self) -> None:
        """What is made of the runs, of those too that ended just before a former process was killed; then a study's
        own table and picture."""
        for folder, _ in self.runs:
            if folder not in self.begun and folder.record.get("finished") is None:
                self._finish(folder, ended=True, draw=True)
        if self.study is not None:
            study_table.write(self.path, [folder.record for folder, _ in self.runs])

    @staticmethod
    def _finish(folder: Folder, ended: bool, draw: bool) -> None:
        folder.record["finished"] = now() if ended else None
        folder.keep_head()
        folder.refresh(draw)

    def say(self, text: str) -> None:
        """`text` in every folder's train.log."""
        for folder, _ in self.runs:
            folder.say(text)

    def outlook(self, jobs: list[SeedJob], at_once: int | None = None) -> str:
        """What is going to happen, in one line: `jobs`, of which `at_once` run at a time, and how long they take."""
        return "; ".join([self._amount(len(jobs)), *self._time(jobs, at_once)])

    def _time(self, jobs: list[SeedJob], at_once: int | None) -> list[str]:
        """What `jobs` take, as far as that is known."""
        runs = {folder.path.resolve(): (config, folder.seeds()) for folder, config in self.runs}
        left = []
        for job in jobs:
            config, seeds = runs[job.run_folder]
            left.append((config, 1 - seeds[str(job.seed)]["step"] / config.train.budget))
        return training(left, at_once)

    def _amount(self, jobs: int) -> str:
        """How many seeds have not reached their budget, and what it is."""
        folder, config = self.runs[0]
        amounts = [f"{one.train.budget:,} {place.clock.replace('_', ' ')}" for place, one in self.runs]
        amount = amounts[0]
        seeds = count(jobs, "seed")
        if self.is_study:
            arms = count(len(self.runs), "arm")
            if len(set(amounts)) == 1:
                return f"{arms}, {seeds} to train, {amount} each"
            return f"{arms}, {seeds} to train; the first arm's have {amount} each"
        each = "" if jobs == 1 else " each"
        return f"{' on '.join(names(config.plain))}: {seeds} to train, {amount}{each}{_data(folder)}"

    def made(self) -> dict[str, Path]:
        """What there is to look at when all has ended: the picture, where there is one, and the folder itself."""
        picture = self.path / ("study.png" if self.is_study else "curves.png")
        found = {"picture": picture} if picture.is_file() else {}
        return {**found, "folder": self.path}

    def failed(self) -> bool:
        """Whether any seed has not reached its end."""
        return any(facts["status"] != "done" for folder, _ in self.runs for facts in folder.seeds().values())

    def report(self) -> str:
        """What is printed at the end."""
        if self.study is None:
            folder, _ = self.runs[0]
            return folder.summary()
        return study_table.summary(self.path.name, self.study, [folder.record for folder, _ in self.runs])


def _interrupt(folder: Folder) -> bool:
    """Say of the seeds that did not end that they are interrupted, and where. Returns whether there are any."""
    cut = False
    for seed, facts in folder.seeds().items():
        if facts["status"] in ("running", "waiting"):
            cut = True
            reached = {"step": facts["step"], **folder.counters(seed)}
            message = "not begun"
            if facts["status"] == "running" or facts["step"] > 0:
                message = (
                    f"interrupted at step {reached['step']:,}; goes on from {SeedJob(folder.path, int(seed)).reached()}"
                )
            status.update(folder.seed(seed), status="interrupted", message=message, **reached)
            folder.say(f"seed {seed}: {message}")
    return cut


def _data(folder: Folder) -> str:
    """The recorded data that a run learns from, as words behind its seeds and steps."""
    data = folder.record.get("inputs", {}).get("buffer")
    if not data:
        return ""
    return f", from {data['steps']:,} steps of {data['name']}"
