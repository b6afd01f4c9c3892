"""What the columns and tags of other people's curves are called, and which of them are meant."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rlexp.util.errors import UserError, among, did_you_mean, nearest

# Names are compared without case, and with spaces and hyphens as underscores. The first one that is there is meant.
ENV_STEPS = (  # environment steps
    "env_steps",
    "time/total_timesteps",
    "global_step",
    "total_timesteps",
    "timesteps",
    "timesteps_total",
    "num_env_steps_sampled_lifetime",
    "totalenvinteracts",
    "totalenvsteps",
    "total_steps",
    "num_timesteps",
    "timestep",
    "frames",
)
STEPS = (*ENV_STEPS, "step", "steps", "_step", "updates", "num_updates", "iteration", "iterations", "epoch")
EVALUATED = (
    "eval/return_mean",
    "eval/mean_reward",
    "eval/mean_return",
    "eval/episodic_return",
    "eval/return",
    "charts/eval_return",
    "evaluation/averagereturn",
    "eval_avg_reward",
    "eval_return",
    "eval_reward",
    "averagetestepret",
)
TRAINED = (
    "rollout/ep_rew_mean",
    "charts/episodic_return",
    "data/return_mean",
    "env_runners/episode_return_mean",
    "episode_reward_mean",
    "averageepret",
    "eprewmean",
    "episodic_return",
    "episode_return",
    "episode_reward",
)
VALUES = (*EVALUATED, *TRAINED, "return_mean", "mean_return", "mean_reward", "return", "returns", "value", "reward")
SEEDS = ("seed", "random_seed", "run", "run_id", "trial")
CLOCKS = ("_runtime", "_timestamp", "wall_time", "time", "seconds", "duration", "time/time_elapsed", "index", "")


@dataclass(frozen=True)
class Columns:
    """Names that the user gave; None: to be found."""

    step: str | None = None
    value: str | None = None
    seed: str | None = None


def plain(name: str) -> str:
    """`name` as it is compared."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def find(choices: Sequence[str], known: Sequence[str]) -> str | None:
    """The first of `known` names that is among `choices`, as it is written there."""
    return next(iter(find_all(choices, known)), None)


def find_all(choices: Sequence[str], known: Sequence[str]) -> list[str]:
    """The `known` names that are among `choices`, in the order of `known`, as they are written there."""
    written = {plain(choice): choice for choice in reversed(choices)}
    return [written[name] for name in known if name in written]


def given(what: str, name: str, choices: Sequence[str]) -> str:
    """The one of `choices` that the user calls `name`. Raises UserError where there is none."""
    found = name if name in choices else find(choices, [plain(name)])
    if found is None:
        hint = did_you_mean(nearest(name, choices)) or f"; there are {listed(choices)}"
        raise UserError(f"{what}={name}: there is nothing of that name{hint}")
    return found


def is_evaluation(name: str) -> bool | None:
    """Whether the column `name` holds evaluations, not episodes played to train; None: cannot be told."""
    if plain(name) in EVALUATED:
        return True
    return False if plain(name) in TRAINED else None


def listed(names: Sequence[str]) -> str:
    """At most twelve names for a message, each of a length that can be read."""
    return among((repr(name)[1:-1][:60] for name in names), most=12) or "none"
