"""Actors from plain PyTorch state_dicts.

A file holds names and tensors. The weight matrices of an actor are an MLP's layers in the file's order, each with a
bias; a tensor with "std" or "sigma" in its name is the standard deviation. Where there are several networks, the
actor's tensors share the beginning of their names, a *prefix*: it is the one under which a whole MLP fits the
environment.
"""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rlexp.envs.spec import EnvSpec
from rlexp.policies.reading import Parts, Reading, Unsaid, listed
from rlexp.policies.tensors import read_tensors
from rlexp.util.errors import UserError, said_of

Tensors = Mapping[str, torch.Tensor]

OTHERS = re.compile(r"target|critic|value|vf|q_?net|qf|baseline|discriminator|optimizer", re.IGNORECASE)
ACTORS = re.compile(r"actor|policy|pi\b|pi_", re.IGNORECASE)
STD = re.compile(r"std|sigma", re.IGNORECASE)
SCALE = ("action_scale", "action_bias")  # how CleanRL's squashed actors store their action space


@dataclass(frozen=True)
class Network:
    """An MLP among named tensors."""

    prefix: str
    layers: tuple[str, ...]  # names of its weights, from first to last


def read(path: Path, env: EnvSpec, unsaid: Unsaid) -> Reading:
    """The actor in the state_dict at `path`, which acts in `env`. Raises UserError where there is none, or several."""
    tensors = read_tensors(path)
    with said_of(str(path)):
        network = _find(tensors, env, unsaid.prefix)
        parts = _parts(tensors, network, env, unsaid.bounded)
        return parts.as_actor(env, unsaid.activation, unsaid.usual)


def _find(tensors: Tensors, env: EnvSpec, prefix: str | None) -> Network:
    """The actor's network. Raises UserError."""
    if prefix is not None:
        return _named(tensors, env, prefix)
    found: dict[tuple[str, ...], Network] = {}
    for start in _prefixes(tensors):
        network = Network(start, _layers(tensors, [start]))
        if _misfit(tensors, network.layers, env) is None and not _goes_on(tensors, network, env):
            found.setdefault(network.layers, network)
    # The last layers of a network may fit too: what is a part of another is not meant.
    fitting = [n for n in found.values() if not any(set(n.layers) < set(other) for other in found)]
    if len(fitting) > 1:
        fitting = [n for n in fitting if not OTHERS.search(n.prefix)] or fitting
    if len(fitting) > 1:
        fitting = [n for n in fitting if ACTORS.search(n.prefix)] or fitting
    if len(fitting) > 1:
        names = ", ".join(n.prefix or "(no prefix)" for n in fitting)
        raise UserError(f"several networks in it fit the environment: {names}; name one as prefix")
    if fitting:
        return fitting[0]
    shared = Network("", tuple(name for name in _layers(tensors, [""]) if not OTHERS.search(name)))
    misfit = _misfit(tensors, shared.layers, env)
    if misfit is not None:
        raise UserError(f"{_expected(env)}: {misfit}; it holds {listed(tensors)}")
    return shared


def _goes_on(tensors: Tensors, network: Network, env: EnvSpec) -> bool:
    """Whether a network of one layer is the next of a layer beside it, which has as many outputs as there are
    observations."""
    everything = _layers(tensors, [""])
    before = everything[: everything.index(network.layers[0])][-1:]
    if len(network.layers) > 1 or not before or network.prefix == "":
        return False
    beside = before[0].rpartition(".")[0].rpartition(".")[0] == network.prefix.rpartition(".")[0]
    return beside and len(tensors[before[0]]) == env.obs_dim and not OTHERS.search(before[0])


def _named(tensors: Tensors, env: EnvSpec, prefix: str) -> Network:
    """The network whose tensors' names begin with `prefix`, or several in order, commas between. Raises UserError."""
    known = _prefixes(tensors)
    starts = []
    for part in map(str.strip, prefix.split(",")):
        begun = [name for name in known if name.startswith(part)]
        starts += [part] if part in known else [name for name in begun if "." not in name.removeprefix(part)]
    layers = _layers(tensors, starts)
    misfit = _misfit(tensors, layers, env)
    if not layers:
        first = ", ".join(dict.fromkeys(name.split(".")[0] for name in tensors))
        raise UserError(f"holds no weights whose names begin with prefix '{prefix}'; names begin with {first}")
    if misfit is not None:
        theirs = {name: tensors[name] for name in layers}
        raise UserError(f"prefix '{prefix}': {_expected(env)}: {misfit}; it holds {listed(theirs)}")
    return Network(prefix, layers)


def _prefixes(tensors: Tensors) -> list[str]:
    """Beginnings of names, up to a dot each; the shortest first."""
    found = {""}
    for name in tensors:
        parts = name.split(".")
        found |= {".".join(parts[:n]) for n in range(1, len(parts))}
    return sorted(found, key=lambda prefix: (len(prefix), prefix))


def _layers(tensors: Tensors, prefixes: list[str]) -> tuple[str, ...]:
    """Names of the weight matrices under each of `prefixes`, but those of a standard deviation."""
    return tuple(
        name
        for prefix in prefixes
        for name, tensor in tensors.items()
        if _under(name, prefix) and tensor.ndim == 2 and name.endswith("weight") and not STD.search(name)
    )


