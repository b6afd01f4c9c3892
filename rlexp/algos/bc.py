"""Behaviour cloning: supervised learning of a demonstrator's actions from recorded episodes.

Pomerleau 1989; the name is Bain & Sammut's, 1995. On states s and actions a of the data, drawn uniformly,

    deterministic head    minimise  mean (f_θ(s) − a)²                          over samples and action dims
    gaussian head         minimise  −mean log N(a; f_θ(s), σ²)                  σ is learned, and the same in all states
    discrete actions      minimise  −mean log softmax(f_θ(s))_a                 cross-entropy

with AdamW. The policy is trained where the demonstrator went and acts where it itself gets to: its errors compound, up
to the square of the episode's length (Ross & Bagnell 2010). `algo=dagger` is the remedy; `buffer.top_percent` makes it
percentile BC, which imitates the best episodes only (Chen et al. 2021).

Actions are learned as executed, clipped to the action space. Observations are standardised by the mean and standard
deviation of the training episodes, which belong to the policy. A share of whole episodes is held out: steps of one
episode are too alike to be on both sides. The deterministic head has no spread to sample from. `data/labels`
counts the actions that the demonstrator showed, the held-out ones too.

Shapes: N samples, U updates, O observation dims. Clock: updates.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlexp.algos.base import Algorithm, Progress, Task
from rlexp.nn.actors import Actor, actor_for
from rlexp.nn.learner import Batch, Learner, mean_metrics
from rlexp.policies.actor import ActorPolicy
from rlexp.policies.start import start_weights
from rlexp.util.params import Params, param

MAX_VALIDATION = 10_000  # held-out steps that the loss is computed on: enough to know it within about 1 %


class BC(Algorithm):
    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        head: str = param("of continuous actions: squared error, or likelihood", choices=("deterministic", "gaussian"))
        lr: float = param("AdamW learning rate", gt=0)
        weight_decay: float = param("AdamW weight decay", ge=0)
        batch_size: int = param("samples per update, drawn with replacement", unit="samples", ge=1)
        log_every: int = param("updates per row of metrics", unit="updates", ge=1)
        validation_fraction: float = param("share of the episodes that is held out; 0: none", ge=0, lt=1)
        normalise_obs: bool = param("standardise observations by the data's statistics")

    clock = "updates"
    compiles = True
    needs = frozenset({"data"})
    devices = frozenset({"cpu", "cuda"})
    state = ("learner", "rng")

    def __init__(self, config: Config, task: Task):
        assert task.data is not None
        self.config, self.task, self.data, self.rng = config, task, task.data, task.rng("batch")
        self.train, self.held_out = self.data, None
        if config.validation_fraction:
            self.train, held_out = self.data.split(config.validation_fraction, task.rng("data"))
            row_N = np.linspace(0, len(held_out) - 1, min(len(held_out), MAX_VALIDATION)).astype(np.int64)
            self.held_out = held_out.obs_NO[row_N], held_out.action[row_N]
        self.net = actor_for(task.spec, task.policy, deterministic=config.head == "deterministic")
        self.obs_stats = start_weights(self.net, task.policy, normalise=config.normalise_obs)
        if self.obs_stats is not None and not task.policy.init:
            self.obs_stats.update(self.train.obs_NO)
        self.learner = Learner(
            self.net,
            self.loss,
            lr=config.lr,
            weight_decay=config.weight_decay,
            compile=task.compile,
            device=task.device,
        )

    def loss(self, net: Actor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        loss = net.imitation_loss(batch["obs"], batch["action"]).mean()
        return loss, {"loss/train": loss}

    def _batch(self, obs: np.ndarray, action: np.ndarray) -> dict[str, Tensor]:
        obs = obs if self.obs_stats is None else self.obs_stats(obs)
        return {"obs": torch.from_numpy(obs), "action": torch.from_numpy(action)}

    def step(self) -> Progress:
        c = self.config
        row_UN = self.rng.integers(len(self.train), size=(c.log_every, c.batch_size))
        batches = self._batch(self.train.obs_NO[row_UN], self.train.action[row_UN])
        losses = [
            self.learner.update({"obs": obs, "action": action})
            for obs, action in zip(batches["obs"], batches["action"], strict=True)
        ]
        shown = {"data/labels": float(len(self.data))}
        return Progress(0, c.log_every, {**mean_metrics(losses), **shown, **self._validate()})

    def _validate(self) -> dict[str, float]:
        if self.held_out is None:
            return {}
        return {"loss/validation": self.learner.measure(self._batch(*self.held_out))["loss/train"]}

    def policy(self, *, explore: bool = False) -> ActorPolicy:
        return ActorPolicy(self.net, self.task.spec, self.obs_stats, explore)
