"""A run's folder: its names, its record, and the tables that are made from its seeds' metrics.

config.yaml   fully resolved            run.json     command, commit, versions, hardware, times, seeds, scores
curve.csv     every evaluation          curves.png   the same, drawn
train.log     what happened             summary.md   the table to hand in
seed_<k>/     status.json  metrics.jsonl  tensorboard/  checkpoints/  videos/

Whoever runs a seed writes its folder. All that stands beside config.yaml and the head of run.json is derived from the
seeds' folders, and can be made again by any process at any time: `refresh`.
"""

import datetime
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from rlexp.experiment import status, tables
from rlexp.experiment.essentials import digest
from rlexp.experiment.provenance import hardware, now, origin
from rlexp.loggers import jsonl
from rlexp.loggers.base import Row
from rlexp.report import judge
from rlexp.report.history import Run
from rlexp.report.judge import Judgement
from rlexp.report.naming import names
from rlexp.report.records import read_config, read_record
from rlexp.util import checkpoint, strict_json
from rlexp.util.errors import UserError


def create(root: Path, name: str) -> Path:
    """A new folder root/<day>/<time>_<name>[-n], ours alone however many runs start in the same second."""
    started = datetime.datetime.now()
    day = root / started.strftime("%Y-%m-%d")
    try:
        day.mkdir(parents=True, exist_ok=True)
        for n in range(1, 10_000):
            again = "" if n == 1 else f"-{n}"
            path = day / f"{started:%H-%M-%S}_{name}{again}"
            try:
                path.mkdir()  # fails where it exists: the one atomic test-and-set a file system has
                return path
            except FileExistsError:
                continue
    except OSError as error:
        raise UserError(f"runs={root}: cannot make a run folder there ({error.strerror or error})") from None
    raise UserError(f"runs={root}: 10,000 runs started in the same second")


@contextmanager
def whole_or_none(path: Path) -> Iterator[None]:
    """Within, a new folder is filled. Where that fails nothing of it is left, nor its day's folder if that is empty."""
    try:
        yield
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            path.parent.rmdir()
        raise


DERIVED = ("seeds", "final", "verdict")  # of run.json, made of the seeds' files; the rest is its head


