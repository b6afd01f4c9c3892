"""What tests share: composing configs, running seeds in this process, comparing what they wrote."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rlexp.algos.base import Task
from rlexp.envs.make import describe
from rlexp.experiment.compose import compose
from rlexp.experiment.config import RunConfig, build
from rlexp.experiment.events import Event
from rlexp.experiment.train import run_seed
from rlexp.loggers.jsonl import read
from rlexp.nn.actors import PolicyConfig
from rlexp.policies.base import Policy

ROOT = Path(__file__).parent.parent
ALGOS = sorted(file.stem for file in (ROOT / "conf" / "algo").glob("*.yaml"))
ENVS = sorted(file.stem for file in (ROOT / "conf" / "env").glob("*.yaml"))
EXPERIMENTS = sorted(file.stem for file in (ROOT / "conf" / "experiment").glob("*.yaml"))
STUDIES = sorted(file.stem for file in (ROOT / "conf" / "study").glob("*.yaml"))

# Seconds of training on the line world at the algorithm's own defaults, by its clock.
TOY = {"env_steps": 20_000, "updates": 20}
QUIET = ["video=none", "train.tensorboard=false"]


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


def toy(algo: str, *overrides: str) -> RunConfig:
    """Any algorithm on the line world, short and quiet; or its own experiment <algo>_toy, where there is one."""
    if f"{algo}_toy" in EXPERIMENTS:
        return built(f"+experiment={algo}_toy", *QUIET, *overrides)
    budget = TOY[built(f"algo={algo}").algo_class.clock]
    words = [f"algo={algo}", "env=lineworld", f"train.budget={budget}", "train.eval_episodes=50"]
    return built(*words, *QUIET, *overrides)


def train(run: RunConfig, folder: Path, seed: int = 0, stop_after: int | None = None) -> list[Event]:
    """Run one seed, or its first `stop_after` events and no more, as if it had been killed."""
    events = []
    generator = run_seed(run, seed, folder)
    for event in generator:
        events.append(event)
        if len(events) == stop_after:
            generator.close()
            break
    return events


def metrics(folder: Path) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl without times."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read(folder / "metrics.jsonl")]


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
