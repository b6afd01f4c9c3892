"""Policies to begin from: experts that label states, and weights that training starts with."""

import contextlib
import math
from typing import Any

import numpy as np

from rlexp.envs.spec import EnvConfig, EnvSpec, task_of
from rlexp.nn.actors import Actor, Normaliser, PolicyConfig, actor_for, require_probabilities
from rlexp.policies.actor import ActorPolicy
from rlexp.policies.base import Policy
from rlexp.policies.files import Saved, find_policy, load_policy, read_foreign
from rlexp.policies.foreign import is_foreign
from rlexp.policies.reading import Unsaid
from rlexp.util import paths
from rlexp.util.errors import UserError, said_of
from rlexp.util.files import read_object


def load_expert(where: str, env: EnvConfig, spec: EnvSpec, **unsaid: Any) -> Policy:
    """A policy to be asked for its mean action in any state; `unsaid` as for `load_policy`, of another program's file.
    Raises UserError where there is none, it is of another task, or its actions depend on what it did before."""
    with said_of(f"expert.policy={where}", _shipped_for(env)):
        saved = load_policy_for(where, env, **unsaid)
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


def load_policy_for(where: str, env: EnvConfig, **unsaid: Any) -> Saved:
    """As `load_policy`; another program's file is taken for one that acts in `env`."""
    if is_foreign(find_policy(where)[0]):
        return load_policy(where, env=env, **unsaid)
    return load_policy(where, **unsaid)


def _shipped_for(env: EnvConfig) -> str:
    """Which shipped policies are of this task, to end a message with."""
    files = [file.with_suffix(".json") for file in paths.policies().values()]
    names = []
    for file in files:
        with contextlib.suppress(UserError):  # it has no card, or a broken one: this is a hint only
            if task_of(str(read_object(file).get("env"))) == env.task:
                names.append(file.stem)
    return f" (shipped for {env.name}: {', '.join(names)})" if names else ""


def start_weights(actor: Actor, config: PolicyConfig, *, normalise: bool = False) -> Normaliser | None:
    """Copy the weights of the policy that `policy.init` names, if any, into `actor`. Returns what observations are
    standardised by, if they are (`normalise`): the statistics that go with the weights, or new ones. Raises UserError
    if the weights don't fit, or saw observations otherwise."""
    if config.init is None:
        if normalise:
            return Normaliser(actor.spec["obs_dim"])
        return None
    kind = actor.spec["kind"]
    n_actions = actor.spec["n_actions"]
    bounds = {}
    if actor.spec["bounds"]:
        bounds = dict(zip(("low", "high"), actor.spec["bounds"], strict=True))
    elif kind == "continuous":  # none that actions could be squashed to
        bounds = {"low": [-math.inf] * n_actions, "high": [math.inf] * n_actions}
    spec = EnvSpec.with_bounds(actor.spec["obs_dim"], kind, n_actions, bounds)
    with said_of(f"policy.init={config.init}"):
        policy = _load_actor(config, spec)
        theirs = policy.actor
        # Another program's file may have no spread: then it begins at policy.log_std.
        wanted = {**actor.spec, "deterministic": theirs.spec["deterministic"]}
        if theirs.spec != (wanted if is_foreign_policy(config) else actor.spec):
            raise UserError(f"is another network than this run's policy: {_differing(theirs.spec, actor.spec)}")
        if normalise and policy.normaliser is None:
            raise UserError("sees observations raw; use algo.normalise_obs=false")
        if policy.normaliser is not None and not normalise:
            raise UserError("sees observations standardised; this run takes them raw: algo.normalise_obs=true, if any")
    actor.load_state_dict({**actor.state_dict(), **theirs.state_dict()})
    return policy.normaliser


def _differing(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """In what two networks' shapes differ, in the words of the options."""
    options = {"hidden": "policy.hidden", "activation": "policy.activation"}
    return ", ".join(
        f"{options.get(key, key)} is {theirs.get(key)} in it, {value} in this run"
        for key, value in ours.items()
        if theirs.get(key) != value
    )


def start_policy(env: EnvSpec, config: PolicyConfig) -> ActorPolicy:
    """The policy that `policy.init` names, of whatever architecture, with its observation statistics; an untrained one
    as `policy` describes it where it names none. Raises UserError where it is of another task."""
    if config.init is None:
        return ActorPolicy(actor_for(env, config), env)
    with said_of(f"policy.init={config.init}"):
        policy = _load_actor(config, env)
        require_probabilities(policy.actor)
        theirs, ours = ([s[k] for k in ("kind", "obs_dim", "n_actions")] for s in (policy.actor.spec, vars(env)))
        if theirs != ours:
            raise UserError(f"its actions and observations are {theirs}, the environment's {ours}")
    return ActorPolicy(policy.actor, env, policy.normaliser)


def _load_actor(config: PolicyConfig, env: EnvSpec) -> ActorPolicy:
    """The policy in the file or folder `policy.init`. Raises UserError where there is none, or it is no actor."""
    if is_foreign_policy(config):
        policy = read_foreign(find_policy(str(config.init))[0], env, unsaid_of(config))[1]
    else:
        for key in ("prefix", "vecnormalize"):
            if getattr(config, key) is not None:
                raise UserError(f"is rlexp's own, which needs no policy.{key}; leave it null")
        policy = load_policy(str(config.init)).policy
    if not isinstance(policy, ActorPolicy):
        raise UserError(f"holds a {policy.kind} policy, not an actor network")
    return policy


def is_foreign_policy(config: PolicyConfig) -> bool:
    """Whether `policy.init` is another program's file."""
    return is_foreign(find_policy(str(config.init))[0])


def unsaid_of(config: PolicyConfig) -> Unsaid:
    """What a run's config says of such a file: its own network's activation is taken for the file's too."""
    return Unsaid(
        usual=config.activation,
        prefix=config.prefix,
        bounded=config.bounded,
        vecnormalize=config.vecnormalize,
    )
