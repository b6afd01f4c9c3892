"""Policies as things that act and as files: the shared actor policy, and loading of any policy.

A policy file is one safetensors file: tensors, and a JSON header with the policy's kind and plain data. Reading it
executes nothing: the kind is looked up among the classes of this package.
"""

import copy
import hashlib
import importlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlexp import ckpt
from rlexp.algo import Policy
from rlexp.envs import EnvConfig, EnvSpec, task_of
from rlexp.errors import UserError, nearest, said_of
from rlexp.nets import (
    Actor,
    DeterministicActor,
    GaussianActor,
    Normaliser,
    PolicyConfig,
    actor_for,
    make_actor,
    require_probabilities,
)
from rlexp.paths import POLICIES


class ActorPolicy(Policy, kind="actor"):
    """An actor network with frozen observation statistics; acts by its mode, or samples with `explore`."""

    def __init__(self, actor: Actor, env: EnvSpec, normaliser: Normaliser | None = None, explore: bool = False):
        self.actor = copy.deepcopy(actor).cpu()
        self.env, self.explore, self.normaliser = env, explore, None
        if normaliser is not None:
            self.normaliser = Normaliser(len(normaliser.mean), normaliser.clip)
            self.normaliser.load_state_dict(normaliser.state_dict())
        self.generator = torch.Generator().manual_seed(0)

    @property
    def samples(self) -> bool:
        return self.explore and not isinstance(self.actor, DeterministicActor)

    def start(self, batch: int, rng: np.random.Generator) -> None:
        self.generator.manual_seed(int(rng.integers(2**62)))

    @torch.no_grad()
    def act(self, obs_BO: np.ndarray) -> np.ndarray:
        if obs_BO.ndim != 2:
            raise ValueError(f"observations are (B, O), not {obs_BO.shape}; of one environment, obs[None]")
        x = torch.from_numpy(np.ascontiguousarray(self.normaliser(obs_BO) if self.normaliser else obs_BO, np.float32))
        action = (
            self.actor.sample(x, self.actor.noise([len(x)], self.generator)) if self.explore else self.actor.mode(x)
        )
        return self.env.executable(action.numpy())

    def spec(self) -> dict[str, Any]:
        low, high = self.env.low_A, self.env.high_A
        bounds = {} if low is None or high is None else {"low": low.tolist(), "high": high.tolist()}
        return {"actor": self.actor.spec, "explore": self.explore, **bounds}

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"actor": self.actor.state_dict()}
        return state if self.normaliser is None else {**state, "normaliser": self.normaliser.state_dict()}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], state: Mapping[str, Any]) -> "ActorPolicy":
        actor = make_actor(**spec["actor"])
        actor.load_state_dict(state["actor"])
        normaliser = None
        if "normaliser" in state:
            normaliser = Normaliser(len(state["normaliser"]["mean"]))
            normaliser.load_state_dict(state["normaliser"])
        bounds = [np.asarray(spec[k], np.float32) if k in spec else None for k in ("low", "high")]
        env = EnvSpec(actor.spec["obs_dim"], actor.spec["kind"], actor.spec["n_actions"], *bounds)
        return cls(actor, env, normaliser, spec["explore"])


@dataclass(frozen=True)
class Saved:
    """A policy and what its file says of it."""

    policy: Policy
    env: EnvConfig  # it was trained on
    card: dict[str, Any]  # algorithm, seed, step, versions
    path: Path


def save_policy(path: Path, policy: Policy, env: EnvConfig, card: Mapping[str, Any]) -> None:
    """Write a policy file; raises OSError."""
    ckpt.save(path, {"policy": describe_policy(policy, env, card)})


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
            file = named if named.exists() else ckpt.latest(seed / "checkpoints")
            found += [file] if file else []
        if not found:
            raise UserError(f"{where}: no policy in this folder; a run folder has seed_<k>/checkpoints/")
        return found
    shipped = POLICIES / f"{where}.safetensors"
    if shipped.is_file():
        return [shipped]
    names = [file.stem for file in POLICIES.glob("*.safetensors")]
    raise UserError(f"{where}: no such run folder, policy file or shipped policy{nearest(where, names)}")


def digest(where: str) -> dict[str, str]:
    """The name of the file that `where` means, and a word that is the same for the same content."""
    path = find_policy(where)[0]
    return {"name": path.name, "digest": hashlib.sha256(path.read_bytes()).hexdigest()[:16]}


def seed_number(folder: Path) -> int:
    """k of a folder seed_<k>; −1 for others."""
    tail = folder.name.removeprefix("seed_")
    return int(tail) if tail.isdigit() else -1


def load_policy(where: str | Path, which: str = "final") -> Saved:
    """One policy from a file, a run folder (its first seed), or a shipped name. Raises UserError."""
    path = find_policy(str(where), which)[0]
    tree = ckpt.load(path, "policy")
    kind = str(tree["kind"])
    module = f"rlexp.algos.{kind}"  # a policy that belongs to one algorithm has the name of its file
    if kind not in Policy.kinds and kind.isidentifier() and importlib.util.find_spec(module):
        importlib.import_module(module)
    if kind not in Policy.kinds:
        raise UserError(f"{path}: holds a policy of kind '{kind}', which this version of rlexp does not know")
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, then replaced
        policy = Policy.kinds[kind].from_spec(tree["spec"], tree["state"])
    return Saved(policy, EnvConfig(**tree["env"]), tree["card"], path)


