"""What a run would take of memory, estimated from its config before anything of it is made."""

import os
from collections.abc import Iterator
from itertools import pairwise

from rlexp.envs.spec import EnvSpec
from rlexp.experiment.config import RunConfig
from rlexp.util.errors import UserError

FLOAT = 4  # bytes
COPIES = 6  # of a network's parameters: gradient, Adam's two moments, a critic, what acts
COLUMNS = 8  # numbers of a step besides its observation: action, reward, value, advantage, ...
PAIR = 64  # bytes of a comparison, or a candidate, at least: indices, labels, returns
ENVIRONMENT = 20_000  # bytes of a small simulator; those of MuJoCo take a hundred times that


def require_memory(config: RunConfig, spec: EnvSpec) -> None:
    """Raise UserError for the first part of a run that this machine's memory has certainly no room for."""
    there = memory()
    for option, size in _parts(config, spec):
        if there is not None and size > there:
            raise UserError(
                f"{option}: does not fit into memory: it takes about {size / 1e9:,.0f} GB, and this machine has "
                f"{there / 1e9:.0f}"
            )


def memory() -> int | None:
    """Bytes of this machine's memory; None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _parts(config: RunConfig, spec: EnvSpec) -> Iterator[tuple[str, int]]:
    """(Option as typed, bytes) of what grows with an option."""
    if "hidden" not in config.algo_class.ignores:
        widths = [spec.obs_dim, *config.policy.hidden, spec.n_actions]
        parameters = sum(n_in * n_out for n_in, n_out in pairwise(widths))
        shown = ",".join(map(str, config.policy.hidden))
        yield f"policy.hidden=[{shown}]", parameters * FLOAT * COPIES
    num_envs = getattr(config.algo, "num_envs", 1)
    yield f"algo.num_envs={num_envs}", num_envs * ENVIRONMENT
    num_steps = getattr(config.algo, "num_steps", 1)
    samples = num_envs * num_steps
    yield f"algo.num_steps={num_steps}", samples * (spec.obs_dim + COLUMNS) * FLOAT
    per_epoch = getattr(config.algo, "steps_per_epoch", 1)
    yield f"algo.steps_per_epoch={per_epoch}", per_epoch * (spec.obs_dim + COLUMNS) * FLOAT
    windows = getattr(config.algo, "batch_size", 1)
    width = getattr(config.algo, "context_length", None) or 1
    shown = f" algo.context_length={width}" if width > 1 else ""
    yield f"algo.batch_size={windows}{shown}", windows * width * (spec.obs_dim + COLUMNS) * FLOAT
    for name in ("num_pairs", "population_size"):
        count = getattr(config.algo, name, None) or 1
        yield f"algo.{name}={count}", count * PAIR
    for name in ("num_episodes", "episodes_per_round", "episodes_per_iteration"):
        episodes = getattr(config.algo, name, 1)
        yield f"algo.{name}={episodes}", episodes * ENVIRONMENT
    episodes = config.train.eval_episodes
    yield f"train.eval_episodes={episodes}", episodes * ENVIRONMENT
