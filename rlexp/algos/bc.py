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

from rlexp.algos.base import Algorithm, Progress, Task
from rlexp.buffers.dataset import Dataset
from rlexp.nn.actors import actor_for
from rlexp.nn.imitation import imitate, imitation_batch, imitation_loss
from rlexp.nn.learner import Learner, mean_metrics
from rlexp.policies.actor import ActorPolicy
from rlexp.policies.start import start_weights
from rlexp.util.params import Params, param

MAX_VALIDATION = 10_000  # held-out steps that the loss is computed on: enough to know it within about 1 %


class BC(Algorithm):
    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        head: str = param(
            "of continuous actions: squared error, or likelihood",
            choices=("deterministic", "gaussian"),
        )
        lr: float = param("AdamW learning rate", gt=0)
        weight_decay: float = param("AdamW weight decay", ge=0)
        batch_size: int = param(
            "samples per update, drawn with replacement",
            unit="samples",
            ge=1,
        )
        log_every: int = param("updates per row of metrics", unit="updates", ge=1)
        validation_fraction: float = param(
            "share of the episodes that is held out; 0: none",
            ge=0,
            lt=1,
        )
        normalise_obs: bool = param("standardise observations by the data's statistics")

    clock = "updates"
    compiles = True
    needs = frozenset({"data"})
    devices = frozenset({"cpu", "cuda"})
    state = ("learner", "rng")
    loss = staticmethod(imitation_loss)

    def __init__(self, config: Config, task: Task):
        assert task.data is not None
        self.config = config
        self.task = task
        self.data = task.data
        self.rng = task.rng("batch")
        self.train, self.held_out = self._split()
        self.net = actor_for(
            task.spec,
            task.policy,
            deterministic=config.head == "deterministic",
        )
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

    def _split(self) -> tuple[Dataset, tuple[np.ndarray, np.ndarray] | None]:
        """The episodes to learn from; and evenly spaced steps of those held out, where there are any."""
        share = self.config.validation_fraction
        if not share:
            return self.data, None
        train, held_out = self.data.split(share, self.task.rng("data"))
        count = min(len(held_out), MAX_VALIDATION)
        row_N = np.linspace(0, len(held_out) - 1, count).astype(np.int64)
        return train, (held_out.obs_NO[row_N], held_out.action[row_N])

    def step(self) -> Progress:
        updates = self.config.log_every
        row_UN = self.rng.integers(len(self.train), size=(updates, self.config.batch_size))
        obs_UNO = self.train.obs_NO[row_UN]
        losses = imitate(self.learner, obs_UNO, self.train.action[row_UN], self.obs_stats)
        metrics = mean_metrics(losses)
        metrics["data/labels"] = float(len(self.data))
        return Progress(0, updates, metrics | self._validate())

    def _validate(self) -> dict[str, float]:
        if self.held_out is None:
            return {}
        metrics = self.learner.measure(imitation_batch(*self.held_out, self.obs_stats))
        return {"loss/validation": metrics["loss/train"]}

    def policy(self, *, explore: bool = False) -> ActorPolicy:
        return ActorPolicy(self.net, self.task.spec, self.obs_stats, explore)
