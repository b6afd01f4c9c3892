"""What `train.compile=auto` and `env.backend=auto` are on this machine: by a run's length and by what is installed.

Never by the clock, so that the same command means the same again. The bounds were measured (benchmarks/README.md).
"""

import importlib.util
import sysconfig
from collections.abc import Collection
from pathlib import Path
from typing import Any

import gymnasium as gym

from rlexp.algos.base import Algorithm
from rlexp.envs.spec import EnvConfig
from rlexp.util.params import Params
from rlexp.util.processor import compiler

POOLED = ("gymnasium.envs.mujoco", "gymnasium.envs.box2d")  # EnvPool is faster there, and slower on classic control
POOLED_FROM = 100_000  # env steps of a run: in fewer, EnvPool saves less time than it takes to be imported


def has_compiler() -> bool:
    """Whether there is a C++ compiler."""
    return compiler() is not None


def has_headers() -> bool:
    """Whether Python's own headers are there, which compiled code is built with."""
    return Path(sysconfig.get_path("include"), "Python.h").is_file()


def pooled() -> Collection[str] | None:
    """Ids of EnvPool's environments; None where it is not installed."""
    if importlib.util.find_spec("envpool") is None:
        return None
    import envpool  # takes a second

    return envpool.list_all_envs()


def undecided(train: dict[str, Any]) -> dict[str, Any]:
    """The group `train` with false instead of `auto`, so that all else in it can be checked."""
    return {**train, "compile": False} if train.get("compile") == "auto" else train


def decide(algo: type[Algorithm], config: Params, train: dict[str, Any], env: EnvConfig) -> tuple[bool, str, str]:
    """Whether the update is compiled, what simulates training, and what there is to say of that: `auto` decided, and
    what was typed as it was. `train` is that group, its budget checked."""
    said = {}
    compiled, simulator = train["compile"], env.backend
    if compiled == "auto":
        compiled, why = compiles(algo, config, train["budget"], train["device"])
        said[f"train.compile={str(compiled).lower()}"] = why
    if simulator == "auto":
        simulator, why = backend(algo, env, train["budget"])
        said[f"env.backend={simulator}"] = why
    return compiled, simulator, "; ".join(f"{choice} ({why})" for choice, why in said.items() if why)


def compiles(algo: type[Algorithm], config: Params, budget: int, device: str) -> tuple[bool, str]:
    """Whether the update is compiled, and why; "" where nothing is gained.

    budget: in the algorithm's clock
    """
    if not algo.compiles or algo.compiling_pays is None or device != "cpu":
        return False, ""
    updates = algo.updates_within(config, budget)
    length = f"{updates:,.0f} updates; it pays from {algo.compiling_pays:,}"
    if updates < algo.compiling_pays:
        return False, length
    if not has_compiler() or not has_headers():
        return False, "would be faster, but there is no C++ compiler, or Python's headers are not there"
    return True, length


def backend(algo: type[Algorithm], env: EnvConfig, budget: int) -> tuple[str, str]:
    """What simulates the training environments, and why; "" where nothing is gained by another simulator.

    budget: in the algorithm's clock
    """
    known = gym.registry.get(env.id)
    if known is None or not str(known.entry_point).startswith(POOLED) or env.kwargs or not algo.pools:
        return "gymnasium", ""
    length = f"{budget:,} steps; EnvPool pays from {POOLED_FROM:,}"
    if budget < POOLED_FROM:
        return "gymnasium", length
    found = pooled()
    if found is None:
        return "gymnasium", "EnvPool would be faster: the extra 'fast'"
    if known.id not in found:
        return "gymnasium", "EnvPool does not have it"
    return "envpool", length