def _under(name: str, prefix: str) -> bool:
    return not prefix or name.startswith(f"{prefix}.")


def _beside(name: str, prefix: str) -> str:
    """The beginning of a tensor's name up to where it is another than `prefix`: `model.critic` beside `model.actor`."""
    parts = name.split(".")
    pairs = zip(parts, prefix.split("."), strict=False)  # as long as the shorter
    same = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
    return ".".join(parts[: same + 1])


def _bias(weight: str) -> str:
    return weight.removesuffix("weight") + "bias"


def _misfit(tensors: Tensors, layers: tuple[str, ...], env: EnvSpec) -> str | None:
    """Why the weights `layers` are not an MLP from the environment's observations to its actions; None if they are."""
    width = env.obs_dim
    for name in layers:
        shape = tuple(tensors[name].shape)
        if shape[1] != width:
            return f"{name} {shape} takes {shape[1]} inputs where {width} come"
        width = shape[0]
        bias = tensors.get(_bias(name))
        if bias is None or tuple(bias.shape) != (width,):
            found = "is missing" if bias is None else f"has shape {tuple(bias.shape)}"
            return f"{_bias(name)} {found}, expected ({width},)"
    if not layers:
        return "there is no weight matrix"
    if width != env.n_actions:
        return f"{layers[-1]} {tuple(tensors[layers[-1]].shape)} has {width} outputs, expected {env.n_actions}"
    return None


def _expected(env: EnvSpec) -> str:
    what = f"is not an MLP from {env.obs_dim} observations to {env.n_actions} actions"
    return f"{what} (weights (…, {env.obs_dim}) to ({env.n_actions}, …), a bias each)"


def _parts(tensors: Tensors, network: Network, env: EnvSpec, bounded: bool) -> Parts:
    """The tensors of the actor, and what is to be said of the others. Raises UserError."""
    layers = network.layers
    used = {*layers, *map(_bias, layers)}
    notes: list[str] = []
    log_std_A = None
    bounds = None
    if env.kind == "continuous":
        log_std_A = _log_std(tensors, network, env, used, notes)
        bounds = _bounds(tensors, network, env, bounded, used, notes)
    elif bounded:
        raise UserError("bounded: a last tanh scales continuous actions; the environment's are discrete")
    rest = {name: tensor for name, tensor in tensors.items() if name not in used}
    own = {name: t for name, t in rest.items() if _under(name, network.prefix) and not OTHERS.search(name)}
    if own and "," not in network.prefix:
        raise UserError(f"holds what is no part of an MLP: {listed(own, 4)}")
    if rest:
        names = dict.fromkeys(_beside(name, network.prefix) for name in rest)
        notes.append(f"left out: {', '.join(names)}")
    for name in used:
        if not tensors[name].is_floating_point() or not torch.isfinite(tensors[name]).all():
            raise UserError(f"{name} holds what is not a finite number")
    return Parts([tensors[n] for n in layers], [tensors[_bias(n)] for n in layers], log_std_A, bounds, None, notes)


def _log_std(tensors: Tensors, network: Network, env: EnvSpec, used: set[str], notes: list[str]) -> torch.Tensor | None:
    """The log standard deviation (A,), the same in all states; None where there is none. Adds to `used` and `notes`."""
    named = {name: t for name, t in tensors.items() if STD.search(name) and not OTHERS.search(name)}
    own = {name: t for name, t in named.items() if _under(name, network.prefix)}
    found = own or named
    heads = [name for name in found if name.endswith(("weight", "bias"))]
    if heads:
        used.update(heads)
        notes.append(f"its standard deviation depends on the state ({heads[0]}), so it has mean actions only")
        return None
    if not found:
        notes.append("holds no standard deviation, so it has mean actions only")
        return None
    if len(found) > 1 or next(iter(found.values())).numel() != env.n_actions:
        raise UserError(f"{_expected(env)} and one log std ({env.n_actions},); it holds {listed(found)}")
    name, std = next(iter(found.items()))
    used.add(name)
    if "log" in name.lower():
        return std
    if not (std > 0).all():
        raise UserError(f"{name} is not > 0; if it is the logarithm, its name must have log in it")
    return std.log()


def _bounds(
    tensors: Tensors, network: Network, env: EnvSpec, bounded: bool, used: set[str], notes: list[str]
) -> list[list[float]] | None:
    """Between which values (2, A) a last tanh keeps actions; None without. Adds to `used` and `notes`."""
    names = [name for name in tensors if name.rpartition(".")[2] in SCALE and _under(name, network.prefix)]
    if len(names) == len(SCALE):
        scale_A, bias_A = (tensors[name].float().reshape(-1) for name in sorted(names, reverse=True))
        if len(scale_A) != env.n_actions or len(bias_A) != env.n_actions:
            raise UserError(f"{listed({name: tensors[name] for name in names})}: expected ({env.n_actions},)")
        used.update(names)
        notes.append(f"a last tanh is scaled by its {' and '.join(names)}")
        return [(bias_A - scale_A).tolist(), (bias_A + scale_A).tolist()]
    if not bounded:
        return None
    low_A, high_A = env.box
    if not np.isfinite([low_A, high_A]).all():
        raise UserError("bounded: the environment's actions have no bounds that a last tanh could be scaled to")
    return [low_A.tolist(), high_A.tolist()]
