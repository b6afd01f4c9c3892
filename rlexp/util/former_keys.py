"""Config keys of algorithms that had another name once: the one table, and configs by the names of today.

A key's former name says which algorithm it belongs to, since the same word meant different things: `episodes` was what
is now `num_envs` of vpg and `num_episodes` of cmaes.
"""

import re
from collections.abc import Mapping
from typing import Any

from rlexp.util.errors import UserError

FORMER: dict[str, dict[str, str]] = {  # algorithm -> former key -> key
    "bc": {
        "minibatch": "batch_size",
        "updates_per_step": "log_every",
        "validation": "validation_fraction",
    },
    "cmaes": {
        "population": "population_size",
        "episodes": "num_episodes",
    },
    "dagger": {
        "minibatch": "batch_size",
        "trajectories": "episodes_per_round",
        "updates_per_step": "log_every",
    },
    "diffusion": {
        "context": "n_obs_steps",
        "execute": "n_action_steps",
        "layers": "num_layers",
        "width": "embed_dim",
        "heads": "num_heads",
        "denoise_steps": "num_train_timesteps",
        "eval_steps": "num_inference_steps",
        "ema": "ema_decay",
        "minibatch": "batch_size",
        "updates_per_step": "log_every",
    },
    "dpo": {
        "trajectories": "episodes_per_iteration",
        "envs": "num_envs",
        "held_out": "validation_fraction",
        "fragment": "fragment_length",
        "pairs": "num_pairs",
        "loss": "loss_type",
        "target": "target_margin",
        "reduce": "reduction",
        "epochs": "update_epochs",
        "minibatch": "batch_size",
    },
    "dt": {
        "context": "context_length",
        "layers": "num_layers",
        "heads": "num_heads",
        "width": "embed_dim",
        "max_timestep": "max_ep_len",
        "minibatch": "batch_size",
        "updates_per_step": "log_every",
    },
    "ppo": {
        "envs": "num_envs",
        "steps": "num_steps",
        "epochs": "update_epochs",
        "minibatch": "batch_size",
        "clip": "clip_coef",
        "value_clip": "vf_clip_coef",
        "value_coef": "vf_coef",
        "entropy_coef": "ent_coef",
        "horizon": "anneal_steps",
    },
    "rlhf": {
        "epoch_steps": "steps_per_epoch",
        "episodes": "num_envs",
        "clip": "clip_coef",
        "passes": "update_epochs",
        "kept": "kept_episodes",
        "fragment": "fragment_length",
        "pairs": "num_pairs",
        "held_out": "validation_fraction",
        "ensemble": "ensemble_size",
        "reward_decay": "reward_weight_decay",
        "reward_batch": "reward_batch_size",
    },
    "sac": {
        "envs": "num_envs",
        "steps": "num_steps",
        "updates_per_step": "gradient_steps",
        "warmup": "learning_starts",
        "batch": "batch_size",
        "tune_alpha": "autotune",
    },
    "vpg": {
        "episodes": "num_envs",
        "batch_steps": "steps_per_epoch",
        "epochs": "update_epochs",
        "minibatch": "batch_size",
        "value_coef": "vf_coef",
    },
}


def renamed(node: Mapping[str, Any]) -> dict[str, Any]:
    """The `algo` group of a config (`_target_` and its keys), each key by its name of today.

    Raises UserError where a key is given by its former and its present name.
    """
    former = FORMER.get(algorithm_of(str(node.get("_target_"))), {})
    found = {}
    for key, value in node.items():
        name = former.get(key, key)
        if name != key and name in node:
            raise given_twice(key, name)
        found[name] = value
    return found


def algorithm_of(target: str) -> str:
    """`ppo` of `rlexp.algos.ppo.PPO`; classes of other packages have no former names."""
    match = re.fullmatch(r"rlexp\.algos\.(\w+)\.\w+", target)
    return match[1] if match else target


def given_twice(old: str, new: str) -> UserError:
    return UserError(f"algo.{old}: is the former name of algo.{new}; give one of them, not both")