class Folder:
    """One run folder and its record (run.json)."""

    def __init__(self, path: Path, config: dict[str, Any], clock: str):
        """`config`: resolved, as in config.yaml; `clock`: what the algorithm counts its budget in. Raises UserError
        where a record is there and broken."""
        self.path = path
        self.config = config
        self.clock = clock
        self.record = read_record(path) if (path / "run.json").exists() else {}
        self.heard_of: list[float] = []  # when its seeds reported for the first and the last time, s

    @classmethod
    def open(cls, path: Path) -> "Folder":
        """The folder of a run that has begun. Raises UserError where there is none."""
        config = read_config(path)
        record = read_record(path) if (path / "run.json").exists() else _remembered(path, config)
        for key in ("clock", "command", "eval"):
            if key not in record:
                raise UserError(f"{path / 'run.json'}: is no run's record (it has no {key})")
        folder = cls(path, config, record["clock"])
        folder.record = record
        return folder

    def remember(self, inputs: dict[str, Any]) -> None:
        """`inputs`: what is to be remembered of the data and files that the run learns from, by option. Raises
        UserError where it was begun with others."""
        for key, was in self.record.setdefault("inputs", inputs).items():
            facts = inputs.get(key) or {}
            if was["digest"] != facts.get("digest"):
                raise UserError(
                    f"resume={self.path}: what {key} names has changed since it began; "
                    f"it was {_listed(was)}, is {_listed(facts)}"
                )

    def seed(self, seed: int | str) -> Path:
        return self.path / f"seed_{seed}"

    def seeds(self) -> dict[str, dict[str, Any]]:
        """What is known of each seed, by its number: its status.json or, in folders of before there were such, what
        run.json says."""
        known = self.record.get("seeds", {})
        found = {}
        for seed in map(str, self.config["seeds"]):
            facts = status.read(self.seed(seed)) or known.get(seed) or status.waiting()
            found[seed] = {key: value for key, value in facts.items() if key != "run"}
        return found

    def counters(self, seed: int | str) -> dict[str, Any]:
        """How far a seed's metrics go: the counters of their last row; none where there is no row."""
        rows = jsonl.read(self.seed(seed) / "metrics.jsonl")
        if not rows:
            return {}
        return {name: rows[-1][name] for name in jsonl.COUNTERS}

    def begin(self, this: dict[str, Any] | None = None) -> None:
        """Take the folder: nobody else may work in it, and its record says what is about to be done. `this`: what
        begins it, `provenance.origin` by default."""
        if this is None:
            this = origin()
        self._lock()
        for seed, facts in self.seeds().items():
            if facts["status"] != "done" or facts["step"] < self.config["train"]["budget"]:  # about to go on
                facts |= {"status": "waiting", "message": ""}
            status.write(self.seed(seed), facts)
        if "command" in self.record:
            self.record.setdefault("resumed", []).append({**this, "started": now()})
        else:
            self.record = {**self._head(), **this, **self.record}
        self.record["finished"] = None
        self.record["config_digest"] = digest(self.config)
        self.keep_head()
        checkpoint.write_text(self.path / "config.yaml", OmegaConf.to_yaml(self.config))
        self.write()

    def keep_head(self) -> None:
        """Let each seed remember what only the run's record says, so that run.json can be made again."""
        head = {key: value for key, value in self.record.items() if key not in DERIVED}
        for seed in self.config["seeds"]:
            status.update(self.seed(seed), run=head)

    def _head(self) -> dict[str, Any]:
        """What a new record says besides the command that began it."""
        train = self.config["train"]
        actions = "sampled" if train["eval_sampled"] else "mean"
        algorithm, environment = names(self.config)
        return {
            "name": self.path.name,
            "algo": algorithm,
            "env": environment,
            "clock": self.clock,
            "hardware": hardware(train["device"]),
            "started": now(),
            "seconds": 0.0,
            "resumed": [],
            "eval": {"episodes": train["eval_episodes"], "actions": actions},
        }

    def _lock(self) -> None:
        """Refuse a folder in which another process is at work. The lock ends with the process, however it ends."""
        self.lock = FileLock(self.path / ".lock")
        try:
            self.lock.acquire(blocking=False)
        except Timeout:
            raise UserError(f"resume={self.path}: another process is running in this folder") from None

    def heard(self) -> None:
        """A seed has reported."""
        self.heard_of = [*self.heard_of[:1], time.perf_counter()]

    def worked(self) -> float:
        """Seconds between the first and the last report of its seeds to this process."""
        if not self.heard_of:
            return 0.0
        return self.heard_of[-1] - self.heard_of[0]

    def release(self) -> None:
        """Others may work in the folder again."""
        self.lock.release()

    def write(self) -> None:
        """run.json anew, with what the seeds' folders say now. Raises OSError."""
        seeds = self.seeds()
        self.record |= {"seeds": seeds, "final": tables.aggregate(seeds)}
        checkpoint.write_text(self.path / "run.json", strict_json.dumps(self.record, indent=2) + "\n")

    def say(self, text: str) -> None:
        """One line, with the time, in train.log."""
        with open(self.path / "train.log", "a", encoding="utf-8") as file:
            file.write(f"{now()} {text}\n")

    def refresh(self, draw: bool) -> None:
        """Make all that is derived again: run.json, curve.csv, summary.md and, with `draw`, curves.png."""
        seeds = self.seeds()
        rows = self._rows(seeds)
        judged = self._judge(seeds, rows)
        self.record["verdict"] = judged.facts() if judged else None
        self.write()
        checkpoint.write_text(self.path / "curve.csv", tables.curve(rows))
        checkpoint.write_text(
            self.path / "summary.md", tables.summary(self.path.name, self.record, seeds, rows, judged)
        )
        if draw:
            from rlexp.report.curves import curves  # matplotlib takes a while to import

            curves(self.path)

    def summary(self) -> str:
        """What summary.md says, made anew of the seeds' folders."""
        seeds = self.seeds()
        rows = self._rows(seeds)
        return tables.summary(self.path.name, self.record, seeds, rows, self._judge(seeds, rows))

    def _rows(self, seeds: tables.Seeds) -> dict[str, list[Row]]:
        return {seed: jsonl.read(self.seed(seed) / "metrics.jsonl") for seed in seeds}

    def _judge(self, seeds: tables.Seeds, rows: dict[str, list[Row]]) -> Judgement | None:
        """The verdict, beside the reference; None before a seed is done, and where there is no reference."""
        if not any(facts["status"] == "done" for facts in seeds.values()):
            return None
        return judge.of_run(self.path.name, Run(self.config, {**self.record, "seeds": seeds}, rows))


def _remembered(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The head of a run.json that is lost, as the first seed remembers it. Raises UserError where none does."""
    for seed in config["seeds"]:
        head = (status.read(path / f"seed_{seed}") or {}).get("run")
        if isinstance(head, dict):
            return head
    raise UserError(f"{path / 'run.json'}: is gone, and no seed's status.json remembers what only it said")


def _listed(facts: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in facts.items())
