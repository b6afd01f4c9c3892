"""Direct preference optimization on trajectories, offline and iterative.

Rafailov et al. 2023; the square form as in Azar et al. 2023 (IPO). An iteration samples trajectories τ from the
policy, pairs them, labels each pair by a Bradley–Terry sample on the true returns, and fits the policy to the labels:

    ℓ(τ) = Σ_t [log π(a_t|s_t) − log π_ref(a_t|s_t)]        log-ratio; the dynamics cancel; reduction: mean divides by T
    h    = ℓ(τ_w) − ℓ(τ_l)                                  w preferred, l not; β h is the margin of implicit rewards
    logistic:  −log σ(β h)                                  (Rafailov, eq. 7)
    square:    (β h − z)²                                   the course's form, target z
    ipo:       (h − 1/(2β))²                                (Azar, eq. 17)

The square form is β² times IPO's at β_ipo = β/(2z): one minimum, h = z/β, in another unit. A trajectory of 1000 steps
has a log-ratio a thousand times one step's, so a β for sums and one for means differ by that factor.

π_ref is the policy that began the iteration. It enters by its log-probabilities of the iteration's data alone, taken
when the data are, hence it cannot change within one. `iterations: 1` is offline DPO; with more of them each begins
with fresh data, a new reference and a new Adam. The simulator executes clipped actions; log-probabilities are of the
actions as sampled. True returns are used for labels and to be reported, never in the loss.

Shapes: E trajectories, T steps, P pairs, axis 2 = (preferred, other), O observation dims. Clock: updates; collecting
does not advance it.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlexp.algos.base import Algorithm, Progress, Task
from rlexp.buffers.preferences import Pairs, check_fragment, fragments, label, load_pairs, preferred_probability
from rlexp.buffers.trajectories import Trajectories
from rlexp.envs.spec import task_of
from rlexp.nn.actors import Actor, GaussianActor, on_cpu
from rlexp.nn.learner import Batch, Learner, mean_metrics
from rlexp.policies.actor import ActorPolicy
from rlexp.policies.start import start_policy
from rlexp.rollout.collector import collect
from rlexp.util.errors import UserError, said_of
from rlexp.util.params import OutOfRange, Params, param


class DPO(Algorithm):
    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        iterations: int | None = param("times data are collected and learned from; null: as the budget allows", ge=1)
        episodes_per_iteration: int = param("sampled for each iteration", unit="episodes", ge=4)
        num_envs: int = param("environments stepped side by side", ge=1)
        validation_fraction: float = param("share of them that only measures accuracy", gt=0, lt=1)
        fragment_length: int | None = param(
            "compare pieces of this length; null: whole trajectories", unit="steps", ge=1
        )
        pairing: str = param("who is compared with whom", choices=("random", "adjacent"))
        num_pairs: int = param("labelled pairs to learn from, per iteration", ge=1)
        temperature: float = param("of the Bradley–Terry labels", unit="return", gt=0)
        standardise: bool = param("labels see returns in standard deviations of the compared ones")
        preferences: str | None = param(
            "file of labelled pairs instead of sampled ones: its first `num_pairs` teach, the others measure accuracy",
            file=True,
        )
        loss_type: str = param("see the head of the file", choices=("square", "logistic", "ipo"))
        beta: float = param("β, strength of the tie to the reference", gt=0)
        target_margin: float = param("z, the margin that the square form aims at", gt=0)
        reduction: str = param("log-ratio of a trajectory: sum or mean over its steps", choices=("sum", "mean"))
        lr: float = param("Adam learning rate", gt=0)
        update_epochs: int = param("passes over an iteration's pairs", ge=1)
        batch_size: int = param("pairs per update; the last one of an epoch may be smaller", unit="pairs", ge=1)
        max_grad_norm: float | None = param("global gradient norm is clipped to this; null: never", gt=0)
        freeze_std: bool = param("learn the mean only: the standard deviation stays the start's")
        min_std: float = param("the standard deviation never falls below this", ge=0)
        mean_episodes: int = param("played with mean actions at each iteration's start, to be reported", ge=0)

        @property
        def per_iteration(self) -> int:
            """Updates of one iteration."""
            return self.update_epochs * math.ceil(self.num_pairs / self.batch_size)

    clock = "updates"
    devices = frozenset({"cpu", "cuda"})
    state = ("learner", "generator", "rng", "rounds", "epoch", "collected", "data", "train_P2", "held_P2")

    def __init__(self, config: Config, task: Task):
        self.config, self.task = config, task
        start = start_policy(task.spec, task.policy)
        self.actor, self.normaliser = start.actor, start.normaliser
        if config.freeze_std and isinstance(self.actor, GaussianActor):
            fixed = self.actor.log_std.detach().clone()
            del self.actor.log_std  # a buffer of the same name is saved alike, but not learned
            self.actor.register_buffer("log_std", fixed)
        self.learner = Learner(self.actor, self.loss, lr=config.lr, clip=config.max_grad_norm, device=task.device)
        self.generator, self.rng = task.generator("explore"), task.rng("batch")
        self.rounds = self.epoch = 0
        self.collected: list[dict[str, Any]] = []  # trajectories so far, while an iteration collects
        self.data: dict[str, Any] | None = None  # what an iteration learns from; None while it collects
        self.train_P2 = self.held_P2 = np.empty((0, 2), np.int64)
        if config.preferences is not None:
            with said_of(f"algo.preferences={config.preferences}"):
                self._given(load_pairs(config.preferences))
        check_fragment(config.fragment_length, task.env)
        lowest = float(self.actor.log_std.detach().min().exp()) if isinstance(self.actor, GaussianActor) else math.inf
        if config.min_std > lowest and not config.freeze_std:
            raise UserError(f"algo.min_std={config.min_std}: the policy begins below it, with {lowest:.3g}")

    @classmethod
    def check(cls, config: Config, budget: int) -> None:
        n = config.iterations
        if config.preferences is not None and config.fragment_length is not None:
            raise OutOfRange(
                "fragment_length", "must be null where algo.preferences gives the pairs: they are compared whole"
            )
        if config.preferences is not None and n != 1:
            raise OutOfRange("iterations", "must be 1 where algo.preferences gives the pairs: there are no more")
        if n is not None and budget != n * config.per_iteration:
            raise OutOfRange(
                "iterations",
                f"{n} x {config.update_epochs} epochs of {config.num_pairs} pairs in minibatches of "
                f"{config.batch_size} are {n * config.per_iteration} updates, train.budget is {budget}; "
                f"use train.budget={n * config.per_iteration}",
            )

    def loss(self, net: Actor, b: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        c = self.config
        logp_P2T, entropy_P2T = net.log_prob_entropy(b["obs"], b["action"])
        valid_P2T, steps = b["valid"], b["valid"].sum()
        log_ratio_P2T = (logp_P2T - b["logp"]) * valid_P2T
        ratio_P2 = log_ratio_P2T.sum(-1)
        if c.reduction == "mean":
            ratio_P2 = ratio_P2 / valid_P2T.sum(-1)
        h_P = ratio_P2[:, 0] - ratio_P2[:, 1]
        if c.loss_type == "square":
            loss = (c.beta * h_P - c.target_margin).square().mean()
        elif c.loss_type == "ipo":
            loss = (h_P - 1 / (2 * c.beta)).square().mean()
        else:
            loss = -logsigmoid(c.beta * h_P).mean()
        margin_P = c.beta * h_P
        kl_P2T = (log_ratio_P2T.exp() - 1 - log_ratio_P2T) * valid_P2T
        return loss, {
            f"loss/{c.loss_type}": loss,
            "opt/margin_mean": margin_P.mean(),
            "opt/margin_std": margin_P.std(correction=0),
            "opt/accuracy": (h_P > 0).float().mean(),
            "opt/log_ratio_preferred": ratio_P2[:, 0].mean(),
            "opt/log_ratio_other": ratio_P2[:, 1].mean(),
            "opt/kl": kl_P2T.sum() / steps,  # of one step, KL(π_ref, π): k3 of Schulman 2020 on samples of π_ref
            "data/entropy": (entropy_P2T * valid_P2T).sum() / steps,
        }

    def step(self) -> Progress:
        return self._collect() if self.data is None else self._epoch()

    def _collect(self) -> Progress:
        """One round of trajectories; the last round of an iteration pairs and labels them."""
        c = self.config
        n = min(c.num_envs, c.episodes_per_iteration - sum(len(x["length_E"]) for x in self.collected))
        new = self._play(n, self.generator)
        self.collected = [*self.collected, new.columns()]
        steps, metrics = int(new.length_E.sum()), {}
        if sum(len(x["length_E"]) for x in self.collected) == c.episodes_per_iteration:
            data = Trajectories.join([Trajectories(**x) for x in self.collected])
            self.collected = []
            metrics = {
                "data/return_mean": float(data.return_E.mean()),
                "data/return_std": float(data.return_E.std(ddof=1)),
                "data/length_mean": float(data.length_E.mean()),
                **self._compare(data),
            }
            if c.mean_episodes:
                mean = self._play(c.mean_episodes, None)
                steps += int(mean.length_E.sum())
                metrics["data/return_mean_action"] = float(mean.return_E.mean())
        return Progress(steps, 0, metrics)

    def _play(self, n: int, generator: torch.Generator | None) -> Trajectories:
        envs = self.task.envs(n, self.rounds, autoreset=False)
        self.rounds += 1
        data = collect(envs, self.task.spec, on_cpu(self.actor), generator, self.normaliser)
        envs.close()
        return data

    def _compare(self, data: Trajectories) -> dict[str, float]:
        """Labels pairs of `data` and begins learning from them; returns what the labels tell."""
        c = self.config
        held = min(len(data) - 2, max(2, round(c.validation_fraction * len(data))))
        # Rounds are alike: there is no order in them.
        parts = [data.take(np.arange(held, len(data))), data.take(np.arange(held))]
        if c.fragment_length is not None:
            if (parts[1].length_E // c.fragment_length).sum() < 2:  # nothing to be compared among those held out
                del parts[1]
            parts = [fragments(part, c.fragment_length, self.rng) for part in parts]
        train, *others = (
            label(part, c.pairing, self.rng, c.temperature, c.standardise, count)
            for part, count in zip(parts, (c.num_pairs, None), strict=False)
        )
        held_P2 = others[0].ordered_P2 + len(parts[0]) if others else train.index_P2[:0]
        self._learn_from(Trajectories.join(parts), train.ordered_P2, held_P2)
        left_P, right_P = train.trajectories.return_E[train.index_P2].T
        p_P = preferred_probability(left_P, right_P, c.temperature, standardise=c.standardise)
        lower_P = (left_P != right_P) & ((left_P > right_P) != train.first_P)  # the lower one is preferred
        return {
            "data/label_informativeness": float(np.abs(2 * p_P - 1).mean()),  # 1: sure labels; 0: tossed coins
            "data/label_surprises": float(lower_P.mean()),
            "data/return_gap": float(np.abs(left_P - right_P).mean()),
        }

    def _given(self, given: Pairs) -> None:
        """Learn from pairs of a file. Held out are those that share no trajectory with the ones that are learned.
        Raises UserError where they are too few, broken or of another environment."""
        n, spec, data = self.config.num_pairs, self.task.spec, given.trajectories
        if len(given.first_P) < n:
            raise UserError(f"holds {len(given.first_P)} pairs, algo.num_pairs asks for {n}")
        if (theirs := task_of(given.card.get("env", self.task.env.id))) != self.task.env.task:
            raise UserError(f"its trajectories are of {theirs}, the environment is {self.task.env.id}")
        width = data.action.shape[2] if data.action.ndim == 3 else None
        if data.obs_ETO.shape[2] != spec.obs_dim or width != (spec.n_actions if spec.kind == "continuous" else None):
            raise UserError("its observations or actions are not the environment's")
        for what, array in (("observations", data.obs_ETO), ("actions", data.action)):
            if not np.isfinite(array[data.valid_ET]).all():
                raise UserError(f"its {what} are not all finite")
        if width is None and not 0 <= data.action.min() <= data.action.max() < spec.n_actions:
            raise UserError(f"its actions are not all in 0..{spec.n_actions - 1}")
        train_P2, held_P2 = given.ordered_P2[:n], given.ordered_P2[n:]
        held_P2 = held_P2[~np.isin(held_P2, train_P2).any(1)]
        obs, action = torch.from_numpy(self._see(data.obs_ETO)), torch.from_numpy(data.action)
        with torch.no_grad():  # of the policy to be trained, whoever sampled them
            logp_ET = on_cpu(self.actor).log_prob_entropy(obs, action)[0].numpy()
        self._learn_from(Trajectories(**{**data.columns(), "logp_ET": logp_ET}), train_P2, held_P2)

    def _learn_from(self, data: Trajectories, train_P2: np.ndarray, held_P2: np.ndarray) -> None:
        self.data, self.train_P2, self.held_P2, self.epoch = data.columns(), train_P2, held_P2, 0
        for moment in (self.learner.m, self.learner.v, self.learner.t):
            moment.zero_()  # a new reference, a new Adam

    def _epoch(self) -> Progress:
        """One pass over the pairs in shuffled minibatches; the last one of an iteration lets go of its data."""
        c, losses = self.config, []
        order_P2 = self.rng.permutation(self.train_P2)
        for start in range(0, len(order_P2), c.batch_size):
            losses.append(self.learner.update(self._batch(order_P2[start : start + c.batch_size])))
            if isinstance(self.actor, GaussianActor) and c.min_std and not c.freeze_std:
                with torch.no_grad():
                    self.actor.log_std.clamp_(min=math.log(c.min_std))
        metrics = {**mean_metrics(losses), **self._held_out()}
        self.epoch += 1
        if self.epoch == c.update_epochs:
            self.data, self.train_P2, self.held_P2 = None, self.train_P2[:0], self.held_P2[:0]
        return Progress(0, len(losses), metrics)

    def _held_out(self) -> dict[str, float]:
        """Loss, margin and accuracy on pairs that are not learned from."""
        if not len(self.held_P2):
            return {}
        m = self.config.batch_size
        chunks = [self.held_P2[i : i + m] for i in range(0, len(self.held_P2), m)]
        found = [(len(chunk), self.learner.measure(self._batch(chunk))) for chunk in chunks]
        names = {f"loss/{self.config.loss_type}": "loss/held_out", "opt/accuracy": "opt/accuracy_held_out",
                 "opt/margin_mean": "opt/margin_held_out", "opt/kl": "opt/kl_held_out"}  # fmt: skip
        total = len(self.held_P2)
        return {new: sum(n * f[old] for n, f in found) / total for old, new in names.items()}

    def _see(self, obs: np.ndarray) -> np.ndarray:
        return obs if self.normaliser is None else self.normaliser(obs)

    def _batch(self, index_P2: np.ndarray) -> dict[str, Tensor]:
        """Columns (P, 2, T, …) of these pairs."""
        assert self.data is not None
        steps = np.arange(self.data["reward_ET"].shape[1])
        valid_P2T = (steps < self.data["length_E"][index_P2][..., None]).astype(np.float32)
        rows = {name: self.data[column][index_P2] for name, column in (("action", "action"), ("logp", "logp_ET"))}
        columns = {"obs": self._see(self.data["obs_ETO"][index_P2]), "valid": valid_P2T, **rows}
        return {name: torch.from_numpy(column) for name, column in columns.items()}

    def state_metrics(self) -> dict[str, float]:
        if not isinstance(self.actor, GaussianActor):
            return {}
        std_A = self.actor.log_std.detach().exp()
        return {"data/std": float(std_A.mean()), "data/std_min": float(std_A.min())}

    def policy(self, *, explore: bool = False) -> ActorPolicy:
        return ActorPolicy(self.actor, self.task.spec, self.normaliser, explore)
