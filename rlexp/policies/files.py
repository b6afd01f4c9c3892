"""Policies as things that act and as files: the shared actor policy, and loading of any policy.

A policy file is one safetensors file: tensors, and a JSON header with the policy's kind and plain data. Reading it
executes nothing: the kind is looked up among the classes of rlexp and of installed plugins (see rlexp/util/trust.py).
Files of other programs are read as such a file (see foreign.py); what they don't say is given with them.
"""

import copy
import hashlib
import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from rlexp.envs.make import describe
from rlexp.envs.spec import EnvConfig, EnvSpec
from rlexp.policies import (
    actor,  # noqa: F401  registers the kind "actor"
    foreign,
)
from rlexp.policies.base import Policy
from rlexp.policies.reading import Reading, Unsaid
from rlexp.util import checkpoint, paths, plugins
from rlexp.util.errors import UserError, did_you_mean, nearest, said_of
from rlexp.util.files import in_one_line
from rlexp.util.params import typed
from rlexp.util.trust import environment_names, require

PARTS = {"kind": str, "spec": dict, "state": dict, "env": dict, "card": dict}  # of a policy's file
SLACK = 1_000_000  # numbers that a network may have beside those in its file: tables of sines, masks
LARGEST_SIZE = 100_000  # of what a spec says besides: horizons, time limits


@dataclass(frozen=True)
class Saved:
    """A policy and what its file says of it."""

    policy: Policy
    env: EnvConfig  # it was trained on
    card: dict[str, Any]  # algorithm, seed, step, versions
    path: Path
    notes: list[str] = field(default_factory=list)  # of another program's file: what was left out, a line each
    assumed: str | None = None  # of another program's file: the activation, where nobody has said it


def save_policy(path: Path, policy: Policy, env: EnvConfig, card: Mapping[str, Any]) -> None:
    """Write a policy file; raises OSError."""
    checkpoint.save(path, {"policy": describe_policy(policy, env, card)})


def describe_policy(policy: Policy, env: EnvConfig, card: Mapping[str, Any]) -> dict[str, Any]:
    """A policy as plain data and tensors, the branch `policy` of every checkpoint."""
    return {
        "kind": policy.kind,
        "spec": policy.spec(),
        "state": policy.state_dict(),
        "env": asdict(env),
        "card": dict(card),
    }


def find_policy(where: str, which: str = "final") -> list[Path]:
    """Policy files that `where` means: a file, a run or seed folder (its `final` or `best` policy, one of each seed;
    the latest checkpoint where there is none yet), or the name of a shipped policy. Raises UserError for none."""
    path = Path(where).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        seeds = [path] if (path / "checkpoints").is_dir() else paths.seed_folders(path)
        found = []
        for seed in seeds:
            named = seed / "checkpoints" / f"{which}.safetensors"
            file = named if named.exists() else checkpoint.latest(seed / "checkpoints")
            found += [file] if file else []
        if not found:
            raise UserError(f"{where}: no policy in this folder; a run folder has seed_<k>/checkpoints/")
        return found
    named = paths.policy(where)
    if named.is_file():
        return [named]
    hint = did_you_mean(nearest(where, paths.policies()))
    raise UserError(f"{where}: no such run folder, policy file or shipped policy{hint}")


def digest(where: str) -> dict[str, str]:
    """The name of the file that `where` means, and a word that is the same for the same content."""
    path = find_policy(where)[0]
    content = hashlib.sha256()
    for file in foreign.files(path):
        content.update(file.read_bytes())
    return {"name": path.name, "digest": content.hexdigest()[:16]}


def load_policy(
    where: str | Path,
    which: str = "final",
    *,
    trust: bool = False,
    clip_actions: bool | None = None,
    **unsaid: Any,
) -> Saved:
    """One policy from a file, a run folder (its first seed), or a shipped name. Raises UserError, also for a file whose
    policy or environment would have a module imported that is not admitted, unless `trust` is true.

    Of another program's file (a state_dict, a zip of Stable-Baselines3) `unsaid` is what it does not say itself: `env`,
    the environment it acts in, by name; and where they are needed `activation`, `prefix`, `bounded` and `vecnormalize`
    (see reading.py). `clip_actions`: whether it acts with clipped actions or as drawn, whatever its file says."""
    path = find_policy(str(where), which)[0]
    given = Unsaid.of(unsaid)
    if foreign.is_foreign(path):
        saved = _load_foreign(path, given)
    elif given.given:
        raise UserError(f"{path}: is rlexp's own and says its {given.given[0]} itself; leave that out")
    else:
        saved = _load_own(path, trust)
    return saved if clip_actions is None else _with_clip_actions(saved, clip_actions)


