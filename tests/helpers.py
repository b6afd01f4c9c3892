"""What tests share: composing configs, running seeds in this process, comparing what they wrote."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlexp.algos.base import Task
from rlexp.engines.base import one_by_one
from rlexp.envs.make import describe
from rlexp.experiment.compose import compose
from rlexp.experiment.config import RunConfig, build
from rlexp.experiment.folder import Folder
from rlexp.experiment.job import SeedJob
from rlexp.experiment.recorder import Recorder
from rlexp.experiment.work import Work
from rlexp.nn.actors import PolicyConfig
from rlexp.policies.base import Policy
from rlexp.testing import QUIET, metrics, toy, train

__all__ = ["QUIET", "metrics", "toy", "train"]  # what these tests share with those of other packages

ROOT = Path(__file__).parent.parent
ALGOS = sorted(file.stem for file in (ROOT / "conf" / "algo").glob("*.yaml"))
ENVS = sorted(file.stem for file in (ROOT / "conf" / "env").glob("*.yaml"))
EXPERIMENTS = sorted(file.stem for file in (ROOT / "conf" / "experiment").glob("*.yaml"))
ELSEWHERE = {  # engines of several machines, on this one
    "ray": ["engine=ray", "workers=2"],
    "submitit": ["engine=submitit", "engine.cluster=local", "workers=2"],
}
STUDIES = sorted(file.stem for file in (ROOT / "conf" / "study").glob("*.yaml"))


class Unsaved(Policy):
    """Base of policies that a test makes and no file holds."""

    def spec(self) -> dict[str, Any]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_spec(cls, spec: Any, state: Any) -> "Unsaved":
        return cls()


def built(*overrides: str) -> RunConfig:
    """The checked config of `python main.py *overrides`."""
    return build(compose(overrides))


def task(env: str = "cartpole", seed: int = 0, hidden: tuple[int, ...] = (16,), **changes: Any) -> Task:
    """What an algorithm needs, for tests that make one by hand."""
    env_config = built(f"env={env}").env
    policy = PolicyConfig(hidden=list(hidden), activation="tanh", orthogonal=True, log_std=0.0, init=None)
    return Task(env_config, describe(env_config), policy, seed, **changes)


def command(script: str, *words: str, cwd: Path, timeout: float = 300, **env: str) -> subprocess.CompletedProcess:
    """`python script *words` from `cwd`, as a user would type it."""
    return subprocess.run(
        [sys.executable, str(ROOT / script), *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **env},
    )


def work_in(place, config):
    """A new run of `config` in `place`."""
    place.mkdir(parents=True)
    return Work(place, [(Folder(place, config.plain, config.algo_class.clock), config)])


def run_on(engine, work, jobs):
    """Run `jobs` of `work` on `engine`. Returns all (seed, event)."""
    told = []
    recorder = Recorder(work.folders())

    def handle(job, event):
        told.append((job.seed, event))
        recorder(job, event)

    work.begin(engine.prepare)
    engine.run(one_by_one(jobs), handle)
    work.close(whole=True)
    return told


@dataclass(frozen=True)
class Raising(SeedJob):
    """A seed that raises after its first event."""

    def run(self):
        yield next(super().run())
        raise ValueError("of its own")
