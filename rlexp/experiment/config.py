"""From yaml and command line to one frozen, checked `RunConfig`; or one line that says what is wrong.

Hydra composes; `params.typed` merges each group into the dataclass that declares it. Unknown keys, wrong types, missing
values, values out of range and impossible combinations raise UserError before anything is written.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from rlexp.algos.base import Algorithm
from rlexp.datasets.load import BufferConfig
from rlexp.engines.base import Engine
from rlexp.envs.spec import EnvConfig
from rlexp.experiment import automatic, former_names
from rlexp.loggers import make as loggers
from rlexp.nn.actors import ACTIVATIONS, PolicyConfig
from rlexp.report.film import VideoConfig
from rlexp.report.naming import names
from rlexp.report.records import read_config
from rlexp.util import paths, targets, trust
from rlexp.util.errors import UserError, did_you_mean, said_of
from rlexp.util.former_keys import renamed
from rlexp.util.params import OutOfRange, Params, all_keys, nearest_key, param, typed
from rlexp.util.plugins import said_with_place
from rlexp.util.processes import require_workers

LARGEST_SEED = 2**64 - 1


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Params):
    budget: int = param("training length", unit="the algorithm's clock", ge=1)
    eval_every: int = param("distance between evaluations", unit="the algorithm's clock", ge=1)
    save_every: int = param("distance between full checkpoints", unit="the algorithm's clock", ge=1)
    eval_episodes: int = param("episodes per evaluation", ge=1, le=100_000)
    eval_sampled: bool = param("evaluate sampled instead of mean (most likely) actions")
    keep: int = param("newest full checkpoints kept", ge=1)
    snapshot_every: int | None = param(
        "distance between policy files that are all kept, the untrained one included; null: none",
        unit="the algorithm's clock",
        ge=1,
    )
    threads: int = param("threads of each process", ge=1, le=1024)
    # Not in configs from before it.
    patience: float | None = param(
        "silence of an environment, a renderer or an update, after which it hangs; null: none is too long",
        unit="seconds",
        gt=0,
        le=1_000_000,
        default=None,
    )
    device: str = param("where networks are trained", choices=("cpu", "cuda", "auto"))
    compile: bool = param("compile the update")


@dataclass(frozen=True, kw_only=True)
class ExpertConfig(Params):
    policy: str | None = param("policy that labels states", file=True)
    # Of another program's file; not in configs from before them, which mean the same without.
    activation: str | None = param(
        "between its layers; null: tanh is assumed", choices=tuple(ACTIVATIONS), default=None
    )
    prefix: str | None = param("of the actor's tensors, where the file holds several networks", default=None)
    bounded: bool = param("a last tanh scales its actions to the action space", default=False)
    vecnormalize: str | None = param("pickle of Stable-Baselines3's VecNormalize", default=None, file=True)

    @property
    def unsaid(self) -> dict[str, Any]:
        """What is given of what the file does not say itself."""
        given = dataclasses.asdict(self)
        return {key: value for key, value in given.items() if key != "policy" and value}


@dataclass(frozen=True)
class RunConfig:
    """Everything a run depends on. `plain` is the same as nested dicts: what config.yaml holds."""

    algo_class: type[Algorithm]
    algo: Params
    env: EnvConfig
    train: TrainConfig
    policy: PolicyConfig
    buffer: BufferConfig
    expert: ExpertConfig
    video: VideoConfig
    loggers: tuple[loggers.Chosen, ...]
    seeds: tuple[int, ...]
    reference: str | None
    plain: dict[str, Any]
    decided: str = ""  # what options that were left to it are on this machine, and why

    @property
    def algo_name(self) -> str:
        return names(self.plain)[0]

    @property
    def name(self) -> str:
        """`<algo>_<env>`, usable as a file name."""
        return "_".join(names(self.plain))


TOP_LEVEL = (
    "algo",
    "env",
    "train",
    "policy",
    "buffer",
    "expert",
    "video",
    "seeds",
    "logger",
    "resume",
    "reference",
    "runs",
    "workers",
    "study",
)


def require(plain: Any) -> None:
    """Raise UserError where a part of a run's config is missing."""
    for key in TOP_LEVEL[:7]:
        if not isinstance(plain, dict) or not isinstance(plain.get(key), dict):
            raise UserError(f"{key}: is missing; every run has that group")
    if "seeds" not in plain:
        raise UserError("seeds: is missing; e.g. 'seeds=[0,1,2]'")


