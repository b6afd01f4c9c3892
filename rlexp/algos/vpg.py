"""Vanilla policy gradient: REINFORCE with reward-to-go, with or without a learned baseline.

Williams 1992; Sutton et al. 2000. Each iteration plays whole episodes with sampled actions, then takes `epochs`
passes over them in minibatches:

    R_t = Σ_{i≥t} γ^{i−t} r_i                          reward-to-go, to the end of the episode
    Â_t = R_t − V(s_t)   (baseline: value)   or   R_t  (baseline: none)
    L_π = −mean over samples of  log π(a_t|s_t) Â_t
    L_V =  mean over samples of  (V(s_t) − R_t)²
    minimise  L_π + value_coef · L_V  with Adam.

The gradient is unbiased for the first minibatch only: later ones are taken off-policy, with nothing to keep the policy
near the one that sampled. That is what PPO mends, and why a high learning rate with many epochs collapses here.

Shapes: N samples (steps of all episodes, one after another), O observation dims. Clock: env_steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rlexp import math
from rlexp.algo import Algorithm, Progress, Task
from rlexp.envs import VecEnv
from rlexp.learner import Batch, Learner, mean_metrics
from rlexp.nets import ActorCritic, on_cpu
from rlexp.params import Params, param
from rlexp.policies import ActorPolicy, start_weights
from rlexp.rollout import collect_steps


class VPG(Algorithm):
    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        lr: float = param("Adam learning rate", gt=0)
        gamma: float = param("discount", ge=0, le=1)
        baseline: str = param("what is subtracted from the reward-to-go", choices=("none", "value"))
        value_coef: float = param("weight of the value loss", ge=0)
        episodes: int = param("episodes played side by side", unit="episodes", ge=1)
        batch_steps: int = param(
            "play further rounds of `episodes` until an iteration has these", unit="env steps", ge=1
        )
        epochs: int = param("passes over an iteration's samples", ge=1)
        minibatch: int = param("samples per update; 0 takes all at once", unit="samples", ge=0)
        normalise_advantage: bool = param("shift and scale each iteration's advantages to mean 0, std 1")

    clock = "env_steps"
    devices = frozenset({"cpu", "cuda"})
    state = ("learner", "generator", "rng", "iteration")

    def __init__(self, config: Config, task: Task):
        self.config, self.task = config, task
        self.net = ActorCritic(task.spec, task.policy)
        start_weights(self.net.actor, task.policy)
        self.learner = Learner(self.net, self.loss, lr=config.lr, device=task.device)
        self.generator, self.rng = task.generator("explore"), task.rng("batch")
        self.iteration = 0

    def loss(self, net: ActorCritic, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        logp_N, entropy_N = net.actor.log_prob_entropy(batch["obs"], batch["action"])
        policy_loss = -(logp_N * batch["adv"]).mean()
        metrics = {"loss/policy": policy_loss, "data/entropy": entropy_N.mean()}
        if self.config.baseline == "none":
            return policy_loss, metrics
        value_loss = (net.critic(batch["obs"]).squeeze(-1) - batch["return"]).square().mean()
        return policy_loss + self.config.value_coef * value_loss, {**metrics, "loss/value": value_loss}

    def step(self) -> Progress:
        c, net = self.config, on_cpu(self.net)
        played = collect_steps(c.batch_steps, self._fresh, self.task.spec, net.actor, self.generator)
        return_ET = math.rewards_to_go(played.reward_ET.T, played.last_ET.T, c.gamma).T
        columns = {"obs": played.obs_ETO, "action": played.action, "return": return_ET}
        batch = {name: torch.from_numpy(column[played.valid_ET]) for name, column in columns.items()}
        with torch.no_grad():
            baseline_N = net.critic(batch["obs"]).squeeze(-1) if c.baseline == "value" else 0.0
            adv_N = batch["return"] - baseline_N
            if c.normalise_advantage and len(adv_N) > 1:
                adv_N = (adv_N - adv_N.mean()) / (adv_N.std() + 1e-8)
        batch["adv"] = adv_N
        size, losses = c.minibatch or len(adv_N), []
        for _ in range(c.epochs):
            order = torch.from_numpy(self.rng.permutation(len(adv_N)))
            for rows in order.split(size):
                losses.append(self.learner.update({name: column[rows] for name, column in batch.items()}))
        metrics = {
            "data/return_mean": played.return_E.mean(),
            "data/length_mean": float(played.length_E.mean()),
            "data/last_reward_mean": float(played.reward_ET[played.last_ET].mean()),
        }
        return Progress(int(played.length_E.sum()), len(losses), {**mean_metrics(losses), **metrics})

    def _fresh(self) -> VecEnv:
        self.iteration += 1
        return self.task.envs(self.config.episodes, self.iteration - 1, autoreset=False)

    def policy(self, *, explore: bool = False) -> ActorPolicy:
        return ActorPolicy(self.net.actor, self.task.spec, explore=explore)
