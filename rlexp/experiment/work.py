"""What is to be run: one run folder and its seeds, or a study of several; and what is said at its end."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rlexp.experiment import status, tables
from rlexp.experiment.config import RunConfig
from rlexp.experiment.folder import Folder
from rlexp.experiment.job import SeedJob
from rlexp.experiment.provenance import command, now
from rlexp.report.naming import names
from rlexp.report.records import read_study
from rlexp.report.words import phrase
from rlexp.util import checkpoint


@dataclass
class Work:
    """Run folders, each with its config; `path` is the folder that the user gets."""

    path: Path
    runs: list[tuple[Folder, RunConfig]]
    is_study: bool = False
    notes: list[str] = field(default_factory=list)  # to be said before it begins, a line each
    started: float = field(default_factory=time.perf_counter)

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
        """What the budget of the first run is counted in."""
        return self.runs[0][0].clock

    def folders(self) -> dict[Path, Folder]:
        """The run folders, by the absolute path that jobs have."""
        return {folder.path.resolve(): folder for folder, _ in self.runs}

    def budgets(self) -> dict[Path, int]:
        """The budget of each run, by its folder's absolute path."""
        return {folder.path.resolve(): config.train.budget for folder, config in self.runs}

    def begin(self, prepare: Callable[[Path], None] | None = None) -> None:
        """Write every folder's config and record, after `prepare` has seen the folder. Of a new run that is interrupted
        here, or that `prepare` refuses, nothing is left."""
        new = not any((folder.path / "config.yaml").exists() for folder, _ in self.runs)
        try:
            if prepare is not None:
                prepare(self.path.resolve())
            for folder, _ in self.runs:
                folder.begin()
        except BaseException:
            if new:
                shutil.rmtree(self.path, ignore_errors=True)
            raise

    def close(self, whole: bool) -> None:
        """Bring every record up to date; seeds that did not end are interrupted, at the last row of their metrics. Then
        the folders are free for others. `whole`: nothing ended the engine before its jobs."""
        for folder, _ in self.runs:
            for seed, facts in folder.seeds().items():
                if facts["status"] in ("running", "waiting"):
                    reached = {"step": facts["step"], **folder.counters(seed)}
                    message = "not begun"
                    if facts["status"] == "running":
                        message = f"interrupted at step {reached['step']:,}"
                    status.update(folder.seed(seed), status="interrupted", message=message, **reached)
            folder.record["seconds"] += time.perf_counter() - self.started
            folder.record["finished"] = now() if whole else None
            folder.keep_head()
            folder.refresh(draw=True)
            folder.release()
        self.sum_up()

    def leave(self) -> None:
        """Let the folders go, whose seeds go on in other processes."""
        for folder, _ in self.runs:
            folder.release()

    def say(self, text: str) -> None:
        """`text` in every folder's train.log."""
        for folder, _ in self.runs:
            folder.say(text)

    def sum_up(self) -> None:
        """A study's own table and picture."""
        if self.is_study:
            from rlexp.report.compare import study  # matplotlib takes a while to import

            checkpoint.write_text(self.path / "summary.md", self.report())
            study(self.path)

    def outlook(self, jobs: int) -> str:
        """What is going to happen, in one line; `jobs` seeds of it have not reached their budget."""
        folder, config = self.runs[0]
        amount = f"{config.train.budget:,} {folder.clock.replace('_', ' ')}"
        seeds = "1 seed" if jobs == 1 else f"{jobs} seeds"
        if self.is_study:
            return f"{len(self.runs)} arms, {seeds} to train; the first arm's have {amount} each"
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
        if not self.is_study:
            folder, _ = self.runs[0]
            return folder.summary()
        name = read_study(self.path)["metric"].removeprefix("eval/")
        lines = [
            f"# {self.path.name}",
            "",
            f"`{command()}`",
            "",
            f"| arm | seeds | {name.replace('_', ' ')} | 95 % t-interval | min | max | not finished | verdict |",
            "|---|---|---|---|---|---|---|---|",
            *(_arm(folder, name) for folder, _ in self.runs),
        ]
        return "\n".join(lines) + "\n"


def _data(folder: Folder) -> str:
    """The recorded data that a run learns from, as words behind its seeds and steps."""
    data = folder.record.get("inputs", {}).get("buffer")
    if not data:
        return ""
    return f", from {data['steps']:,} steps of {data['name']}"


def _arm(folder: Folder, name: str) -> str:
    """An arm's row in the table of a study: how its seeds' final `name` came out, and the verdict on its curve."""
    arm = folder.path.name
    seeds = folder.seeds()
    judged = folder.record.get("verdict")
    verdict = phrase(judged["verdict"], judged["reference"]) if judged else ""
    values = [final[name] for final in tables.finals(seeds).values() if name in final]
    total = tables.aggregate(seeds)
    missing = len(seeds) - total["n"]
    if not values:
        return f"| {arm} | 0 | | | | | {missing} | {verdict} |"
    mean = total[name]["mean"]
    half = total[name]["t95"]
    ends = "" if half is None else tables.interval(name, mean, half)
    cells = [arm, str(len(values)), f"{mean:.4g}", ends]
    cells += [f"{min(values):.4g}", f"{max(values):.4g}", str(missing), verdict]
    return "| " + " | ".join(cells) + " |"