def load_expert(where: str, env: EnvConfig, spec: EnvSpec) -> Policy:
    """A policy to be asked for its mean action in any state. Raises UserError where there is none, it is of another
    task, or its actions depend on what it did before."""
    with said_of(f"expert.policy={where}", _shipped_for(env)):
        saved = load_policy(where)
        policy = saved.policy
        if saved.env.task != env.task:
            raise UserError(f"is of {saved.env.id}, the environment is {env.id}")
        if policy.remembers:
            raise UserError(
                f"a policy of kind '{policy.kind}' goes on from what it did itself, so it cannot say what to do in a "
                "state that another got into"
            )
        policy.explore = False
        try:
            policy.start(1, np.random.default_rng(0))
            action = policy.act(np.zeros((1, spec.obs_dim), np.float32))
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"takes other observations than the environment's ({reason})") from None
        if action.shape[1:] != (() if spec.kind == "discrete" else (spec.n_actions,)):
            raise UserError("its actions are not the environment's")
        return policy


def _shipped_for(env: EnvConfig) -> str:
    """Which shipped policies are of this task, to end a message with."""
    cards = {file.stem: json.loads(file.read_text()) for file in sorted(POLICIES.glob("*.json"))}
    names = [name for name, card in cards.items() if task_of(str(card.get("env"))) == env.task]
    return f" (shipped for {env.name}: {', '.join(names)})" if names else ""


def start_weights(actor: Actor, config: PolicyConfig, *, normalise: bool = False) -> Normaliser | None:
    """Copy the weights of the policy that `policy.init` names, if any, into `actor`. Returns what observations are
    standardised by, if they are (`normalise`): the statistics that go with the weights, or new ones. Raises UserError
    if the weights don't fit, or saw observations otherwise."""
    if config.init is None:
        return Normaliser(actor.spec["obs_dim"]) if normalise else None
    spec = EnvSpec(actor.spec["obs_dim"], actor.spec["kind"], actor.spec["n_actions"])
    with said_of(f"policy.init={config.init}"):
        policy = _init(config, spec)
        theirs = policy.actor
        if theirs.spec != actor.spec:
            raise UserError(f"holds {theirs.spec}; this run's policy is {actor.spec}")
        if normalise and policy.normaliser is None:
            raise UserError("sees observations raw; use algo.normalise_obs=false")
        if policy.normaliser is not None and not normalise:
            raise UserError("sees observations standardised; this run takes them raw: algo.normalise_obs=true, if any")
    actor.load_state_dict(theirs.state_dict())
    return policy.normaliser


def start_policy(env: EnvSpec, config: PolicyConfig) -> ActorPolicy:
    """The policy that `policy.init` names, of whatever architecture, with its observation statistics; an untrained one
    as `policy` describes it where it names none. Raises UserError where it is of another task."""
    if config.init is None:
        return ActorPolicy(actor_for(env, config), env)
    with said_of(f"policy.init={config.init}"):
        policy = _init(config, env)
        require_probabilities(policy.actor)
        theirs, ours = ([s[k] for k in ("kind", "obs_dim", "n_actions")] for s in (policy.actor.spec, vars(env)))
        if theirs != ours:
            raise UserError(f"its actions and observations are {theirs}, the environment's {ours}")
    return ActorPolicy(policy.actor, env, policy.normaliser)


def _init(config: PolicyConfig, env: EnvSpec) -> ActorPolicy:
    """The policy in the file or folder `policy.init`. Raises UserError where there is none, or it is no actor."""
    path = Path(str(config.init))
    if path.suffix in (".pt", ".pth") and path.is_file():
        return ActorPolicy(_from_state_dict(path, env, config.activation), env)
    policy = load_policy(str(config.init)).policy
    if not isinstance(policy, ActorPolicy):
        raise UserError(f"holds a {policy.kind} policy, not an actor network")
    return policy


def _from_state_dict(path: Path, env: EnvSpec, activation: str) -> Actor:
    """An actor from a plain PyTorch state_dict: the weight matrices are an MLP's layers in the file's order, a tensor
    named *std* the log standard deviations. A file holds no activations: they are `policy.activation`."""
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's many errors, refusals to execute code among them
        raise UserError(f"{path}: cannot be read as a state_dict ({' '.join(str(error).split())[:150]})") from None
    if not isinstance(tensors, Mapping) or not all(isinstance(t, torch.Tensor) for t in tensors.values()):
        raise UserError(f"{path}: is not a state_dict, a mapping of names to tensors")
    layers = {name: t for name, t in tensors.items() if t.ndim == 2 and name.endswith("weight")}
    biases = [name.removesuffix("weight") + "bias" for name in layers]
    stds = [name for name, t in tensors.items() if "std" in name and t.numel() == env.n_actions]
    widths = [env.obs_dim, *(len(t) for t in layers.values())]
    chained = [t.shape[1] for t in layers.values()] == widths[:-1] and widths[-1] == env.n_actions
    wanted = {*layers, *biases, *(stds if env.kind == "continuous" else [])}
    if not layers or not chained or wanted != set(tensors) or (env.kind == "continuous" and len(stds) != 1):
        shapes = ", ".join(f"{name} {tuple(t.shape)}" for name, t in tensors.items())
        raise UserError(
            f"{path}: is not an MLP from {env.obs_dim} observations to {env.n_actions} actions"
            f"{' and one log std' if env.kind == 'continuous' else ''}; it holds {shapes}"
        )
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, then replaced
        actor = make_actor(env.kind, env.obs_dim, env.n_actions, hidden=widths[1:-1], activation=activation)
    linear = [module for module in actor.body if isinstance(module, torch.nn.Linear)]
    with torch.no_grad():
        for module, name, bias in zip(linear, layers, biases, strict=True):
            module.weight.copy_(tensors[name])
            module.bias.copy_(tensors[bias])
        if isinstance(actor, GaussianActor):
            actor.log_std.copy_(tensors[stds[0]].reshape(-1))
    return actor