def stored(folder: Path) -> dict[str, Any]:
    """The resolved config of the run in `folder`, as its config.yaml has it. Raises UserError."""
    config = read_config(folder)
    with said_of(str(folder / "config.yaml")):
        require(config)
        trust.require(trust.names_in(config))
        config["algo"] = renamed(config["algo"])
        return former_names.with_loggers(config)


def make_engine(node: Any) -> Engine:
    """The engine that the group `engine` describes. Raises UserError where there is none, or its options are wrong."""
    options = dict(node) if isinstance(node, dict) else {}
    engine = targets.find(options.pop("_target_", None), Engine, "engine._target_")
    config = typed(engine.Config, options, "engine")
    try:
        return engine(config)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"engine {engine.__name__} cannot begin: {said_with_place(error)}") from None


def build(config: DictConfig | dict[str, Any]) -> RunConfig:
    """The checked config of one run. Imports the chosen algorithm (and torch). Raises UserError."""
    if isinstance(config, dict):
        plain: dict[str, Any] = config
    else:
        plain = _resolve(config)
        trust.admit(trust.names_in(plain))  # composed now: of what was typed, rlexp's and plugins' own files
    require(plain)
    plain = {key: value for key, value in plain.items() if key != "engine"}  # how it is run changes no number
    plain = former_names.with_loggers(plain)
    for key in plain:
        if key not in TOP_LEVEL:
            known = all_keys({k: v for k, v in plain.items() if k in TOP_LEVEL})
            raise UserError(f"{key}: unknown option{did_you_mean(nearest_key(key, known))}")
    require_workers(plain.get("workers"))
    algo_class = targets.find(plain["algo"].get("_target_"), Algorithm, "algo._target_")
    body = {key: value for key, value in renamed(plain["algo"]).items() if key != "_target_"}
    train = _lengths(dict(plain["train"]))
    if train.get("device") == "auto":  # resolved here, so that the stored config says which it was
        import torch

        train["device"] = "cuda" if "cuda" in algo_class.devices and torch.cuda.is_available() else "cpu"
    body = algo_class.resolve(body, str(train.get("device")))
    env = typed(EnvConfig, plain["env"], "env")
    trainc = typed(TrainConfig, automatic.undecided(train), "train")
    algo = typed(algo_class.Config, body, "algo")
    compiles, backend, decided = automatic.decide(algo_class, algo, train, env)
    trainc = dataclasses.replace(trainc, compile=compiles)
    env = dataclasses.replace(env, backend=backend)
    try:
        algo_class.check(algo, trainc.budget)
    except OutOfRange as error:
        raise UserError(f"algo.{error.key}: {error}") from None
    policy = typed(PolicyConfig, plain["policy"], "policy")
    video = typed(VideoConfig, plain["video"], "video")
    buffer = typed(BufferConfig, plain["buffer"], "buffer")
    expert = typed(ExpertConfig, plain["expert"], "expert")
    if not isinstance(plain["logger"], dict):
        raise UserError(f"logger: {plain['logger']!r} is no group of loggers; choose some with logger=NAME")
    chosen = loggers.chosen(plain["logger"])
    _require_inputs(algo_class, buffer, expert)
    _require_usual(algo_class, policy)
    plain = {
        **plain,
        "algo": {"_target_": plain["algo"]["_target_"], **dataclasses.asdict(algo)},
        "env": dataclasses.asdict(env),
        "train": dataclasses.asdict(trainc),
        "policy": dataclasses.asdict(policy),
        "buffer": dataclasses.asdict(buffer),
        "expert": dataclasses.asdict(expert),
        "video": dataclasses.asdict(video),
        "logger": {logger.name: logger.plain() for logger in chosen},
        "seeds": seed_list(plain["seeds"]),
    }
    reference = plain.get("reference")
    if not isinstance(reference, str | None):
        raise UserError(
            f"reference: {reference!r} is no name of a gallery entry; null: <algo>_<env>, where there is one"
        )
    seeds = tuple(plain["seeds"])
    return RunConfig(
        algo_class, algo, env, trainc, policy, buffer, expert, video, chosen, seeds, reference, plain, decided
    )


