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

A soft label p, a probability, takes p times the loss of h and 1 − p times that of −h: the expectation over labels.

π_ref is the policy that began the iteration. It enters by its log-probabilities of the iteration's data alone, taken
when the data are, hence it cannot change within one. `iterations: 1` is offline DPO; with more of them each begins
with fresh data, a new reference and a new Adam. The simulator executes clipped actions; log-probabilities are of the
actions as sampled. True returns are used for labels and to be reported, never in the loss.

Shapes: E trajectories, T steps, P pairs, axis 2 = (preferred, other), O observation dims. Clock: updates; collecting
does not advance it.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlexp.algos.base import Algorithm, Progress, Task
from rlexp.buffers.holdout import held_out_count
from rlexp.buffers.pair_files import load_pairs
from rlexp.buffers.preferences import Pairs, check_fragment, fragments, label, preferred_probability
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
        iterations: int | None = param(
            "times data are collected and learned from; null: as the budget allows",
            ge=1,
        )
        episodes_per_iteration: int = param("sampled for each iteration", unit="episodes", ge=4)
        num_envs: int = param("environments stepped side by side", ge=1, le=100_000)
        validation_fraction: float = param("share of them that only measures accuracy", gt=0, lt=1)
        fragment_length: int | None = param(
            "compare pieces of this length; null: whole trajectories",
            unit="steps",
            ge=1,
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
        reduction: str = param(
            "log-ratio of a trajectory: sum or mean over its steps",
            choices=("sum", "mean"),
        )
        lr: float = param("Adam learning rate", gt=0)
        update_epochs: int = param("passes over an iteration's pairs", ge=1)
        batch_size: int = param(
            "pairs per update; the last one of an epoch may be smaller",
            unit="pairs",
            ge=1,
        )
        max_grad_norm: float | None = param(
            "global gradient norm is clipped to this; null: never",
            gt=0,
        )
        freeze_std: bool = param("learn the mean only: the standard deviation stays the start's")
        min_std: float = param("the standard deviation never falls below this", ge=0)
        mean_episodes: int = param(
            "played with mean actions at each iteration's start, to be reported",
            ge=0,
        )

        @property
        def per_iteration(self) -> int:
            """Updates of one iteration."""
            return self.update_epochs * math.ceil(self.num_pairs / self.batch_size)

    clock = "updates"
    devices = frozenset({"cpu", "cuda"})
    state = (
        "learner",
        "generator",
        "rng",
        "rounds",
        "epoch",
        "collected",
        "data",
        "train_P2",
        "held_P2",
    )

    def __init__(self, config: Config, task: Task):
        self.config = config
        self.task = task
        start = start_policy(task.spec, task.policy)
        self.actor = start.actor
        self.normaliser = start.normaliser
        if config.freeze_std and isinstance(self.actor, GaussianActor):
            fixed = self.actor.log_std.detach().clone()
            del self.actor.log_std  # a buffer of the same name is saved alike, but not learned
            self.actor.register_buffer("log_std", fixed)
        self.learner = Learner(
            self.actor,
            self.loss,
            lr=config.lr,
            clip=config.max_grad_norm,
            device=task.device,
        )
        self.generator = task.generator("explore")
        self.rng = task.rng("batch")
        self.rounds = 0  # times that environments were made
        self.epoch = 0  # passes over the pairs of this iteration
        self.collected: list[dict[str, Any]] = []  # trajectories so far, while an iteration collects
        self.data: dict[str, Any] | None = None  # what it learns from; None while it collects
        self.train_P2 = np.empty((0, 2), np.int64)
        self.held_P2 = np.empty((0, 2), np.int64)
        self.sure_P: np.ndarray | None = None  # where a file's labels are soft: of train_P2
        self.held_sure_P: np.ndarray | None = None  # of held_P2
        if config.preferences is not None:
            with said_of(f"algo.preferences={config.preferences}"):
                self._given(load_pairs(config.preferences))
        check_fragment(config.fragment_length, task.env)
        self._check_std()

    def _check_std(self) -> None:
        """Raise UserError where the policy begins below its least standard deviation."""
        if self.config.freeze_std or not isinstance(self.actor, GaussianActor):
            return
        least = float(self.actor.log_std.detach().min().exp())
        if self.config.min_std > least:
            raise UserError(
                f"algo.min_std={self.config.min_std}: the policy begins below it, with {least:.3g}",
            )

    @classmethod
    def check(cls, config: Config, budget: int) -> None:
        n = config.iterations
        if config.preferences is not None and config.fragment_length is not None:
            raise OutOfRange(
                "fragment_length",
                "must be null where algo.preferences gives the pairs: they are compared whole",
            )
        if config.preferences is not None and n != 1:
            raise OutOfRange(
                "iterations",
                "must be 1 where algo.preferences gives the pairs: there are no more",
            )
        if n is not None and budget != n * config.per_iteration:
            raise OutOfRange(
                "iterations",
                f"{n} x {config.update_epochs} epochs of {config.num_pairs} pairs in minibatches "
                f"of {config.batch_size} are {n * config.per_iteration} updates, train.budget is "
                f"{budget}; use train.budget={n * config.per_iteration}",
            )

    def loss(self, net: Actor, b: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        logp_P2T, entropy_P2T = net.log_prob_entropy(b["obs"], b["action"])
        valid_P2T = b["valid"]
        steps = valid_P2T.sum()
        log_ratio_P2T = (logp_P2T - b["logp"]) * valid_P2T
        ratio_P2 = log_ratio_P2T.sum(-1)  # ℓ
        if self.config.reduction == "mean":
            ratio_P2 = ratio_P2 / valid_P2T.sum(-1)
        h_P = ratio_P2[:, 0] - ratio_P2[:, 1]
        loss_P = self._loss_of(h_P)
        if "sure" in b:  # the expectation over the labels
            loss_P = b["sure"] * loss_P + (1 - b["sure"]) * self._loss_of(-h_P)
        loss = loss_P.mean()
        margin_P = self.config.beta * h_P
        kl_P2T = (log_ratio_P2T.exp() - 1 - log_ratio_P2T) * valid_P2T
        return loss, {
            f"loss/{self.config.loss_type}": loss,
            "opt/margin_mean": margin_P.mean(),
            "opt/margin_std": margin_P.std(correction=0),
            "opt/accuracy": (h_P > 0).float().mean(),
            "opt/log_ratio_preferred": ratio_P2[:, 0].mean(),
            "opt/log_ratio_other": ratio_P2[:, 1].mean(),
            # of one step, KL(π_ref, π): k3 of Schulman 2020 on samples of π_ref
            "opt/kl": kl_P2T.sum() / steps,
            "data/entropy": (entropy_P2T * valid_P2T).sum() / steps,
        }

    def _loss_of(self, h_P: Tensor) -> Tensor:
        c = self.config
        if c.loss_type == "square":
            return (c.beta * h_P - c.target_margin).square()
        if c.loss_type == "ipo":
            return (h_P - 1 / (2 * c.beta)).square()  # Azar, (17)
        return -logsigmoid(c.beta * h_P)  # Rafailov, (7)

    def step(self) -> Progress:
        return self._collect() if self.data is None else self._epoch()

    def _collect(self) -> Progress:
        """One round of trajectories; the last round of an iteration pairs and labels them."""
        c = self.config
        missing = c.episodes_per_iteration - self._collected()
        new = self._play(min(c.num_envs, missing), self.generator)
        self.collected = [*self.collected, new.columns()]
        steps = int(new.length_E.sum())
        if self._collected() < c.episodes_per_iteration:
            stage = ("episodes collected", self._collected(), c.episodes_per_iteration)
            return Progress(steps, 0, {}, stage)

        data = Trajectories.join([Trajectories(**columns) for columns in self.collected])
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

    def _collected(self) -> int:
        """Trajectories of this iteration so far."""
        return sum(len(columns["length_E"]) for columns in self.collected)

    def _play(self, n: int, generator: torch.Generator | None) -> Trajectories:
        envs = self.task.envs(n, self.rounds, autoreset=False)
        self.rounds += 1
        data = collect(envs, self.task.spec, on_cpu(self.actor), generator, self.normaliser)
        envs.close()
        return data

    def _compare(self, data: Trajectories) -> dict[str, float]:
        """Labels pairs of `data` and begins learning from them; returns what the labels tell."""
        c = self.config
        held = held_out_count(len(data), c.validation_fraction, least=2)
        # Rounds are alike: there is no order in them.
        train = data.take(np.arange(held, len(data)))
        others = data.take(np.arange(held))
        comparable = True
        if c.fragment_length is not None:
            comparable = (others.length_E // c.fragment_length).sum() >= 2
            train = fragments(train, c.fragment_length, self.rng)
            if comparable:
                others = fragments(others, c.fragment_length, self.rng)
        labelled = self._label(train, c.num_pairs)
        if comparable:
            held_P2 = self._label(others, None).ordered_P2 + len(train)
            data = Trajectories.join([train, others])
        else:
            held_P2 = labelled.index_P2[:0]
            data = Trajectories.join([train])
        self._learn_from(data, labelled.ordered_P2, held_P2)
        return self._informativeness(labelled)

    def _label(self, trajectories: Trajectories, count: int | None) -> Pairs:
        c = self.config
        return label(trajectories, c.pairing, self.rng, c.temperature, c.standardise, count)

    def _informativeness(self, pairs: Pairs) -> dict[str, float]:
        """What the labels tell of the true returns."""
        c = self.config
        left_P, right_P = pairs.trajectories.return_E[pairs.index_P2].T
        p_P = preferred_probability(left_P, right_P, c.temperature, standardise=c.standardise)
        left_is_better_P = left_P > right_P
        surprise_P = (left_P != right_P) & (left_is_better_P != pairs.first_P)
        return {
            # 1: sure labels; 0: tossed coins
            "data/label_informativeness": float(np.abs(2 * p_P - 1).mean()),
            "data/label_surprises": float(surprise_P.mean()),
            "data/return_gap": float(np.abs(left_P - right_P).mean()),
        }

    def _given(self, given: Pairs) -> None:
        """Learn from pairs of a file. Held out are those that share no trajectory with the ones
        that are learned. Raises UserError where they are too few, broken or of another
        environment."""
        n = self.config.num_pairs
        if len(given.first_P) < n:
            there = len(given.first_P)
            updates = replace(self.config, num_pairs=there).per_iteration
            how = f"learn from all of them with algo.num_pairs={there} train.budget={updates}"
            raise UserError(f"holds {there} pairs, algo.num_pairs asks for {n}; {how}")
        self._check_given(given)
        data = given.trajectories
        train_P2 = given.ordered_P2[:n]
        held_P2 = given.ordered_P2[n:]
        apart_P = ~np.isin(held_P2, train_P2).any(1)
        held_P2 = held_P2[apart_P]
        if given.sure_P is not None:
            self.sure_P = given.sure_P[:n]
            self.held_sure_P = given.sure_P[n:][apart_P]
        obs = torch.from_numpy(self._see(data.obs_ETO))
        action = torch.from_numpy(data.action)
        with torch.no_grad():  # of the policy to be trained, whoever sampled them
            logp_ET, _ = on_cpu(self.actor).log_prob_entropy(obs, action)
        columns = data.columns()
        columns["logp_ET"] = logp_ET.numpy()
        self._learn_from(Trajectories(**columns), train_P2, held_P2)

    def _check_given(self, given: Pairs) -> None:
        """Raise UserError where the trajectories are broken or of another environment."""
        env = self.task.env
        spec = self.task.spec
        data = given.trajectories
        theirs = task_of(given.card.get("env", env.id))
        if theirs != env.task:
            raise UserError(f"its trajectories are of {theirs}, the environment is {env.id}")
        discrete = spec.kind == "discrete"
        action_shape = () if discrete else (spec.n_actions,)
        if data.obs_ETO.shape[2:] != (spec.obs_dim,) or data.action.shape[2:] != action_shape:
            raise UserError("its observations or actions are not the environment's")
        for what, array in (("observations", data.obs_ETO), ("actions", data.action)):
            if not np.isfinite(array[data.valid_ET]).all():
                raise UserError(f"its {what} are not all finite")
        if discrete and not 0 <= data.action.min() <= data.action.max() < spec.n_actions:
            raise UserError(f"its actions are not all in 0..{spec.n_actions - 1}")

    def _learn_from(self, data: Trajectories, train_P2: np.ndarray, held_P2: np.ndarray) -> None:
        self.data = data.columns()
        self.train_P2 = train_P2
        self.held_P2 = held_P2
        self.epoch = 0
        for moment in (self.learner.m, self.learner.v, self.learner.t):
            moment.zero_()  # a new reference, a new Adam

    def _epoch(self) -> Progress:
        """One pass over the pairs in shuffled minibatches; the last one of an iteration lets go of
        its data."""
        c = self.config
        losses = []
        order_P = self.rng.permutation(len(self.train_P2))
        for start in range(0, len(order_P), c.batch_size):
            row_B = order_P[start : start + c.batch_size]
            batch = self._batch(self.train_P2[row_B], _rows(self.sure_P, row_B))
            losses.append(self.learner.update(batch))
            self._keep_std_above()
        metrics = {**mean_metrics(losses), **self._held_out()}
        self.epoch += 1
        if self.epoch == c.update_epochs:
            self.data = None
            self.train_P2 = self.train_P2[:0]
            self.held_P2 = self.held_P2[:0]
        return Progress(0, len(losses), metrics)

    @torch.no_grad()
    def _keep_std_above(self) -> None:
        c = self.config
        if isinstance(self.actor, GaussianActor) and c.min_std and not c.freeze_std:
            self.actor.log_std.clamp_(min=math.log(c.min_std))

    @torch.no_grad()
    def _held_out(self) -> dict[str, float]:
        """Loss, margin and accuracy on pairs that are not learned from."""
        total = len(self.held_P2)
        size = self.config.batch_size
        found = []  # (pairs, metrics) of each minibatch
        for start in range(0, total, size):
            rows = slice(start, start + size)
            index_P2 = self.held_P2[rows]
            metrics = self.learner.measure(self._batch(index_P2, _rows(self.held_sure_P, rows)))
            found.append((len(index_P2), metrics))
        if not found:
            return {}
        names = {
            f"loss/{self.config.loss_type}": "loss/held_out",
            "opt/accuracy": "opt/accuracy_held_out",
            "opt/margin_mean": "opt/margin_held_out",
            "opt/kl": "opt/kl_held_out",
        }
        return {new: sum(n * metrics[old] for n, metrics in found) / total for old, new in names.items()}

    def _see(self, obs: np.ndarray) -> np.ndarray:
        return obs if self.normaliser is None else self.normaliser(obs)

    def _batch(self, index_P2: np.ndarray, sure_P: np.ndarray | None = None) -> dict[str, Tensor]:
        """Columns (P, 2, T, …) of these pairs and, where their labels are soft, how sure they are (P,)."""
        assert self.data is not None
        step_T = np.arange(self.data["reward_ET"].shape[1])
        length_P2 = self.data["length_E"][index_P2]
        valid_P2T = step_T < length_P2[..., None]
        columns = {
            "obs": self._see(self.data["obs_ETO"][index_P2]),
            "action": self.data["action"][index_P2],
            "logp": self.data["logp_ET"][index_P2],
            "valid": valid_P2T.astype(np.float32),
        }
        if sure_P is not None:
            columns["sure"] = sure_P
        return {name: torch.from_numpy(column) for name, column in columns.items()}

    def state_metrics(self) -> dict[str, float]:
        if not isinstance(self.actor, GaussianActor):
            return {}
        std_A = self.actor.log_std.detach().exp()
        return {"data/std": float(std_A.mean()), "data/std_min": float(std_A.min())}

    def policy(self, *, explore: bool = False) -> ActorPolicy:
        return ActorPolicy(self.actor, self.task.spec, self.normaliser, explore)


def _rows(column_P: np.ndarray | None, rows: Any) -> np.ndarray | None:
    return None if column_P is None else column_P[rows]
