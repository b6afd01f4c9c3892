"""One seed of one run: iterate, evaluate, log, save, stop, film. It knows algorithms by their contract only.

A *scheduled* save is part of the experiment: at it open episodes are cut and the environments begin anew, seeded from
(seed, step), in a run that goes on as in one that resumes. Simulators whose state cannot be saved thereby do not
stand in the way of exact resume. Nothing else may touch training: evaluation has its own environments and streams,
and an interruption saves nothing.
"""

import math
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from rlexp.algos.base import Algorithm, Progress
from rlexp.envs.make import describe
from rlexp.experiment import status
from rlexp.experiment.config import RunConfig
from rlexp.experiment.essentials import essentials
from rlexp.experiment.events import Event, printable
from rlexp.experiment.task import make_task
from rlexp.loggers.base import LoggedSeed, Status
from rlexp.loggers.jsonl import JsonLines, read
from rlexp.loggers.make import Loggers
from rlexp.nn.learner import said, word
from rlexp.policies.files import describe_policy
from rlexp.report import film
from rlexp.rollout import evaluation
from rlexp.rollout.evaluation import Evaluation
from rlexp.util import checkpoint, seeding, watchdog
from rlexp.util.files import named
from rlexp.util.processes import is_worker

CHECK_EVERY = 1.0  # s between two looks whether the seed's folder is still this process's


@dataclass
class Counters:
    """How far a seed is."""

    step: int = 0  # the algorithm's own clock
    env_steps: int = 0
    updates: int = 0
    seconds: float = 0.0  # wall time, over all interruptions

    def add(self, clock: str, progress: Progress) -> None:
        self.step += getattr(progress, clock)
        self.env_steps += progress.env_steps
        self.updates += progress.updates


class Every:
    """Called with a counter, says whether it has crossed a multiple of `interval` since the last call."""

    def __init__(self, interval: float, done: int):
        self.interval = interval
        self.last = done // interval

    def __call__(self, done: int) -> bool:
        before = self.last
        self.last = done // self.interval
        return self.last > before


class Scorer:
    """Evaluates the current policy, every `train.eval_every` and at the end of the budget."""

    def __init__(self, config: RunConfig, seed: int, algo: Algorithm, step: int):
        self.train = config.train
        self.env = config.env.on_gymnasium()
        self.seed = seed
        self.algo = algo
        self.due = Every(self.train.eval_every, step)

    def is_due(self, step: int) -> bool:
        """Whether an evaluation belongs to `step`. To be asked once at each."""
        return self.due(step) or step >= self.train.budget

    def evaluate(self, step: int) -> Evaluation:
        policy = self.algo.policy(explore=self.train.eval_sampled)
        chance = seeding.stream(self.seed, "eval", step)
        return evaluation.evaluate(policy, self.env, chance, self.train.eval_episodes)

    def summary(self, found: Evaluation) -> dict[str, float]:
        """Return statistics of an evaluation, by name."""
        return found.summary(self.env)


class Checkpointer:
    """The files in `checkpoints/`: full states to continue from, and policies to keep."""

    def __init__(self, folder: Path, config: RunConfig, seed: int, algo: Algorithm):
        self.folder = folder
        self.config = config
        self.seed = seed
        self.algo = algo
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob(".*.tmp"):  # of a process that was killed while it wrote
            unfinished.unlink()

    def restore(self) -> dict[str, Any] | None:
        """Put algorithm and global generators into their newest saved state. Returns what was saved of the run itself
        (`counters`, `best`, `bytes`, ...); None where nothing was saved yet."""
        found = checkpoint.load_newest(self.folder)
        if found is None:
            return None
        state = found.tree
        self.algo.load_state_dict(state["algo"])
        self.algo.restart(state["run"]["counters"]["step"])
        seeding.set_globals_state(state["rng"])
        return state["run"]

    def save(self, counters: Counters, best: dict[str, Any] | None, metrics: JsonLines) -> str:
        """A full state, from which training continues exactly, and what it goes with: the metrics so far, the config.
        Raises OSError. Returns its digest."""
        run = {
            "counters": asdict(counters),
            "best": best,
            "bytes": metrics.size(),
            "metrics": metrics.digest(),
            "budget": self.config.train.budget,
            "config": essentials(self.config.plain),
        }
        state = {
            "policy": self._policy(counters),
            "algo": self.algo.state_dict(),
            "run": run,
            "rng": seeding.globals_state(),
        }
        return checkpoint.save_step(self.folder, counters.step, state, self.config.train.keep)

    def save_policy(self, name: str, counters: Counters) -> None:
        """The current policy as `name`.safetensors. Raises OSError."""
        checkpoint.save(self.folder / f"{name}.safetensors", {"policy": self._policy(counters)})

    def _policy(self, counters: Counters) -> dict[str, Any]:
        card = {"algo": self.config.algo_name, "seed": self.seed, **asdict(counters)}
        policy = self.algo.policy(explore=self.config.train.eval_sampled)
        return describe_policy(policy, self.config.env, card)


