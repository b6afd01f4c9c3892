"""Whether a run can start: algorithm, environment, data and policies are made once before anything is written."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from rlexp.algos.base import Algorithm
from rlexp.envs.make import describe
from rlexp.envs.trial import try_out
from rlexp.experiment import automatic
from rlexp.experiment.cautions import cautions
from rlexp.experiment.config import RunConfig
from rlexp.experiment.sizes import require_memory
from rlexp.experiment.task import make_task
from rlexp.policies.files import digest
from rlexp.report.references import find
from rlexp.rollout.evaluation import evaluate
from rlexp.util import seeding, watchdog
from rlexp.util.errors import UserError
from rlexp.util.plugins import said_with_place

Made = TypeVar("Made")


@dataclass(frozen=True)
class Probed:
    """What is known of a run that can start."""

    inputs: dict[str, dict[str, Any]]  # what is to be remembered of the data and files that it depends on, by option
    cautions: list[str]  # what it is likely to lose


def _nothing() -> None:
    pass


def probe(config: RunConfig, before_data: Callable[[], None] = _nothing) -> Probed:
    """Whether the algorithm can run on the environment, found by making both once and trying out the environment.
    Raises UserError. `before_data` is called when data sets may be about to be made."""
    import torch

    find(config.reference, config.name)
    if config.train.device == "cuda" and not torch.cuda.is_available():
        raise UserError("train.device=cuda: this machine has no CUDA device that PyTorch can use; use train.device=cpu")
    if config.train.compile and not automatic.has_compiler():
        raise UserError("train.compile=true: no C++ compiler found (c++, g++, clang++ or cl); use train.compile=false")
    algo = config.algo_class
    if config.train.compile and not algo.compiles:
        raise UserError(
            f"train.compile=true: {algo.__name__} has no batches of one size, for which code could be compiled; use "
            "train.compile=false"
        )
    if config.train.device not in algo.devices:
        raise UserError(
            f"train.device={config.train.device}: {algo.__name__} runs on {', '.join(sorted(algo.devices))} only"
        )
    spec = _patiently(config, lambda: describe(config.env))
    if spec.kind not in algo.actions:
        raise UserError(
            f"algo={algo.__name__.lower()}: chooses {' or '.join(sorted(algo.actions))} actions only; "
            f"'{config.env.id}' takes {spec.kind} ones"
        )
    require_memory(config, spec)
    trial = _patiently(config, lambda: try_out(config.env))
    before_data()
    seeding.seed_globals(seeding.stream(0, "init"))
    eager = dataclasses.replace(make_task(config, spec, config.seeds[0]), compile=False)
    learner = _attempt(algo, "made", lambda: algo(config.algo, eager))
    policy = _attempt(algo, "asked for its policy", lambda: learner.policy(explore=config.train.eval_sampled))
    if policy.samples != config.train.eval_sampled:
        what = "are sampled" if policy.samples else "are its mean ones: there is no spread to sample from"
        raise UserError(f"train.eval_sampled={str(not policy.samples).lower()}: actions of this {algo.__name__} {what}")
    if config.env.time_limit is None:  # an episode that never ends is found out now
        _patiently(config, lambda: evaluate(policy, config.env.on_gymnasium(), seeding.stream(0, "eval"), 1))
    warnings = cautions(config, spec, trial, learner, policy)
    inputs: dict[str, dict[str, Any]] = {}
    if (data := eager.data) is not None:
        facts = {"steps": len(data), "episodes": len(data.length_E), "digest": data.digest}
        inputs["buffer"] = {"name": data.name, **facts}
    for group in ("algo", "policy", "expert"):
        params = getattr(config, group)
        for f in dataclasses.fields(params):
            if f.metadata.get("file") and (where := getattr(params, f.name)) is not None:
                inputs[f"{group}.{f.name}"] = digest(where)
    return Probed(inputs, warnings)


def _attempt(algo: type[Algorithm], doing: str, action: Callable[[], Made]) -> Made:
    """`action()`, in which the algorithm is `doing`. Raises UserError where memory does not suffice, and where somebody
    else's algorithm fails; an error in rlexp's own shows its traceback."""
    what = f"algo={algo.__name__.lower()}"
    try:
        return action()
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error)):
            raise UserError(f"{what}: does not fit into memory; make its sizes smaller") from None
        if algo.__module__.partition(".")[0] == "rlexp":
            raise
        raise UserError(f"{what}: fails when it is {doing}: {said_with_place(error)}") from None


def _patiently(config: RunConfig, action: Callable[[], Made]) -> Made:
    """`action()`, of the environment. Raises UserError where it hangs."""

    def last_word(message: str) -> None:
        print(f"error: env.id: {message}", file=sys.stderr)

    try:
        with watchdog.Watch(config.train.patience, last_word):
            return action()
    except watchdog.Hung as error:
        raise UserError(f"env.id: {error}") from None
