"""Vanilla policy gradient: REINFORCE with reward-to-go, with or without a learned baseline.

Williams 1992; Sutton et al. 2000. Each epoch plays whole episodes with sampled actions until it has
`steps_per_epoch` steps, then takes `update_epochs` passes over them in minibatches:

    R_t = Σ_{i≥t} γ^{i−t} r_i                          reward-to-go, to the end of the episode
    Â_t = R_t − V(s_t)   (baseline: value)   or   R_t  (baseline: none)
    L_π = −mean over samples of  log π(a_t|s_t) Â_t
    L_V =  mean over samples of  (V(s_t) − R_t)²
    minimise  L_π + vf_coef · L_V  with Adam.

The gradient is unbiased for the first minibatch only: later ones are taken off-policy, with nothing to keep the policy
near the one that sampled. That is what PPO mends, and why a high learning rate with many epochs collapses here.

Shapes: N samples (steps of all episodes, one after another), O observation dims. Clock: env_steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlexp.algos.base import Algorithm, Progress, Task
from rlexp.buffers import returns
from rlexp.buffers.trajectories import Trajectories
from rlexp.envs.vector import VecEnv
from rlexp.nn.actors import ActorCritic, on_cpu
from rlexp.nn.learner import Batch, Learner, mean_metrics
from rlexp.policies.actor import ActorPolicy
from rlexp.policies.start import start_weights
from rlexp.rollout.collector import collect_steps
from rlexp.util.params import Params, param


class VPG(Algorithm):
    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        lr: float = param("Adam learning rate", gt=0)
        gamma: float = param("discount", ge=0, le=1)
        baseline: str = param(
            "what is subtracted from the reward-to-go",
            choices=("none", "value"),
        )
        vf_coef: float = param("weight of the value loss", ge=0)
        num_envs: int = param("environments, each of which plays one episode at a time", ge=1, le=100_000)
        steps_per_epoch: int = param(
            "whole episodes are played until an epoch has these",
            unit="env steps",
            ge=1,
        )
        update_epochs: int = param("passes over an epoch's samples", ge=1)
        batch_size: int = param("samples per update; 0 takes all at once", unit="samples", ge=0)
        normalise_advantage: bool = param(
            "shift and scale each epoch's advantages to mean 0, std 1",
        )

    clock = "env_steps"
    devices = frozenset({"cpu", "cuda"})
    state = ("learner", "generator", "rng", "iteration")

    def __init__(self, config: Config, task: Task):
        self.config = config
        self.task = task
        self.net = ActorCritic(task.spec, task.policy)
        start_weights(self.net.actor, task.policy)
        self.learner = Learner(self.net, self.loss, lr=config.lr, device=task.device)
        self.generator = task.generator("explore")
        self.rng = task.rng("batch")
        self.iteration = 0

    def loss(self, net: ActorCritic, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        logp_N, entropy_N = net.actor.log_prob_entropy(batch["obs"], batch["action"])
        policy_loss = -(logp_N * batch["adv"]).mean()
        metrics = {"loss/policy": policy_loss, "data/entropy": entropy_N.mean()}
        if self.config.baseline == "none":
            return policy_loss, metrics
        value_N = net.critic(batch["obs"]).squeeze(-1)
        value_loss = (value_N - batch["return"]).square().mean()
        metrics["loss/value"] = value_loss
        return policy_loss + self.config.vf_coef * value_loss, metrics

    def step(self) -> Progress:
        net = on_cpu(self.net)
        played = collect_steps(
            self.config.steps_per_epoch,
            self._new_envs,
            self.task.spec,
            net.actor,
            self.generator,
        )
        losses = self._learn(self._batch(played, net))
        metrics = mean_metrics(losses)
        metrics["data/return_mean"] = played.return_E.mean()
        metrics["data/length_mean"] = float(played.length_E.mean())
        metrics["data/last_reward_mean"] = float(played.reward_ET[played.last_ET].mean())
        return Progress(int(played.length_E.sum()), len(losses), metrics)

    def _batch(self, played: Trajectories, net: ActorCritic) -> dict[str, Tensor]:
        """All steps as columns of N samples, with their rewards-to-go R and advantages Â."""
        gamma = self.config.gamma
        return_ET = returns.rewards_to_go(played.reward_ET.T, played.last_ET.T, gamma).T
        batch = {
            "obs": torch.from_numpy(played.obs_ETO[played.valid_ET]),
            "action": torch.from_numpy(played.action[played.valid_ET]),
            "return": torch.from_numpy(return_ET[played.valid_ET]),
        }
        batch["adv"] = self._advantage(batch, net)
        return batch

    @torch.no_grad()
    def _advantage(self, batch: Batch, net: ActorCritic) -> Tensor:
        """Â, (N,)."""
        adv_N = batch["return"]
        if self.config.baseline == "value":
            adv_N = adv_N - net.critic(batch["obs"]).squeeze(-1)
        if self.config.normalise_advantage and len(adv_N) > 1:
            adv_N = (adv_N - adv_N.mean()) / (adv_N.std() + 1e-8)
        return adv_N

    def _learn(self, batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """`update_epochs` passes in shuffled minibatches."""
        n = len(batch["adv"])
        losses: list[dict[str, Tensor]] = []
        for _ in range(self.config.update_epochs):
            order = torch.from_numpy(self.rng.permutation(n))
            for row_N in order.split(self.config.batch_size or n):
                minibatch = {name: column[row_N] for name, column in batch.items()}
                losses.append(self.learner.update(minibatch))
        return losses

    def _new_envs(self) -> VecEnv:
        self.iteration += 1
        return self.task.envs(self.config.num_envs, self.iteration - 1, autoreset=False)

    def policy(self, *, explore: bool = False) -> ActorPolicy:
        return ActorPolicy(self.net.actor, self.task.spec, explore=explore)