class Training:
    """One seed's training, from its newest checkpoint where it has one. A context manager."""

    def __init__(self, config: RunConfig, seed: int, folder: Path, trained: dict[str, Any]):
        """`trained`: filled, while films are made, with what status.json says once they are."""
        self.config = config
        self.train = config.train
        self.seed = seed
        self.folder = folder
        torch.set_num_threads(config.train.threads)
        seeding.seed_globals(seeding.stream(seed, "init"))
        task = make_task(config, describe(config.env), seed)
        self.algo = config.algo_class(config.algo, task)
        self.checkpointer = Checkpointer(folder / "checkpoints", config, seed, self.algo)
        restored = self.checkpointer.restore()
        self.resumed = restored is not None
        saved = restored or {"counters": {}, "best": None, "bytes": 0}
        self.counters = Counters(**saved["counters"])
        self.best: dict[str, Any] | None = saved["best"]
        self.started = time.perf_counter() - self.counters.seconds
        self.scorer = Scorer(config, seed, self.algo, self.counters.step)
        self.save_due = Every(self.train.save_every, self.counters.step)
        self.keep_due = Every(self.train.snapshot_every or math.inf, self.counters.step)
        self.metrics = JsonLines(folder / "metrics.jsonl", saved["bytes"], saved.get("metrics"))
        logged = LoggedSeed(folder, seed, config.plain)
        self.loggers = Loggers(config.loggers, logged, history=read(folder / "metrics.jsonl"))
        self.last: Evaluation | None = None  # of the last step, where it was evaluated
        self.attempt: dict[str, Any] = {}  # this process's, as status.json has it
        self.checked = 0.0  # when it was last seen to be the newest
        self.trained = trained

    def __enter__(self) -> "Training":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        interrupted = kind is not None and issubclass(kind, GeneratorExit | KeyboardInterrupt)
        ended: Status = "interrupted" if interrupted else "failed"  # or `run` has closed them
        self.metrics.close()
        self.loggers.close(ended)

    def run(self) -> Iterator[Event]:
        """Train until the budget is used up, then film. Yields events; failures raise."""
        attempts = status.begin(self.folder, asdict(self.counters))
        self.attempt = attempts[-1]
        if self.resumed:
            yield self._event("progress", f"continues from step {self.counters.step:,}")
            yield from self._other_processor(attempts)
        if self.counters.step == 0:
            yield self._evaluation_begins("episodes of the untrained policy")
            self._log_untrained()
        while self.counters.step < self.train.budget:
            yield from self._iterate()
            yield from self._complaints()
        self._require_current()
        self.checkpointer.save_policy("final", self.counters)
        if self.last is None:  # the last checkpoint was already at the end
            self.last = self.scorer.evaluate(self.counters.step)
        final = self.scorer.summary(self.last)
        facts = {**asdict(self.counters), "final": final, "best": self.best}
        if self.config.video.enabled:
            yield self._event("progress", "filming")
            self.trained.update(facts)
            yield from self._film(self.last)
            self.trained.clear()
        self.loggers.close("done")
        yield from self._complaints()
        self._require_current()
        status.update(self.folder, **facts, status="done")
        yield Event(self.seed, "done", "", facts)

    def _evaluation_begins(self, what: str) -> Event:
        """What goes on while no step is made: where acting is costly an evaluation may take minutes."""
        return Event(self.seed, "progress", "", {"stage": [what, 0, self.train.eval_episodes]})

    def _log_untrained(self) -> None:
        """The row of step 0, and the untrained policy where policies are kept."""
        if self.train.snapshot_every:
            self._keep_policy()
        scores = self.scorer.summary(self.scorer.evaluate(0))
        self._log(self.algo.state_metrics(), scores)

    def _iterate(self) -> Iterator[Event]:
        """One step of the algorithm, and what is due after it."""
        progress = self.algo.step()
        self.counters.add(self.algo.clock, progress)
        require_finite(progress.metrics, self.counters.step)
        self.last = None
        scores: dict[str, float] = {}
        if self.scorer.is_due(self.counters.step):
            yield self._evaluation_begins("episodes of the evaluation")
            self.last = self.scorer.evaluate(self.counters.step)
            scores = self.scorer.summary(self.last)
        require_finite(scores, self.counters.step)
        metrics = {**progress.metrics, **self.algo.state_metrics()}
        require_finite(metrics, self.counters.step)
        self.counters.seconds = time.perf_counter() - self.started
        if scores or time.perf_counter() - self.checked > CHECK_EVERY:
            self._require_current()
        self._log(metrics, scores)
        if scores:
            self._keep_best(scores)
        if self.keep_due(self.counters.step):
            self._keep_policy()
        if self.save_due(self.counters.step):
            self.algo.restart(self.counters.step)
            self._require_current()
            digest = self.checkpointer.save(self.counters, self.best, self.metrics)
            saved = {"step": self.counters.step, "checkpoint": digest, "metrics": self.metrics.digest()}
            status.update(self.folder, saved=saved)
        if not scores:
            yield self._event("progress", stage=progress.stage)
            return
        status.update(self.folder, **asdict(self.counters), best=self.best)
        yield self._event("evaluation", scores=scores)

    def _require_current(self) -> None:
        """Raise Superseded where another process trains this seed now."""
        status.require_current(self.folder, self.attempt)
        self.checked = time.perf_counter()

    def _other_processor(self, attempts: list[dict[str, Any]]) -> Iterator[Event]:
        """A warning where a seed goes on on another kind of processor than it was on."""
        kinds = [attempt.get("cpu") for attempt in attempts]
        if len(kinds) > 1 and kinds[-2] != kinds[-1]:
            yield self._warning(f"was on {kinds[-2]}, goes on on {kinds[-1]}: the last digits may differ from there on")

    def _log(self, metrics: Mapping[str, float], scores: Mapping[str, float]) -> None:
        evaluated = {f"eval/{name}": value for name, value in scores.items()}
        row = {**asdict(self.counters), **metrics, **evaluated}
        self.metrics.write(row)
        self.loggers.log(row)

    def _keep_best(self, scores: Mapping[str, float]) -> None:
        if self.best is None or scores["return_mean"] > self.best["return_mean"]:
            self.best = {"step": self.counters.step, **scores}
            self.checkpointer.save_policy("best", self.counters)

    def _keep_policy(self) -> None:
        self.checkpointer.save_policy(f"policy_{self.counters.step:012d}", self.counters)

    def _film(self, played: Evaluation) -> Iterator[Event]:
        """Films of the last evaluation; a warning where there can be none: the training is done all the same."""
        try:
            env = self.config.env.on_gymnasium()
            with watchdog.within(self.config.video.seconds, "video.seconds"):
                films = film.films(env, played, self.folder / "videos", self.config.video)
            for path in films:
                self.loggers.log_film(path, self.counters.step)
        except (film.CannotRender, watchdog.Hung) as error:
            yield self._warning(f"no video: {error}")
        except Exception as error:  # of the environment's own renderer
            yield self._warning(f"no video: {named(error)}")

    def _complaints(self) -> Iterator[Event]:
        """What went wrong with loggers since the last call: training goes on without them."""
        for text in self.loggers.take_warnings():
            yield self._warning(text)

    def _warning(self, text: str) -> Event:
        text = printable(text)
        status.update(self.folder, message=text)
        return Event(self.seed, "warning", text)

    def _event(
        self,
        kind: str,
        text: str = "",
        scores: Mapping[str, float] | None = None,
        stage: tuple[str, int, int] | None = None,
    ) -> Event:
        data = {**asdict(self.counters), **(scores or {})}
        if stage is not None:
            data["stage"] = list(stage)
        return Event(self.seed, kind, text, data)


