"""Proximal Policy Optimization with the clipped surrogate, discrete and continuous. Schulman et al. 2017, algorithm 1.

Each iteration runs the current policy π_old for `num_steps` steps in `num_envs` environments, estimates advantages,
and takes `update_epochs` passes in minibatches of `batch_size`:

    Â_t = Σ_l (γλ)^l δ_{t+l},   δ_t = r_t + γ V(s'_t) − V(s_t)             (eq. 11, 12; s' is what the action led to)
    ρ   = π(a|s) / π_old(a|s)
    L_π = −mean min(ρ Â, clip(ρ, 1 − ε, 1 + ε) Â)                          (eq. 7)
    L_V = ½ mean max((V − R)², (V_old + clip(V − V_old, ±ε_V) − R)²)       R = Â + V_old; plain MSE without ε_V
    minimise  L_π + vf_coef · L_V − ent_coef · H[π]                 (eq. 9)

Not in the paper, common to its implementations (Huang et al. 2022, "The 37 implementation details"): orthogonal
initial weights, Adam ε = 1e-5, global gradient clipping, advantages normalised per minibatch, rewards divided by the
running std of the discounted return (no mean subtracted), observations normalised by running statistics, linear
schedules, value clipping, an early stop at `target_kl`, and the ½ in L_V: the paper's c₁ is vf_coef / 2. The sum of Â
ends where an episode does; V(s') is 0 where the task ended, and that of the final observation at a time limit.

Observation statistics are frozen while an iteration acts and learns, so that ρ is 1 before the first update; they take
in its observations afterwards. Shapes: T steps, B environments, N = T·B samples, O observation dims. Clock: env_steps.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlexp.algos.base import Algorithm, Progress, Task
from rlexp.buffers import returns
from rlexp.nn.actors import ActorCritic, Normaliser, on_cpu
from rlexp.nn.learner import Batch, Learner, mean_metrics
from rlexp.policies.actor import ActorPolicy
from rlexp.policies.start import start_weights
from rlexp.rollout.collector import Collector, Rollout
from rlexp.util.params import OutOfRange, Params, param


class PPO(Algorithm):
    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        num_envs: int = param("environments stepped side by side", ge=1, le=100_000)
        num_steps: int = param("steps per environment and iteration", unit="env steps", ge=1)
        update_epochs: int = param("passes over an iteration's samples", ge=1)
        batch_size: int = param(
            "samples per update; the last one of an epoch may be smaller",
            unit="samples",
            ge=1,
        )
        lr: float = param("Adam learning rate", gt=0)
        gamma: float = param("discount γ", ge=0, le=1)
        gae_lambda: float = param(
            "λ of the advantage estimate: 1 is Monte Carlo, 0 one step",
            ge=0,
            le=1,
        )
        clip_coef: float = param("ε: how far ρ may usefully move from 1", gt=0)
        vf_clip_coef: float | None = param(
            "ε_V: how far V may usefully move from V_old; null: no limit",
            gt=0,
        )
        vf_coef: float = param("weight of the value loss", ge=0)
        ent_coef: float = param("weight of the entropy bonus", ge=0)
        max_grad_norm: float | None = param(
            "global gradient norm is clipped to this; null: never",
            gt=0,
        )
        target_kl: float | None = param(
            "stop an iteration's updates once KL(π_old, π) exceeds this; null: never",
            unit="nats",
            gt=0,
        )
        normalise_advantage: bool = param(
            "shift and scale each minibatch's advantages to mean 0, std 1",
        )
        normalise_obs: bool = param("standardise observations by running statistics")
        normalise_reward: bool = param("divide rewards by the running std of the discounted return")
        lr_schedule: str = param(
            "course of the learning rate over `anneal_steps`",
            choices=("constant", "linear"),
        )
        clip_schedule: str = param(
            "course of ε over `anneal_steps`",
            choices=("constant", "linear"),
        )
        anneal_steps: int = param("where linear schedules reach zero", unit="env steps", ge=1)

    clock = "env_steps"
    compiles = True
    compiling_pays = 20_000
    pools = True
    devices = frozenset({"cpu", "cuda"})
    state = ("learner", "generator", "rng", "obs_stats", "return_stats", "steps_done")

    def __init__(self, config: Config, task: Task):
        self.config = config
        self.task = task
        self.net = ActorCritic(task.spec, task.policy)
        self.obs_stats = start_weights(
            self.net.actor,
            task.policy,
            normalise=config.normalise_obs,
        )
        self.learner = Learner(
            self.net,
            self.loss,
            lr=config.lr,
            eps=1e-5,
            clip=config.max_grad_norm,
            compile=task.compile,
            device=task.device,
        )
        self.generator = task.generator("explore")
        self.rng = task.rng("batch")
        self.return_stats = Normaliser(1) if config.normalise_reward else None
        self.steps_done = 0
        self._begin(0)

    @classmethod
    def updates_within(cls, config: Config, budget: int) -> float:
        return budget * config.update_epochs / config.batch_size

    @classmethod
    def check(cls, config: Config, budget: int) -> None:
        if "linear" in (config.lr_schedule, config.clip_schedule) and budget > config.anneal_steps:
            raise OutOfRange(
                "anneal_steps",
                f"is {config.anneal_steps}, where the linear schedules reach zero, but "
                f"train.budget is {budget}: nothing would be learned beyond it; a longer run has "
                "to begin anew",
            )

    def restart(self, step: int) -> None:
        self.collector.envs.close()
        self._begin(step)

    def _begin(self, step: int) -> None:
        envs = self.task.envs(self.config.num_envs, step)
        self.collector = Collector(envs, self.task.spec)
        self.discounted_B = np.zeros(envs.n)

    def loss(self, net: ActorCritic, b: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        c = self.config
        logp_N, entropy_N = net.actor.log_prob_entropy(b["obs"], b["action"])
        log_ratio_N = logp_N - b["logp"]
        ratio_N = log_ratio_N.exp()  # ρ
        policy_loss = self._policy_loss(ratio_N, b)
        value_loss = self._value_loss(net.critic(b["obs"]).squeeze(-1), b)
        entropy = entropy_N.mean()

        loss = policy_loss + c.vf_coef * value_loss  # (9)
        if c.ent_coef:  # else no backward pass through the entropy
            loss = loss - c.ent_coef * entropy
        moved_N = (ratio_N - 1).abs() > b["clip"]
        return loss, {
            "loss/policy": policy_loss,
            "loss/value": value_loss,
            "data/entropy": entropy,
            "opt/kl": (ratio_N - 1 - log_ratio_N).mean(),  # estimator k3 of Schulman 2020: ≥ 0
            "opt/clip_fraction": moved_N.float().mean(),
        }

    def _policy_loss(self, ratio_N: Tensor, b: Batch) -> Tensor:
        """L_π, of eq. 7."""
        adv_N = b["adv"]
        if self.config.normalise_advantage and len(adv_N) > 1:
            adv_N = (adv_N - adv_N.mean()) / (adv_N.std() + 1e-8)
        clipped_N = torch.clamp(ratio_N, 1 - b["clip"], 1 + b["clip"])
        return -torch.min(ratio_N * adv_N, clipped_N * adv_N).mean()

    def _value_loss(self, value_N: Tensor, b: Batch) -> Tensor:
        """L_V."""
        limit = self.config.vf_clip_coef
        error_N = (value_N - b["return"]).square()
        if limit is not None:
            near_N = b["value"] + torch.clamp(value_N - b["value"], -limit, limit)
            error_N = torch.max(error_N, (near_N - b["return"]).square())
        return 0.5 * error_N.mean()

    def step(self) -> Progress:
        c = self.config
        rollout = self.collector.collect(
            on_cpu(self.net).actor,
            c.num_steps,
            self.generator,
            self.obs_stats,
        )
        batch, explained = self._prepare(rollout)
        lr = self._scheduled(c.lr, c.lr_schedule)
        clip = torch.tensor(self._scheduled(c.clip_coef, c.clip_schedule))
        losses = self._learn(batch, lr, clip)
        if self.obs_stats is not None:
            obs_dim = rollout.obs_TBO.shape[-1]
            self.obs_stats.update(rollout.obs_TBO.reshape(-1, obs_dim))
        env_steps = rollout.reward_TB.size
        self.steps_done += env_steps
        metrics = mean_metrics(losses)
        metrics["opt/lr"] = lr
        metrics["opt/explained_variance"] = explained
        if rollout.returns:
            metrics["data/return_mean"] = float(np.mean(rollout.returns))
            metrics["data/length_mean"] = float(np.mean(rollout.lengths))
        return Progress(env_steps, len(losses), metrics)

    def _scheduled(self, value: float, schedule: str) -> float:
        """`value` as it is now: constant, or on its way to zero."""
        if schedule == "constant":
            return value
        return value * (1 - self.steps_done / self.config.anneal_steps)

    def _prepare(self, rollout: Rollout) -> tuple[dict[str, Tensor], float]:
        """The rollout as flat columns of N samples, with log π_old, V_old, advantages and value
        targets; and the share of the targets' variance that V_old explains."""
        c = self.config
        net = on_cpu(self.net)
        obs_TBO = self._normalised(rollout.obs_TBO)
        value_TB = net.value(obs_TBO)
        next_value_TB = rollout.next_values(
            value_TB,
            lambda obs_NO: net.value(self._normalised(obs_NO)),
        )
        adv_TB = returns.gae(
            self._scaled_reward(rollout),
            value_TB,
            next_value_TB,
            rollout.terminated_TB,
            rollout.truncated_TB,
            c.gamma,
            c.gae_lambda,
        )
        return_TB = adv_TB + value_TB
        columns = {
            "obs": obs_TBO,
            "action": rollout.action,
            "adv": adv_TB,
            "return": return_TB,
            "value": value_TB,
        }
        n = adv_TB.size
        batch = {}
        for name, column in columns.items():
            batch[name] = torch.from_numpy(column.reshape(n, *column.shape[2:]))
        with torch.no_grad():
            logp_N, _ = net.actor.log_prob_entropy(batch["obs"], batch["action"])
        batch["logp"] = logp_N
        return batch, returns.explained_variance(value_TB, return_TB)

    def _normalised(self, obs: np.ndarray) -> np.ndarray:
        return obs if self.obs_stats is None else self.obs_stats(obs)

    def _scaled_reward(self, rollout: Rollout) -> np.ndarray:
        """Rewards (T, B), divided by the running std of the discounted return where asked for."""
        if self.return_stats is None:
            return rollout.reward_TB
        sums_TB, self.discounted_B = returns.discounted_sums(
            rollout.reward_TB,
            rollout.terminated_TB | rollout.truncated_TB,
            self.discounted_B,
            self.config.gamma,
        )
        self.return_stats.update(sums_TB.reshape(-1, 1))
        return self.return_stats.scale(rollout.reward_TB)

    def _learn(self, batch: dict[str, Tensor], lr: float, clip: Tensor) -> list[dict[str, Tensor]]:
        """`update_epochs` passes in shuffled minibatches; ends early, all epochs, once the KL
        exceeds its target."""
        c = self.config
        losses: list[dict[str, Tensor]] = []
        for _ in range(c.update_epochs):
            order = torch.from_numpy(self.rng.permutation(len(batch["adv"])))
            for rows in order.split(c.batch_size):
                minibatch = {name: column[rows] for name, column in batch.items()}
                losses.append(self.learner.update({**minibatch, "clip": clip}, lr))
                if c.target_kl is not None and losses[-1]["opt/kl"] > c.target_kl:
                    return losses
        return losses

    def policy(self, *, explore: bool = False) -> ActorPolicy:
        return ActorPolicy(self.net.actor, self.task.spec, self.obs_stats, explore)
