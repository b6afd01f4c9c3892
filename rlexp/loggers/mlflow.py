"""MLflow: one run a seed, in an SQLite file beside the runs: `mlflow ui --backend-store-uri sqlite:///runs/mlflow.db`.

`pip install 'rlexp[mlflow]'` installs mlflow-skinny with what SQLite needs; `pip install mlflow` adds `mlflow ui`.
"""

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from omegaconf import OmegaConf

from rlexp.loggers.base import LoggedSeed, Logger, Row, Status
from rlexp.util.params import Params, flat, param

MAX_METRICS = 1000  # of one request
MAX_PARAMS = 100
STATUSES = {"done": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class MLflow(Logger):
    """An MLflow run; its tag `rlexp.seed` is how it is found again, its tag `rlexp.run` is the same for all seeds."""

    packages = ("mlflow", "sqlalchemy", "alembic")
    install = "rlexp[mlflow]"

    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        uri: str | None = param("tracking server; null: MLFLOW_TRACKING_URI, else mlflow.db in the folder of runs")
        experiment: str = param("MLflow experiment")
        write_every: float = param("longest time until a row is written", unit="s", ge=0)

    def __init__(self, config: Config, seed: LoggedSeed):
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        self.metric = Metric
        self.write_every = config.write_every
        self.waiting: list[Any] = []
        self.written = time.monotonic()
        uri = config.uri or os.environ.get("MLFLOW_TRACKING_URI")
        with _first_come(seed.runs), _quiet():
            self.client = MlflowClient(uri or f"sqlite:///{seed.runs / 'mlflow.db'}")
            artifacts = None if uri else (seed.runs / "mlflow_artifacts").as_uri()
            experiment = self._experiment(config.experiment, artifacts)
            self.run_id = self._run(experiment, seed)
        self.client.update_run(self.run_id, status="RUNNING")
        self._log_config(seed)

    def _experiment(self, name: str, artifacts: str | None) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            return self.client.create_experiment(name, artifact_location=artifacts)
        return found.experiment_id

    def _run(self, experiment: str, seed: LoggedSeed) -> str:
        """The id of the run of `seed`, which is made where there is none."""
        identity = seed.identity()
        found = self.client.search_runs([experiment], f"tags.`rlexp.seed` = '{identity}'")
        if found:
            return found[0].info.run_id
        tags = {"rlexp.seed": identity, "rlexp.run": seed.group}
        return self.client.create_run(experiment, tags=tags, run_name=seed.name).info.run_id

    def _log_config(self, seed: LoggedSeed) -> None:
        """The config as a file, and as params those that are new: MLflow's never change, ours may (train.budget)."""
        from mlflow.entities import Param

        known = self.client.get_run(self.run_id).data.params
        params = [Param(key, str(value)[:6000]) for key, value in flat(seed.config).items() if key not in known]
        for begin in range(0, len(params), MAX_PARAMS):
            self.client.log_batch(self.run_id, params=params[begin : begin + MAX_PARAMS])
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "config.yaml"
            file.write_text(OmegaConf.to_yaml(OmegaConf.create(seed.config)), encoding="utf-8")
            self.client.log_artifact(self.run_id, str(file))

    def last_step(self) -> int:
        history = self.client.get_metric_history(self.run_id, "env_steps")  # which every row has
        return max((metric.step for metric in history), default=-1)

    def log(self, row: Row) -> None:
        now = round(time.time() * 1000)
        metrics = [self.metric(key, float(value), now, row["step"]) for key, value in row.items() if key != "step"]
        if len(self.waiting) + len(metrics) > MAX_METRICS:  # a row is written whole, or not at all
            self._write()
        self.waiting += metrics
        if time.monotonic() - self.written >= self.write_every:
            self._write()

    def _write(self) -> None:
        if self.waiting:
            self.client.log_batch(self.run_id, metrics=self.waiting)
        self.waiting = []
        self.written = time.monotonic()

    def log_film(self, path: Path, step: int) -> None:
        self.client.log_artifact(self.run_id, str(path), f"films/step_{step}")

    def log_picture(self, path: Path, step: int) -> None:
        self.client.log_artifact(self.run_id, str(path), "pictures")

    def close(self, status: Status) -> None:
        self._write()
        self.client.set_terminated(self.run_id, STATUSES[status])


@contextlib.contextmanager
def _first_come(runs: Path) -> Iterator[None]:
    """One process at a time: seeds that start together would each make the same tables and the same experiment."""
    with FileLock(runs / ".mlflow.lock", timeout=120):
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the log lines of the tables that are made."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)