def run_seed(config: RunConfig, seed: int, folder: Path) -> Iterator[Event]:
    """Train one seed in `folder`, from its newest checkpoint where it has one. Yields events; failures raise, Hung
    among them."""

    trained: dict[str, Any] = {}

    def last_word(message: str) -> None:
        facts = {"status": "failed", "message": message}
        if trained:  # only its films are missing, and would hang again
            facts = {**trained, "status": "done", "message": f"no video: {message}"}
        if not is_worker():
            print(
                f"error: seed {seed}: {facts['message']}; the process ends, resume={folder.parent} goes on",
                file=sys.stderr,
            )
        status.update(folder, **facts)

    with watchdog.Watch(config.train.patience, last_word) as watch:
        yield from watch.each(_train(config, seed, folder, trained))


def _train(
    config: RunConfig,
    seed: int,
    folder: Path,
    trained: dict[str, Any],
) -> Generator[Event, None, None]:
    with Training(config, seed, folder, trained) as training:
        yield from training.run()


def require_finite(metrics: Mapping[str, float], step: int) -> None:
    """Raise FloatingPointError where a metric is NaN or infinite; TypeError for what is no number of Python's own,
    which metrics.jsonl has no word for."""
    for name, value in metrics.items():
        if not isinstance(value, int | float):
            raise TypeError(f"the metric {name} is a {type(value).__name__}, not a float, at step {step:,}")
        if not math.isfinite(value):
            raise FloatingPointError(f"{said(name)} is {word(value)} at step {step:,}")
