"""Policies as things that act and as files: the shared actor policy, and loading of any policy.

A policy file is one safetensors file: tensors, and a JSON header with the policy's kind and plain data. Reading it
executes nothing: the kind is looked up among the classes of rlexp and of installed plugins (see rlexp/util/trust.py).
"""

import hashlib
import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from rlexp.envs.spec import EnvConfig
from rlexp.policies import actor  # noqa: F401  registers the kind "actor"
from rlexp.policies.base import Policy
from rlexp.util import checkpoint, paths, plugins
from rlexp.util.errors import UserError, did_you_mean, nearest, said_of
from rlexp.util.trust import environment_names, require


@dataclass(frozen=True)
class Saved:
    """A policy and what its file says of it."""

    policy: Policy
    env: EnvConfig  # it was trained on
    card: dict[str, Any]  # algorithm, seed, step, versions
    path: Path


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
    path = Path(where)
    if path.is_file():
        return [path]
    if path.is_dir():
        seeds = [path] if (path / "checkpoints").is_dir() else sorted(path.glob("seed_*"), key=seed_number)
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
    return {"name": path.name, "digest": hashlib.sha256(path.read_bytes()).hexdigest()[:16]}


def seed_number(folder: Path) -> int:
    """k of a folder seed_<k>; −1 for others."""
    tail = folder.name.removeprefix("seed_")
    return int(tail) if tail.isdigit() else -1


def load_policy(where: str | Path, which: str = "final", *, trust: bool = False) -> Saved:
    """One policy from a file, a run folder (its first seed), or a shipped name. Raises UserError, also for a file whose
    policy or environment would have a module imported that is not admitted, unless `trust` is true."""
    path = find_policy(str(where), which)[0]
    tree = checkpoint.load(path, "policy")
    kind, env = str(tree["kind"]), tree["env"]
    with said_of(str(path)):
        if not trust:
            kinds = [kind] if ":" in kind and kind not in Policy.kinds else []
            require([*kinds, *environment_names(env.get("id"), env.get("backend"))])
        policy_class = _class_of(kind)
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, then replaced
        policy = policy_class.from_spec(tree["spec"], tree["state"])
    return Saved(policy, EnvConfig(**env), tree["card"], path)


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
