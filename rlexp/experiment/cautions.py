"""What a run is likely to lose, though nothing is wrong with it: one warning each, before training."""

import numpy as np

from rlexp.algos.base import Algorithm
from rlexp.envs.spec import EnvSpec
from rlexp.envs.trial import Trial
from rlexp.experiment.config import RunConfig
from rlexp.nn.actors import GaussianActor
from rlexp.policies.actor import ActorPolicy
from rlexp.policies.base import Policy
from rlexp.util.params import Params

LARGE = 100.0  # observations beyond this saturate a tanh, and let a ReLU's output grow with them
RATIO = 30.0  # between the half width of a box and a Gaussian's standard deviation, either way


def cautions(config: RunConfig, spec: EnvSpec, trial: Trial, algo: Algorithm, policy: Policy) -> list[str]:
    """The warnings for a run: of its environment as it was tried out, and of its first `policy` there."""
    return [
        *algo.cautions(),
        *_observations(config.algo, trial, policy),
        *_actions(config, spec, trial, policy),
    ]


def _observations(params: Params, trial: Trial, policy: Policy) -> list[str]:
    found = []
    if len(trial.shape) > 1:
        size = "×".join(map(str, trial.shape))
        found.append(f"observations are arrays of {size}: taken as {trial.obs_NO.shape[1]:,} numbers in a row")
    lost = _lost_in_float32(trial.obs_NO)
    if lost is not None:
        value = np.abs(trial.obs_NO[:, lost]).max()
        found.append(
            f"observation {lost} is about {value:.3g} and changes by less than float32, in which networks compute, "
            "can tell apart there; subtract its first value in the environment"
        )
    standardised = policy.standardises or getattr(policy, "normaliser", None) is not None
    if trial.largest > LARGE and not standardised:
        remedy = "divide them in the environment"
        if hasattr(params, "normalise_obs"):
            remedy = "algo.normalise_obs=true scales them"
        found.append(
            f"observations reach {trial.largest:.3g}, where networks learn little from numbers beyond 10; {remedy}"
        )
    return found


def _lost_in_float32(obs_NO: np.ndarray) -> int | None:
    """The first dimension in which successive observations differ, but as float32 are mostly the same."""
    single_NO = obs_NO.astype(np.float32)
    changes_O = (np.diff(obs_NO, axis=0) != 0).sum(0)
    seen_O = (np.diff(single_NO, axis=0) != 0).sum(0)
    lost_O = (np.abs(obs_NO).max(0) > LARGE) & (changes_O > 2) & (seen_O < changes_O / 2)
    return int(lost_O.argmax()) if lost_O.any() else None


def _actions(config: RunConfig, spec: EnvSpec, trial: Trial, policy: Policy) -> list[str]:
    """Of continuous actions in a box that the first policy does not reach, hardly leaves, or hardly fills."""
    if spec.kind != "continuous":
        return []
    low_A, high_A = spec.box
    finite_A = np.isfinite(low_A) & np.isfinite(high_A) & (low_A < high_A)
    remedy = "have the environment take actions from −1 to 1"
    if isinstance(policy, ActorPolicy) and "bounded" not in config.algo_class.ignores:
        remedy = "policy.bounded=true scales them to the box"
    obs_NO = trial.obs_NO.astype(np.float32)
    policy.start(len(obs_NO), np.random.default_rng(0))
    sampled, policy.explore = policy.explore, False
    action_NA = policy.act(obs_NO)
    policy.explore = sampled
    edge_A = finite_A & ((action_NA <= low_A).all(0) | (action_NA >= high_A).all(0))
    if edge_A.any():
        a = int(edge_A.argmax())
        return [
            f"actions lie in {low_A[a]:g} to {high_A[a]:g}, and all mean actions of the untrained policy at "
            f"{action_NA[0, a]:g}, the edge, where their changes have no effect; {remedy}"
        ]
    if not isinstance(policy, ActorPolicy) or not isinstance(policy.actor, GaussianActor):
        return []
    std_A = policy.actor.log_std.detach().exp().numpy()
    ratio_A = np.where(finite_A, (high_A - low_A) / 2 / std_A, 1.0)
    far_A = (ratio_A > RATIO) | (ratio_A < 1 / RATIO)
    if not far_A.any():
        return []
    a = int(far_A.argmax())
    half = (high_A[a] - low_A[a]) / 2
    return [
        f"actions lie in {low_A[a]:g} to {high_A[a]:g}, and a policy that begins with a standard deviation of "
        f"{std_A[a]:.3g} explores little of that or nothing but its edges; policy.log_std={np.log(half / 2):.2g} fits"
    ]
