"""One seed of one run: iterate, evaluate, log, save, stop, film. It knows algorithms by their contract only.

A *scheduled* save is part of the experiment: at it open episodes are cut and the environments begin anew, seeded from
(seed, step), in a run that goes on as in one that resumes. Simulators whose state cannot be saved thereby do not
stand in the way of exact resume. Nothing else may touch training: evaluation has its own environments and streams,
and an interruption saves nothing.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from rlexp.algos.base import Progress
from rlexp.envs.make import describe
from rlexp.experiment.config import RunConfig
from rlexp.experiment.events import Event
from rlexp.experiment.task import make_task
from rlexp.loggers.base import Sink
from rlexp.loggers.jsonl import JsonLines
from rlexp.loggers.tensorboard import TensorBoard
from rlexp.policies.files import describe_policy
from rlexp.report import film
from rlexp.rollout.evaluation import Evaluation
from rlexp.rollout.evaluation import evaluate as rollout_evaluation
from rlexp.util import checkpoint, seeding


@dataclass
class Counters:
    step: int = 0  # the algorithm's own clock
    env_steps: int = 0
    updates: int = 0
    seconds: float = 0.0  # wall time, over all interruptions

    def add(self, clock: str, progress: Progress) -> None:
        self.step += getattr(progress, clock)
        self.env_steps += progress.env_steps
        self.updates += progress.updates


class Every:
    """True when a counter has crossed a multiple of `interval` since the last call."""

    def __init__(self, interval: float, done: int):
        self.interval, self.last = interval, done // interval

    def __call__(self, done: int) -> bool:
        before, self.last = self.last, done // self.interval
        return self.last > before


def run_seed(config: RunConfig, seed: int, folder: Path) -> Iterator[Event]:
    """Train one seed in `folder`, from its latest checkpoint where it has one. Yields events; failures raise."""
    train = config.train
    torch.set_num_threads(train.threads)
    seeding.seed_globals(seeding.stream(seed, "init"))
    spec = describe(config.env)
    algo = config.algo_class(config.algo, make_task(config, spec, seed))
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    for unfinished in checkpoints.glob(".*.tmp"):  # of a process that was killed while it wrote
        unfinished.unlink()

    counters, best, kept_bytes = Counters(), None, 0
    if found := checkpoint.latest(checkpoints):
        state = checkpoint.load(found)
        counters, best, kept_bytes = Counters(**state["run"]["counters"]), state["run"]["best"], state["run"]["bytes"]
        algo.load_state_dict(state["algo"])
        algo.restart(counters.step)
        seeding.set_globals_state(state["rng"])
        yield Event(seed, "progress", f"continues from step {counters.step:,}", asdict(counters))
    started = time.perf_counter() - counters.seconds

    def evaluate() -> Evaluation:
        return rollout_evaluation(
            algo.policy(explore=train.eval_sampled),
            config.env.on_gymnasium(),
            seeding.stream(seed, "eval", counters.step),
            train.eval_episodes,
        )

    def policy_file() -> dict[str, Any]:
        card = {"algo": config.algo_name, "seed": seed, **asdict(counters)}
        return describe_policy(algo.policy(explore=train.eval_sampled), config.env, card)

    lines = JsonLines(folder / "metrics.jsonl", kept_bytes)
    sinks: list[Sink] = [lines]
    if train.tensorboard:
        sinks.append(TensorBoard(folder / "tensorboard", counters.step))
    due_eval, due_save = Every(train.eval_every, counters.step), Every(train.save_every, counters.step)
    due_snapshot = Every(train.snapshot_every or math.inf, counters.step)

    def snapshot() -> None:
        checkpoint.save(checkpoints / f"policy_{counters.step:012d}.safetensors", {"policy": policy_file()})

    evaluation = None
    try:
        if not counters.step and train.snapshot_every:
            snapshot()
        if not counters.step:
            _write(sinks, counters, algo.snapshot(), evaluate().summary(config.env))
        while counters.step < train.budget:
            progress = algo.step()
            counters.add(algo.clock, progress)
            _stop_at_nan(progress.metrics, counters.step)
            scores, evaluation = {}, None
            if due_eval(counters.step) or counters.step >= train.budget:
                evaluation = evaluate()
                scores = evaluation.summary(config.env)
            counters.seconds = time.perf_counter() - started
            _write(sinks, counters, {**progress.metrics, **algo.snapshot()}, scores)
            if scores and (best is None or scores["return_mean"] > best["return_mean"]):
                best = {"step": counters.step, **scores}
                checkpoint.save(checkpoints / "best.safetensors", {"policy": policy_file()})
            if due_snapshot(counters.step):
                snapshot()
            if due_save(counters.step):
                algo.restart(counters.step)
                run = {"counters": asdict(counters), "best": best, "bytes": lines.size()}
                checkpoint.save_step(
                    checkpoints,
                    counters.step,
                    {"policy": policy_file(), "algo": algo.state_dict(), "run": run, "rng": seeding.globals_state()},
                    train.keep,
                )
            yield Event(seed, "evaluation" if scores else "progress", "", {**asdict(counters), **scores})
        checkpoint.save(checkpoints / "final.safetensors", {"policy": policy_file()})
        evaluation = evaluation or evaluate()  # None where the last checkpoint was already at the end
        if config.video.enabled:
            yield Event(seed, "progress", "filming", asdict(counters))
            try:
                film.films(config.env.on_gymnasium(), evaluation, folder / "videos", config.video)
            except film.CannotRender as error:
                yield Event(seed, "warning", f"no video: {error}")
            except Exception as error:  # of the environment's own renderer: the training is done
                yield Event(seed, "warning", f"no video: {type(error).__name__}: {error}")
    finally:
        for sink in sinks:
            sink.close()
    yield Event(seed, "done", "", {**asdict(counters), "final": evaluation.summary(config.env), "best": best})


def _stop_at_nan(metrics: Any, step: int) -> None:
    for name, value in metrics.items():
        if math.isnan(value):
            raise FloatingPointError(f"{name} is NaN at step {step:,}")


def _write(sinks: list[Sink], counters: Counters, metrics: Any, scores: dict[str, float]) -> None:
    row = {**asdict(counters), **metrics, **{f"eval/{name}": value for name, value in scores.items()}}
    for sink in sinks:
        sink.write(row)
