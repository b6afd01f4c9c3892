"""What tests of data sets share: small policies, and data sets asked for as a run does."""

from pathlib import Path

import torch

from rlexp.datasets import generate
from rlexp.datasets.load import BufferConfig, load
from rlexp.envs.make import describe
from rlexp.nn.actors import make_actor
from rlexp.policies.actor import ActorPolicy
from rlexp.policies.files import save_policy
from tests.helpers import built

LINE = built("env=lineworld").env
HOPPER = built("env=hopper").env
ANY = BufferConfig(dataset=None, path=None, top_percent=100, trajectories=None)


def policy_file(path, env=LINE, seed=0, step=100):
    spec = describe(env)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        actor = make_actor(spec.kind, spec.obs_dim, spec.n_actions, hidden=[16], activation="tanh")
    path.parent.mkdir(exist_ok=True)
    save_policy(path, ActorPolicy(actor, spec), env, {"algo": "ppo", "step": step})
    return path


def play(*shares, env=LINE, seed=3, processes=1):
    return generate.play(env, list(shares), seed, processes)[0]


def asked(name, env=LINE):
    return load(BufferConfig(**{**vars(ANY), "dataset": name}), env, describe(env))


def names(root: Path) -> list[str]:
    """All there is in a root of data sets but locks."""
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.suffix != ".lock" and p.name != ".rlexp")