def _lengths(train: dict[str, Any]) -> dict[str, Any]:
    """The group `train` with the distances that follow from its budget, where that is a number."""
    budget = train.get("budget")
    if not isinstance(budget, int | float) or isinstance(budget, bool) or not math.isfinite(budget):
        return train
    for name, share in (("eval_every", 20), ("save_every", 10)):
        if train.get(name) is None:
            train[name] = max(1, math.ceil(budget / share))
    return train


def _require_inputs(algo_class: type[Algorithm], buffer: BufferConfig, expert: ExpertConfig) -> None:
    """Raise UserError unless data and an expert are given where the algorithm needs them, and only there."""
    asked = expert.policy and f"expert.policy={expert.policy}"
    for key, given, need in (("buffer.dataset", buffer.given, "data"), ("expert.policy", asked, "expert")):
        if given is not None and need not in algo_class.needs:
            raise UserError(f"{given}: {algo_class.__name__} uses no {need}; leave it null")
        if given is None and need in algo_class.needs:
            raise UserError(f"{key}: {algo_class.__name__} learns from {need}; give it with {key}=...")
    if buffer.limited and "data" not in algo_class.needs:
        raise UserError(f"{buffer.limited}: {algo_class.__name__} uses no data; leave it out")


def _require_usual(algo_class: type[Algorithm], policy: PolicyConfig) -> None:
    """Raise UserError for an option of the policy that the algorithm ignores and that is not as in conf/."""
    usual: Any = OmegaConf.to_container(OmegaConf.load(paths.CONF / "policy" / "mlp.yaml"))
    for key, value in dataclasses.asdict(policy).items():
        if key in algo_class.ignores and value != usual[key]:
            what = "a network of its own, see algo.*" if algo_class.ignores >= set(usual) else "no use for it"
            given, kept = (json.dumps(x).strip('"') for x in (value, usual[key]))
            raise UserError(f"policy.{key}={given}: {algo_class.__name__} has {what}; leave it {kept}")


def _resolve(config: DictConfig) -> dict[str, Any]:
    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        led_to = re.search(r"interpolation: Missing mandatory value: ([\w.]+)", str(error))
        if led_to or isinstance(error, MissingMandatoryValue):
            name = led_to[1] if led_to else error.full_key
            raise UserError(f"{name}: a value is missing; give one with {name}=...") from None
        where = f"{error.full_key}: " if error.full_key else ""
        raise UserError(where + str(error).splitlines()[0]) from None


def seed_list(value: Any) -> list[int]:
    """Distinct whole numbers ≥ 0, from a list or one of them. Raises UserError for others."""
    seeds = value if isinstance(value, list) else [value]
    for seed in seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise UserError(f"seeds: {seed!r} is not a whole number ≥ 0; e.g. 'seeds=[0,1,2]'")
        if seed > LARGEST_SEED:
            raise UserError(f"seeds: {str(seed)[:12]}... has {len(str(seed))} digits; the largest seed is 2**64 - 1")
    if len(set(seeds)) < len(seeds) or not seeds:
        raise UserError(f"seeds: {seeds} {'is empty' if not seeds else 'repeats a seed'}; e.g. 'seeds=[0,1,2]'")
    return seeds
