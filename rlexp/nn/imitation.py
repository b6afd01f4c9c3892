"""Learning to act like a demonstrator: the loss and the updates that behaviour cloning and DAgger share.

    minimise  mean over samples of  ℓ(s, a)        for states s and the demonstrator's actions a

ℓ is the actor's `imitation_loss`: squared error where it is deterministic, else −log π(a|s).

Shapes: N samples of each of U updates, O observation dims.
"""

import numpy as np
import torch
from torch import Tensor

from rlexp.nn.actors import Actor, Normaliser
from rlexp.nn.learner import Batch, Learner


def imitation_loss(net: Actor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean over the samples of `batch` (obs, action)."""
    loss = net.imitation_loss(batch["obs"], batch["action"]).mean()
    return loss, {"loss/train": loss}


def imitation_batch(
    obs: np.ndarray,
    action: np.ndarray,
    obs_stats: Normaliser | None,
) -> dict[str, Tensor]:
    """Recorded samples as a network takes them: standardised by `obs_stats`, where there are any."""
    if obs_stats is not None:
        obs = obs_stats(obs)
    return {"obs": torch.from_numpy(obs), "action": torch.from_numpy(action)}


def imitate(
    learner: Learner,
    obs_UNO: np.ndarray,
    action_UN: np.ndarray,
    obs_stats: Normaliser | None,
) -> list[dict[str, Tensor]]:
    """One update on each of U batches; their metrics. `action_UN` is (U, N), or (U, N, A) where continuous."""
    batches = imitation_batch(obs_UNO, action_UN, obs_stats)
    pairs = zip(batches["obs"], batches["action"], strict=True)
    return [learner.update({"obs": obs, "action": action}) for obs, action in pairs]
