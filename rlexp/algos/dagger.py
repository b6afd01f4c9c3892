"""DAgger, data set aggregation: imitation of an expert who is asked about the states that the learner gets into.

Ross, Gordon & Bagnell 2011, algorithm 3.1. In each round i = 0, 1, …

    play whole episodes; in each step execute   a = π*(s) with probability β_i, else π_θ(s)
    D ← D ∪ {(s, π*(s))} for every state s visited             labels are the expert's, whatever was executed
    take `updates_per_round` optimiser steps on minibatches of all of D

    β_i = β                    constant
        = max(0, β − i·p)      linear, with p = beta_decay
        = β p^i                exponential                     (β = 1, p = 0: the expert plays the first round alone)

The loss is behaviour cloning's: squared error (deterministic head), or −log π(a|s); AdamW. The paper trains a new
policy in each round; here, as usual with networks, the last one goes on. With β = 1 throughout, the states are the
expert's, and this is behaviour cloning of an expert who gives more demonstrations every round.

Expert and learner act by their mean (most likely) action. The expert standardises observations by its own statistics;
the learner by those of D, which take in each round's states before its updates. D holds observations raw, labels
clipped to the action space. `data/labels` counts the expert's answers, one for each state in D: the x-axis to compare
other imitation by, such as behaviour cloning's as many demonstrated steps.

Shapes: T steps, B episodes side by side, N samples, U updates, O observation dims. Clock: updates. A `step` takes
`log_every` of them, and the first one of a round plays its episodes before.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from rlexp.algos.base import Algorithm, Progress, Task
from rlexp.nn.actors import actor_for
from rlexp.nn.imitation import imitate, imitation_loss
from rlexp.nn.learner import Learner, mean_metrics
from rlexp.policies.actor import ActorPolicy
from rlexp.policies.start import start_weights
from rlexp.rollout.evaluation import play
from rlexp.util import seeding
from rlexp.util.params import OutOfRange, Params, param


class DAgger(Algorithm):
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
        episodes_per_round: int = param("episodes per round", unit="episodes", ge=1)
        updates_per_round: int = param("updates per round", unit="updates", ge=1)
        log_every: int = param("updates per row of metrics", unit="updates", ge=1)
        beta: float = param(
            "β: probability, in the first round, that a step is the expert's",
            ge=0,
            le=1,
        )
        beta_schedule: str = param(
            "course of β over rounds",
            choices=("constant", "linear", "exponential"),
        )
        beta_decay: float = param(
            "p: what β loses (linear) or is multiplied by (exponential) per round",
            ge=0,
            le=1,
        )
        normalise_obs: bool = param(
            "standardise observations by the aggregated data's statistics",
        )

    clock = "updates"
    compiles = True
    needs = frozenset({"expert"})
    devices = frozenset({"cpu", "cuda"})
    state = ("learner", "rng", "obs_stats", "obs_NO", "label", "updates")
    loss = staticmethod(imitation_loss)

    def __init__(self, config: Config, task: Task):
        self.config = config
        self.task = task
        self.rng = task.rng("batch")
        self.net = actor_for(
            task.spec,
            task.policy,
            deterministic=config.head == "deterministic",
        )
        self.obs_stats = start_weights(self.net, task.policy, normalise=config.normalise_obs)
        self.learner = Learner(
            self.net,
            self.loss,
            lr=config.lr,
            weight_decay=config.weight_decay,
            compile=task.compile,
            device=task.device,
        )
        self.obs_NO = np.empty((0, task.spec.obs_dim), np.float32)
        self.label: np.ndarray = np.empty((0, task.spec.n_actions), np.float32)
        if task.spec.kind == "discrete":
            self.label = np.empty(0, np.int64)
        self.updates = 0

    @classmethod
    def check(cls, config: Config, budget: int) -> None:
        if config.beta_schedule == "constant" and config.beta_decay:
            raise OutOfRange(
                "beta_decay",
                "has no effect where beta_schedule is constant; use linear or exponential",
            )

    def step(self) -> Progress:
        known = len(self.obs_NO)
        round_index, updates_of_it = divmod(self.updates, self.config.updates_per_round)
        metrics = {"opt/beta": self.beta(round_index)}
        if updates_of_it == 0:
            metrics |= self._aggregate(round_index)
        left = self.config.updates_per_round - updates_of_it
        updates = min(self.config.log_every, left)
        metrics |= mean_metrics(self._learn(updates))
        metrics["data/labels"] = float(len(self.obs_NO))
        return Progress(len(self.obs_NO) - known, updates, metrics)

    def _learn(self, updates: int) -> list[dict[str, Tensor]]:
        row_UN = self.rng.integers(len(self.obs_NO), size=(updates, self.config.batch_size))
        self.updates += updates
        return imitate(self.learner, self.obs_NO[row_UN], self.label[row_UN], self.obs_stats)

    def beta(self, round_index: int) -> float:
        """β of this round; the first is 0."""
        c = self.config
        if c.beta_schedule == "linear":
            return max(0.0, c.beta - round_index * c.beta_decay)
        if c.beta_schedule == "exponential":
            return c.beta * c.beta_decay**round_index
        return c.beta

    def _aggregate(self, round_index: int) -> dict[str, float]:
        """Play a round, and add the states visited and the expert's actions there to the data."""
        assert self.task.expert is not None
        spec = self.task.spec
        expert = self.task.expert
        learner = self.policy()
        n = self.config.episodes_per_round
        beta = self.beta(round_index)
        rng = self.task.rng("explore", round_index)
        seen_TBO: list[np.ndarray] = []
        label_TB: list[np.ndarray] = []

        def act(obs_BO: np.ndarray) -> np.ndarray:
            label_B = spec.executable(expert.act(obs_BO))
            seen_TBO.append(obs_BO.copy())
            label_TB.append(label_B)
            experts_B = rng.random(n) < beta
            if label_B.ndim == 2:  # (B, A)
                experts_B = experts_B[:, None]
            return np.where(experts_B, label_B, learner.act(obs_BO))

        expert.start(n, rng)
        seeds = seeding.env_seeds(seeding.stream(self.task.seed, "train_env", round_index), n)
        episodes = play(self.task.env, seeds, act, expert.observe)
        length_B = np.array([len(episode.reward_T) for episode in episodes])
        steps_T = np.arange(length_B.max())
        visited_BT = steps_T < length_B[:, None]  # no longer, where an episode has ended
        self._add(np.stack(seen_TBO, 1)[visited_BT], np.stack(label_TB, 1)[visited_BT])
        total_B = np.array([episode.total for episode in episodes])
        return {
            "data/return_mean": float(total_B.mean()),
            "data/return_median": float(np.median(total_B)),
            "data/return_max": float(total_B.max()),
            "data/length_mean": float(length_B.mean()),
        }

    def _add(self, obs_NO: np.ndarray, label: np.ndarray) -> None:
        self.obs_NO = np.concatenate([self.obs_NO, obs_NO])
        self.label = np.concatenate([self.label, label])
        if self.obs_stats is not None:
            self.obs_stats.update(obs_NO)

    def policy(self, *, explore: bool = False) -> ActorPolicy:
        return ActorPolicy(self.net, self.task.spec, self.obs_stats, explore)
