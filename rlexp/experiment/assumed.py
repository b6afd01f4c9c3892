"""What is said of other programs' policy files at the start of a run that begins from one, or asks one."""

from typing import Any

from rlexp.experiment.config import RunConfig
from rlexp.policies.files import Saved
from rlexp.policies.start import is_foreign_policy, load_policy_for, unsaid_of
from rlexp.rollout.score import evaluate


def notes(config: RunConfig) -> list[str]:
    """A line each for what was left out of such a file, and for what was assumed, with the return that goes with it.
    Raises UserError for what cannot be read."""
    found: list[str] = []
    if config.policy.init is not None and is_foreign_policy(config.policy):
        given = vars(unsaid_of(config.policy))
        found += _said_of("policy.init", "policy.activation", config.policy.init, config, given)
    if config.expert.policy is not None:
        found += _said_of("expert.policy", "expert.activation", config.expert.policy, config, config.expert.unsaid)
    return found


def _said_of(key: str, option: str, where: str, config: RunConfig, unsaid: dict[str, Any]) -> list[str]:
    saved = load_policy_for(where, config.env, **{name: value for name, value in unsaid.items() if name != "env"})
    lines = list(saved.notes)
    if saved.assumed is not None:
        lines.append(_first_evaluation(saved, option, config.train.eval_episodes))
    return [f"{key}={where}: {line}" for line in lines]


def _first_evaluation(saved: Saved, option: str, episodes: int) -> str:
    mean = evaluate(saved, episodes)["return_mean"]
    assumed = f"its file does not say its activation; {option}={saved.assumed} is assumed"
    return f"{assumed}, and returns {mean:.1f} (mean actions, n = {episodes})"