def _with_clip_actions(saved: Saved, clip_actions: bool) -> Saved:
    """The same policy with another way of executing what it draws. Raises UserError where it has none."""
    spec = getattr(saved.policy, "env", None)
    if not isinstance(spec, EnvSpec) or spec.kind == "discrete":
        raise UserError(f"{saved.path}: clip_actions is about continuous actions, which this policy does not draw")
    policy = copy.copy(saved.policy)
    policy.env = replace(spec, clip_actions=clip_actions)  # type: ignore[attr-defined]
    return replace(saved, policy=policy, env=replace(saved.env, clip_actions=clip_actions))


def _load_own(path: Path, trust: bool) -> Saved:
    tree = checkpoint.load(path, "policy")
    with said_of(str(path)):
        for key, type_of_it in PARTS.items():
            if not isinstance(tree, dict) or not isinstance(tree.get(key), type_of_it):
                raise UserError(f"holds no policy that can be read ({key} is missing or no {type_of_it.__name__})")
        kind, env = tree["kind"], tree["env"]
        if not trust:
            kinds = [kind] if ":" in kind and kind not in Policy.kinds else []
            require([*kinds, *environment_names(env.get("id"), env.get("backend"))])
        return Saved(_made(_class_of(kind), tree["spec"], tree["state"]), _environment(env), tree["card"], path)


def _environment(node: dict[str, Any]) -> EnvConfig:
    """The environment that a file says. Raises UserError."""
    if "${" in str(node):
        raise UserError("env: refers to other values (${...}), which a policy's file has no use for")
    return typed(EnvConfig, node, "env")


def _made(policy_class: type[Policy], spec: dict[str, Any], state: dict[str, Any]) -> Policy:
    """The policy of a file. Raises UserError for what does not fit together, and for a network of more numbers than
    the file has: a few words can ask for terabytes."""
    numbers = _count(state)
    most = SLACK + 4 * numbers
    for size in _whole_numbers(spec):
        if abs(size) > max(numbers, LARGEST_SIZE):
            raise UserError(f"is no policy that can be read (a size of {size:,}, with {numbers:,} numbers in the file)")
    made = 0

    def count(module: torch.nn.Module, name: str, tensor: torch.Tensor | None) -> None:
        nonlocal made
        made += tensor.numel() if tensor is not None else 0
        if made > most:
            raise UserError(f"describes a network of more than {most:,} numbers, and holds {numbers:,}")

    registered = [register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)]
    try:
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn, then replaced
            return policy_class.from_spec(spec, state)
    except UserError:
        raise
    except Exception as error:  # whatever a class makes of a spec that is not its own
        reason = f"{type(error).__name__}: {in_one_line(error)}"
        raise UserError(f"holds no policy that can be read ({reason})") from None
    finally:
        for hook in registered:
            hook.remove()


def _count(node: Any) -> int:
    """How many numbers the tensors and arrays of a state have."""
    if isinstance(node, dict):
        return sum(_count(value) for value in node.values())
    if isinstance(node, list):
        return sum(_count(value) for value in node)
    if isinstance(node, torch.Tensor):
        return node.numel()
    return node.size if isinstance(node, np.ndarray) else 0


def _whole_numbers(node: Any) -> Iterator[int]:
    """All whole numbers in a spec; lengths of its lists among them."""
    if isinstance(node, dict):
        for value in node.values():
            yield from _whole_numbers(value)
    elif isinstance(node, list):
        yield 100 * len(node)  # layers take longer to make than numbers
        for value in node:
            yield from _whole_numbers(value)
    elif isinstance(node, int):
        yield node


def _load_foreign(path: Path, unsaid: Unsaid) -> Saved:
    if unsaid.env is None:
        raise UserError(f"{path}: is a file of another program, which does not say its environment; name it with env")
    reading, policy = read_foreign(path, describe(unsaid.env), unsaid)
    return Saved(policy, unsaid.env, {"algo": path.stem}, path, reading.notes, reading.assumed)


def read_foreign(path: Path, env: EnvSpec, unsaid: Unsaid) -> tuple[Reading, Policy]:
    """Another program's policy, which acts in `env`, and what is to be said of it. Raises UserError."""
    reading = foreign.read(path, env, unsaid)
    with said_of(str(path)):
        return reading, _made(_class_of(reading.kind), reading.spec, reading.state)


def _class_of(kind: str) -> type[Policy]:
    """The class of a kind, whose module is imported where it has not been. Raises UserError."""
    module, colon, _ = kind.partition(":")
    if kind in Policy.kinds:
        return Policy.kinds[kind]
    if colon:
        plugins.import_module(module)
    elif kind.isidentifier() and importlib.util.find_spec(f"rlexp.algos.{kind}"):
        importlib.import_module(f"rlexp.algos.{kind}")  # it belongs to one algorithm and has the name of its file
    if kind not in Policy.kinds:
        raise UserError(f"holds a policy of kind '{kind}', which this version of rlexp does not know")
    return Policy.kinds[kind]
