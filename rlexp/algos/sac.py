"""Soft Actor-Critic with twin critics and automatic temperature. Haarnoja et al. 2018 (arXiv 1812.05905), algorithm 1.

The policy is a Gaussian squashed by tanh: u = μ(s) + σ(s) ε, a = tanh(u). After each environment step, one update on a
minibatch from the replay buffer:

    y   = r + γ (1 − terminated) (min_i Q̄_i(s', a') − α log π(a'|s')),   a' ~ π(·|s')        (eq. 5, 6)
    L_Q = ½ Σ_i mean (Q_i(s, a) − y)²                                                         (eq. 5)
    L_π = mean (α log π(ã|s) − min_i Q_i(s, ã)),                         ã ~ π(·|s)           (eq. 9)
    L_α = −log α · mean (log π(ã|s) + H̄),                                H̄ = −A               (eq. 18)
    Q̄  ← (1 − τ) Q̄ + τ Q

    log π(a|s) = log N(u; μ, σ²) − Σ_A log(1 − tanh² u)                                       (appendix C, eq. 26)

The paper descends α itself; log α keeps it positive, as its authors' code does. A time limit is no end: only where the
task terminated does the value of s' not count. Actions are kept in [−1, 1] and scaled to the environment's box.

Shapes: N samples, O observation dims, A action dims, 2 critics. Clock: env_steps.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from math import log, pi
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from rlexp.algos.base import Algorithm, Progress, Task
from rlexp.buffers.replay import Replay
from rlexp.envs.spec import EnvSpec
from rlexp.nn.actors import mlp
from rlexp.nn.learner import Batch, Learner, mean_metrics
from rlexp.policies.base import Policy
from rlexp.util.errors import UserError
from rlexp.util.params import OutOfRange, Params, param


class SAC(Algorithm):
    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        num_envs: int = param("environments stepped side by side", ge=1, le=100_000)
        num_steps: int = param("steps per environment and iteration", unit="env steps", ge=1)
        gradient_steps: int = param("updates after each step of all environments", ge=1)
        learning_starts: int = param(
            "steps with uniform random actions, before the first update",
            unit="env steps",
            ge=1,
        )
        buffer_size: int = param(
            "transitions kept; older ones are overwritten",
            unit="env steps",
            ge=1,
        )
        batch_size: int = param("transitions per update", unit="samples", ge=1)
        lr: float = param("Adam learning rate of critics, policy and temperature", gt=0)
        gamma: float = param("discount γ", ge=0, le=1)
        tau: float = param("τ: how far the target critics follow per update", gt=0, le=1)
        alpha: float = param("temperature α, at the start where it is tuned", gt=0)
        autotune: bool = param("adapt α so that the policy's entropy meets its target")
        target_entropy: float | None = param(
            "H̄; null: minus the number of action dims",
            unit="nats",
        )

    clock = "env_steps"
    compiles = True
    compiling_pays = 20_000
    devices = frozenset({"cpu", "cuda"})
    ignores = frozenset({"residual", "bounded", "log_std", "init"})
    actions = frozenset({"continuous"})
    state = ("critic", "actor", "generator", "rng", "replay", "steps_done")

    def __init__(self, config: Config, task: Task):
        spec = task.spec
        if not np.isfinite(spec.box).all():
            raise UserError(
                f"algo=sac: actions of '{task.env.id}' have no bounds; SAC's lie in a box",
            )
        self.config = config
        self.task = task
        target = config.target_entropy
        self.entropy = -float(spec.n_actions) if target is None else target  # H̄
        critic = TwinCritic(
            spec.obs_dim + spec.n_actions,
            task.policy.hidden,
            task.policy.activation,
        )
        self.critic = Learner(
            critic,
            self.critic_loss,
            lr=config.lr,
            ema=1 - config.tau,
            compile=task.compile,
            device=task.device,
        )
        actor = SquashedActor(
            spec.obs_dim,
            spec.n_actions,
            task.policy.hidden,
            task.policy.activation,
            np.log(config.alpha),
        )
        self.actor = Learner(
            actor,
            self.actor_loss,
            lr=config.lr,
            compile=task.compile,
            device=task.device,
        )
        self.q = self.critic.view(self.critic.theta)  # Q
        self.q_target = self.critic.average()  # Q̄
        self.pi = self.actor.view(self.actor.theta)  # π
        self.generator = task.generator("explore")
        self.rng = task.rng("batch")
        self.replay = Replay(config.buffer_size, spec.obs_dim, spec.n_actions)
        self.steps_done = 0
        self._begin(0)

    @classmethod
    def check(cls, config: Config, budget: int) -> None:
        if config.buffer_size < config.num_envs:
            raise OutOfRange(
                "buffer_size",
                f"must be ≥ algo.num_envs={config.num_envs}, not {config.buffer_size}",
            )

    def restart(self, step: int) -> None:
        self.envs.close()
        self._begin(step)

    def _begin(self, step: int) -> None:
        self.envs = self.task.envs(self.config.num_envs, step)
        self.obs_BO = self.envs.reset()
        self.total_B = np.zeros(self.envs.n)  # return so far of each open episode

    def critic_loss(self, q: "TwinCritic", b: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """L_Q, and its target y."""
        with torch.no_grad():
            next_action_NA, next_logp_N = self.pi.sample(b["next_obs"], b["noise_next"])
            next_q_N = self.q_target(b["next_obs"], next_action_NA).amin(0)
            next_value_N = next_q_N - self.pi.log_alpha.exp() * next_logp_N
            target_N = b["reward"] + self.config.gamma * (1 - b["terminated"]) * next_value_N
        q_2N = q(b["obs"], b["action"])
        loss = 0.5 * (q_2N - target_N).square().mean(1).sum()  # (5)
        return loss, {"loss/critic": loss, "data/q_mean": q_2N.mean()}

    def actor_loss(self, pi: "SquashedActor", b: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """L_π, and L_α where α is tuned."""
        action_NA, logp_N = pi.sample(b["obs"], b["noise"])
        alpha = pi.log_alpha.exp().detach()
        policy_loss = (alpha * logp_N - self.q(b["obs"], action_NA).amin(0)).mean()  # (9)
        entropy = -logp_N.detach().mean()
        loss = policy_loss
        if self.config.autotune:
            loss = policy_loss - pi.log_alpha * (self.entropy - entropy)  # (18)
        return loss, {"loss/policy": policy_loss, "data/entropy": entropy, "opt/alpha": alpha}

    def step(self) -> Progress:
        c = self.config
        losses: list[dict[str, Tensor]] = []
        returns: list[float] = []
        for _ in range(c.num_steps):
            returns += self._act()
            if self.steps_done > c.learning_starts:
                losses += [self._update() for _ in range(c.gradient_steps)]
        metrics = mean_metrics(losses)
        if returns:
            metrics["data/return_mean"] = float(np.mean(returns))
        return Progress(c.num_steps * self.envs.n, len(losses), metrics)

    def _act(self) -> list[float]:
        """One step of all environments; the returns of episodes that it ended."""
        action_BA = self._explore()
        step = self.envs.step(self.task.spec.from_unit(action_BA))
        self.envs.require_finite(step.final_obs, step.reward, action_BA)
        self.replay.add(self.obs_BO, action_BA, step.reward, step.final_obs, step.terminated)
        self.obs_BO = step.obs
        self.steps_done += self.envs.n
        self.total_B += step.reward
        ended_B = step.terminated | step.truncated
        returns = self.total_B[ended_B].tolist()
        self.total_B[ended_B] = 0
        return returns

    @torch.no_grad()
    def _explore(self) -> np.ndarray:
        """Actions in [−1, 1]: uniform at first, then sampled from the policy."""
        shape = (self.envs.n, self.task.spec.n_actions)
        if self.steps_done < self.config.learning_starts:
            return (2 * torch.rand(shape, generator=self.generator) - 1).numpy()
        obs_BO = torch.from_numpy(self.obs_BO).to(self.task.device)
        noise_BA = torch.randn(shape, generator=self.generator).to(self.task.device)
        return self.pi.squashed(obs_BO, noise_BA).cpu().numpy()

    def _update(self) -> dict[str, Tensor]:
        batch = self.replay.sample(self.config.batch_size, self.rng)
        noise_2NA = torch.randn(2, *batch["action"].shape, generator=self.generator)
        batch["noise"] = noise_2NA[0]
        batch["noise_next"] = noise_2NA[1]
        critic = self.critic.update(batch)
        actor = self.actor.update(batch)
        return {**critic, "opt/grad_norm_critic": critic["opt/grad_norm"], **actor}

    def policy(self, *, explore: bool = False) -> "SACPolicy":
        return SACPolicy(self.pi, self.task.spec, explore)


class TwinCritic(nn.Module):
    """Two action values, learned apart: their minimum errs on the low side."""

    def __init__(self, n_in: int, hidden: list[int], activation: str):
        super().__init__()
        self.first = mlp([n_in, *hidden, 1], activation)
        self.second = mlp([n_in, *hidden, 1], activation)

    def forward(self, obs_NO: Tensor, action_NA: Tensor) -> Tensor:
        """(2, N)"""
        x = torch.cat([obs_NO, action_NA], -1)
        return torch.stack([self.first(x).squeeze(-1), self.second(x).squeeze(-1)])


class SquashedActor(nn.Module):
    """Mean and log standard deviation of u from one network; and the temperature, which is learned along with it."""

    def __init__(
        self,
        obs_dim: int,
        n_actions: int,
        hidden: list[int],
        activation: str,
        log_alpha: float = 0.0,
    ):
        super().__init__()
        self.spec: dict[str, Any] = {
            "obs_dim": obs_dim,
            "n_actions": n_actions,
            "hidden": list(hidden),
            "activation": activation,
        }
        self.body = mlp([obs_dim, *hidden, 2 * n_actions], activation)
        self.log_alpha = nn.Parameter(torch.tensor(float(log_alpha)))

    def forward(self, obs_NO: Tensor) -> tuple[Tensor, Tensor]:
        """μ and log σ, (N, A) each."""
        mean_NA, log_std_NA = self.body(obs_NO).chunk(2, -1)
        return mean_NA, log_std_NA.clamp(-20, 2)

    def squashed(self, obs_NO: Tensor, noise_NA: Tensor) -> Tensor:
        """Actions in (−1, 1) made from standard normal noise, (N, A)."""
        mean_NA, log_std_NA = self(obs_NO)
        return (mean_NA + log_std_NA.exp() * noise_NA).tanh()

    def sample(self, obs_NO: Tensor, noise_NA: Tensor) -> tuple[Tensor, Tensor]:
        """The same actions, and their log-probabilities (N,)."""
        mean_NA, log_std_NA = self(obs_NO)
        u_NA = mean_NA + log_std_NA.exp() * noise_NA
        log_normal_NA = -0.5 * (noise_NA.square() + log(2 * pi)) - log_std_NA
        log_slope_NA = 2 * (log(2) - u_NA - softplus(-2 * u_NA))  # log(1 − tanh² u), without its cancellation
        return u_NA.tanh(), (log_normal_NA - log_slope_NA).sum(-1)


class SACPolicy(Policy, kind="sac"):
    """Acts by tanh(μ), or samples with `explore`."""

    def __init__(self, actor: SquashedActor, env: EnvSpec, explore: bool = False):
        self.actor = copy.deepcopy(actor).cpu().requires_grad_(False)
        self.env = env
        self.explore = explore
        self.generator = torch.Generator().manual_seed(0)

    def start(self, batch: int, rng: np.random.Generator) -> None:
        self.generator.manual_seed(int(rng.integers(2**62)))

    @torch.no_grad()
    def act(self, obs_BO: np.ndarray) -> np.ndarray:
        obs = torch.from_numpy(np.ascontiguousarray(obs_BO, np.float32))
        noise_BA = torch.zeros(len(obs), self.env.n_actions)
        if self.explore:
            noise_BA.normal_(generator=self.generator)
        return self.env.from_unit(self.actor.squashed(obs, noise_BA).numpy())

    def spec(self) -> dict[str, Any]:
        return {"actor": self.actor.spec, "explore": self.explore, **self.env.bounds}

    def state_dict(self) -> dict[str, Tensor]:
        return self.actor.state_dict()

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], state: Mapping[str, Any]) -> "SACPolicy":
        actor = SquashedActor(**spec["actor"])
        actor.load_state_dict(state)
        env = EnvSpec.with_bounds(
            actor.spec["obs_dim"],
            "continuous",
            actor.spec["n_actions"],
            spec,
        )
        return cls(actor, env, spec["explore"])
