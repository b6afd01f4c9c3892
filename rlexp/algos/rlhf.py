"""RLHF: a policy gradient on a reward learned from comparisons of trajectories.

Christiano et al. 2017, in three stages of one run. An epoch plays whole episodes until it has `steps_per_epoch` steps.

    1. novices   `novice_epochs` epochs of the policy gradient on the true reward; their episodes are kept
    2. reward    pairs of pieces of these (whole episodes, or `fragment_length` steps each), labelled by Bradley–Terry
                 on the true returns R: P(1 ≻ 2) = σ((R₁ − R₂) / temperature). M networks r_m(s, a) minimise
                     L_m = −mean over pairs of  log σ(Σ_t r_m(s_t, a_t) of the preferred − Σ_t r_m of the other)
    3. policy    a new policy, by the policy gradient on  r̂ = mean_m (r_m − shift_m) / scale_m  alone

    the policy gradient: R_t = Σ_{i≥t} γ^{i−t} r_i; Â = R_t less the epoch's mean, over its standard deviation;
    minimise −mean of log π(a_t|s_t) Â_t, one step of Adam an epoch; in stage 3, where `clip_coef` is given,
    `update_epochs` steps on PPO's surrogate.

The true reward labels, and is logged; stage 3 does the same whatever it says. scale_m and shift_m are the standard
deviation and mean of r_m over the steps compared. Pieces of equal length leave the mean of r_m open, so it goes
(`centre`). Where lengths differ the comparisons determine it too: whether it is good that an episode goes on. To
subtract it then makes half of all steps cost something, and may teach to fall at once (on CartPole in a seed of three).
With `relabel_every` the policy's own episodes are compared too, every so many epochs, and the networks fitted on.
Controls: `reward` is constant (1 for every step), random (networks never fitted), or environment (the true reward).

Shapes: E episodes or pieces of at most T steps, N steps, M networks, B pairs, O and A dims.
Clock: updates, which are epochs here; it stands still in stage 2, where each `step` is one pass over the comparisons.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlexp.algos.base import Algorithm, Progress, Task
from rlexp.buffers import returns
from rlexp.buffers.holdout import held_out_count
from rlexp.buffers.preferences import Pairs, check_fragment, fragments, label
from rlexp.buffers.trajectories import Trajectories
from rlexp.envs.spec import EnvSpec
from rlexp.envs.vector import VecEnv
from rlexp.nn.actors import Actor, actor_for, mlp, on_cpu
from rlexp.nn.learner import Batch, Learner, mean_metrics
from rlexp.nn.segments import segment_sums
from rlexp.policies.actor import ActorPolicy
from rlexp.policies.files import load_policy
from rlexp.policies.start import start_weights
from rlexp.rollout.collector import collect_steps
from rlexp.util.errors import UserError, said_of
from rlexp.util.params import OutOfRange, Params, param


class RewardNet(nn.Module):
    """M networks r_m(s, a), and the statistics that make one standardised reward of them. Actions as executed."""

    def __init__(
        self,
        kind: str,
        obs_dim: int,
        n_actions: int,
        hidden: Sequence[int],
        members: int,
    ):
        super().__init__()
        self.kind = kind
        self.obs_dim = obs_dim
        self.n_actions = n_actions
        self.hidden = list(hidden)
        sizes = [obs_dim + n_actions, *hidden, 1]
        self.members = nn.ModuleList(mlp(sizes, "leaky_relu") for _ in range(members))
        self.obs_mean = nn.Buffer(torch.zeros(obs_dim))
        self.obs_std = nn.Buffer(torch.ones(obs_dim))
        self.shift = nn.Buffer(torch.zeros(members, 1))
        self.scale = nn.Buffer(torch.ones(members, 1))

    def spec(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "obs_dim": self.obs_dim,
            "n_actions": self.n_actions,
            "hidden": self.hidden,
            "members": len(self.members),
        }

    def forward(self, obs_NO: Tensor, action: Tensor) -> Tensor:
        """r_m of each step, (M, N), not standardised."""
        if self.kind == "discrete":
            action = F.one_hot(action, self.n_actions).float()
        obs_NO = (obs_NO - self.obs_mean) / self.obs_std
        x = torch.cat([obs_NO, action], -1)
        return torch.stack([member(x).squeeze(-1) for member in self.members])

    def of(self, obs_NO: np.ndarray, action: np.ndarray) -> Tensor:
        """`forward` of arrays."""
        return self(*(torch.from_numpy(x).to(self.scale.device) for x in (obs_NO, action)))

    @torch.no_grad()
    def pay(self, obs_NO: np.ndarray, action: np.ndarray) -> np.ndarray:
        """The reward r̂ (N,) of each step."""
        r_MN = self.of(obs_NO, action)
        return ((r_MN - self.shift) / self.scale).mean(0).cpu().numpy()

    def pay_all(self, data: Trajectories) -> np.ndarray:
        """The sum of r̂ (E,) over each trajectory's or piece's steps."""
        paid_ET = np.zeros(data.reward_ET.shape)
        paid_ET[data.valid_ET] = self.pay(data.obs_ETO[data.valid_ET], data.action[data.valid_ET])
        return paid_ET.sum(1)

    @torch.no_grad()
    def see(self, obs_NO: np.ndarray) -> None:
        """From now on observations are measured in standard deviations of these."""
        self.obs_mean.copy_(torch.from_numpy(obs_NO.mean(0, dtype=np.float64)))
        std_O = obs_NO.std(0, dtype=np.float64)
        std_O = np.where(std_O > 1e-6, std_O + 1e-6, 1.0)  # 1 where all are the same
        self.obs_std.copy_(torch.from_numpy(std_O))

    @torch.no_grad()
    def standardise(self, obs_NO: np.ndarray, action: np.ndarray, centre: bool) -> None:
        """From now on each r_m is measured in standard deviations over these steps; from its mean, if `centre`."""
        r_MN = self.of(obs_NO, action)
        self.scale.copy_(r_MN.std(1, keepdim=True) + 1e-8)
        self.shift.copy_(r_MN.mean(1, keepdim=True) * centre)


class RLHFPolicy(ActorPolicy, kind="rlhf"):
    """A policy with the reward it was trained on: `load_policy(file).policy.reward.pay(obs, action)`."""

    reward: RewardNet

    def spec(self) -> dict[str, Any]:
        return {**super().spec(), "reward": self.reward.spec()}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "reward": self.reward.state_dict()}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], state: Mapping[str, Any]) -> "RLHFPolicy":
        policy = super().from_spec(spec, state)
        assert isinstance(policy, RLHFPolicy)
        policy.reward = RewardNet(**spec["reward"])
        policy.reward.load_state_dict(state["reward"])
        return policy


class RLHF(Algorithm):
    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        reward: str = param(
            "what stage 3 is paid",
            choices=("learned", "constant", "random", "environment"),
        )
        reward_from: str | None = param(
            "run or policy file whose learned reward to take; null: stages 1 and 2 make it",
            file=True,
        )
        novice_epochs: int = param("epochs of stage 1", ge=0)
        steps_per_epoch: int = param(
            "whole episodes are played until an epoch has these",
            unit="env steps",
            ge=1,
        )
        num_envs: int = param("environments, each of which plays one episode at a time", ge=1, le=100_000)
        lr: float = param("Adam learning rate of the policy", gt=0)
        gamma: float = param("discount", ge=0, le=1)
        clip_coef: float | None = param(
            "PPO's ε, a limit of the policy ratio; null: the plain policy gradient",
            gt=0,
        )
        update_epochs: int = param(
            "updates in each epoch of stage 3, every one on all its steps",
            ge=1,
        )
        kept_episodes: int = param("episodes of each epoch that are kept for comparisons", ge=2)
        fragment_length: int | None = param(
            "length of the pieces compared; null: whole episodes",
            unit="env steps",
            ge=1,
        )
        num_pairs: int = param("comparisons of novices' pieces to learn from", ge=1)
        validation_fraction: float = param(
            "share of episodes, and as many pairs, kept for measuring accuracy",
            gt=0,
            lt=1,
        )
        temperature: float = param("of the Bradley–Terry labels", unit="return", gt=0)
        reward_hidden: list[int] = param(
            "width of each hidden layer of a reward network",
            unit="units",
            ge=1,
        )
        ensemble_size: int = param("reward networks M", ge=1)
        reward_lr: float = param("Adam learning rate of the reward networks", gt=0)
        reward_weight_decay: float = param("their decoupled weight decay", ge=0)
        reward_epochs: int = param("passes over all comparisons", ge=1)
        reward_batch_size: int = param("comparisons per update", unit="pairs", ge=1)
        centre: bool = param("subtract the learned reward's mean")
        relabel_every: int | None = param(
            "epochs of stage 3 between comparisons of its own episodes; null: none",
            ge=1,
        )
        relabel_pairs: int = param("comparisons made each time", ge=1)

    clock = "updates"
    devices = frozenset({"cpu", "cuda"})
    state = (
        "epoch",
        "rounds",
        "fits_left",
        "generator",
        "rng",
        "data_rng",
        "novice",
        "learner",
        "reward",
        "fitter",
        "novices",
        "compared",
    )

    def __init__(self, config: Config, task: Task):
        self.config = config
        self.task = task
        self.novice_actor = _actor(task)
        self.actor = _actor(task)
        self.novice = self._policy_learner(self.novice_actor)
        self.learner = self._policy_learner(self.actor)
        check_fragment(config.fragment_length, task.env)
        self._check_enough(task.env.time_limit)
        self.reward = RewardNet(
            task.spec.kind,
            task.spec.obs_dim,
            task.spec.n_actions,
            config.reward_hidden,
            config.ensemble_size,
        )
        self.first = config.novice_epochs  # epoch of stage 3
        if config.reward_from is not None:
            self.reward = _reward_of(config.reward_from, task.spec)
            self.first = 0
        self.fitter = Learner(
            self.reward,
            reward_loss,
            lr=config.reward_lr,
            weight_decay=config.reward_weight_decay,
            device=task.device,
        )
        self.generator = task.generator("explore")
        self.rng = task.rng("batch")
        self.data_rng = task.rng("data")
        self.epoch = 0
        self.rounds = 0  # times that environments were made
        self.fits_left = 0  # passes over the comparisons
        self.novices: list[dict[str, Any]] = []  # columns of each novice's kept Trajectories
        # labelled Pairs to learn from, and those held out; once there are any
        self.compared: list[dict[str, Any]] = []

    def _policy_learner(self, actor: Actor) -> Learner:
        return Learner(actor, self.policy_loss, lr=self.config.lr, device=self.task.device)

    @classmethod
    def check(cls, config: Config, budget: int) -> None:
        if config.relabel_every and config.reward != "learned":
            raise OutOfRange(
                "relabel_every",
                f"has no effect where algo.reward is {config.reward}; use null",
            )
        if config.update_epochs > 1 and config.clip_coef is None:
            raise OutOfRange(
                "update_epochs",
                f"is {config.update_epochs}: more than one update needs algo.clip_coef, PPO's ε",
            )
        if config.reward_from is None:
            cls._check_novices(config, budget)
        elif config.reward != "learned":
            raise OutOfRange(
                "reward_from",
                f"names a learned reward, and algo.reward is {config.reward}",
            )

    @staticmethod
    def _check_novices(config: Config, budget: int) -> None:
        if budget <= config.novice_epochs:
            raise OutOfRange(
                "novice_epochs",
                f"is {config.novice_epochs}: train.budget, {budget} epochs, ends there",
            )
        if config.reward in ("learned", "random") and not config.novice_epochs:
            raise OutOfRange("novice_epochs", "is 0: nobody plays what a reward is learned from")

    def _check_enough(self, limit: int | None) -> None:
        """Raise UserError unless as many episodes are compared as learning from some and holding
        out others takes. `limit`: steps of the longest episode."""
        c = self.config
        if c.reward not in ("learned", "random") or (c.reward_from and not c.relabel_every):
            return
        rounds = 1  # of an epoch, at the least
        if limit:
            rounds = math.ceil(c.steps_per_epoch / (c.num_envs * limit))
        kept = min(c.kept_episodes, c.num_envs * rounds)
        compared = kept if c.relabel_every else kept * c.novice_epochs
        if compared < 4:
            option = "kept_episodes" if kept == c.kept_episodes else "num_envs"
            raise UserError(
                f"algo.{option}={getattr(c, option)}: as few as {compared} episodes may be "
                "compared; two to learn from and two held out are the least"
            )

    @property
    def stage(self) -> int:
        """What the next step works on: 1 novices, 2 the reward, 3 the policy."""
        if self.epoch < self.first:
            return 1
        return 2 if self.fits_left else 3

    def policy_loss(self, actor: Actor, b: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        logp_N, entropy_N = actor.log_prob_entropy(b["obs"], b["action"])
        clip = self.config.clip_coef
        gain_N = logp_N * b["adv"]
        if clip is not None:
            ratio_N = (logp_N - b["logp"]).exp()
            clipped_N = ratio_N.clamp(1 - clip, 1 + clip)
            gain_N = torch.min(ratio_N * b["adv"], clipped_N * b["adv"])
        loss = -gain_N.mean()
        return loss, {"loss/policy": loss, "data/entropy": entropy_N.mean()}

    def step(self) -> Progress:
        match self.stage:
            case 1:
                return self._novice_epoch()
            case 2:
                metrics = {"data/stage": 2, **self._fit()}
                total = self.config.reward_epochs
                stage = ("passes over the comparisons", total - self.fits_left, total)
                return Progress(0, 0, metrics, stage)
            case _:
                return self._policy_epoch()

    def _novice_epoch(self) -> Progress:
        played = self._play(self.novice_actor)
        metrics = {"data/stage": 1, **_returns(played)}
        metrics |= self._improve(self.novice, played, played.reward_ET, updates=1)
        self.epoch += 1
        self.novices.append(self._keep(played).columns())
        if self.epoch == self.first and self.config.reward in ("learned", "random"):
            parts = [Trajectories(**columns) for columns in self.novices]
            self._compare(Trajectories.join(parts), self.config.num_pairs)
        return Progress(int(played.length_E.sum()), 1, metrics)

    def _policy_epoch(self) -> Progress:
        c = self.config
        played = self._play(self.actor)
        reward_ET = self._pay(played)
        metrics = {"data/stage": 3, **_returns(played), **_learned_returns(played, reward_ET)}
        metrics |= self._improve(self.learner, played, reward_ET, updates=c.update_epochs)
        self.epoch += 1
        done = self.epoch - self.first
        if c.reward == "learned" and c.relabel_every and done % c.relabel_every == 0:
            self._compare(self._keep(played), c.relabel_pairs)
        return Progress(int(played.length_E.sum()), 1, metrics)

    def _play(self, actor: Actor) -> Trajectories:
        return collect_steps(
            self.config.steps_per_epoch,
            self._new_envs,
            self.task.spec,
            on_cpu(actor),
            self.generator,
        )

    def _new_envs(self) -> VecEnv:
        self.rounds += 1
        return self.task.envs(self.config.num_envs, self.rounds - 1, autoreset=False)

    def _keep(self, played: Trajectories) -> Trajectories:
        """The first `kept_episodes` episodes, with their actions as executed."""
        columns = played.take(slice(self.config.kept_episodes)).columns()
        columns["action"] = self.task.spec.executable(columns["action"])
        columns["logp_ET"] = None
        return Trajectories(**columns)

    def _improve(
        self,
        learner: Learner,
        played: Trajectories,
        reward_ET: np.ndarray,
        updates: int,
    ) -> dict[str, float]:
        """The policy gradient on `reward_ET`, which is 0 after an episode's end."""
        assert played.logp_ET is not None
        taken_ET = played.valid_ET
        never_T = np.zeros(reward_ET.shape[1], bool)
        to_go_TE = returns.rewards_to_go(reward_ET.T, never_T, self.config.gamma)
        adv_N = to_go_TE.T[taken_ET]
        adv_N = (adv_N - adv_N.mean()) / (adv_N.std() + 1e-8)
        batch = {
            "obs": torch.from_numpy(played.obs_ETO[taken_ET]),
            "action": torch.from_numpy(played.action[taken_ET]),
            "logp": torch.from_numpy(played.logp_ET[taken_ET]),
            "adv": torch.from_numpy(adv_N),
        }
        return mean_metrics([learner.update(batch) for _ in range(updates)])

    def _pay(self, played: Trajectories) -> np.ndarray:
        """What stage 3 is paid for each step, (E, T), 0 after an episode's end."""
        if self.config.reward == "environment":
            return played.reward_ET
        taken_ET = played.valid_ET
        paid_ET = taken_ET.astype(np.float32)
        if self.config.reward != "constant":
            executed = self.task.spec.executable(played.action[taken_ET])
            paid_ET[taken_ET] = self.reward.pay(played.obs_ETO[taken_ET], executed)
        return paid_ET

    def _compare(self, episodes: Trajectories, count: int) -> None:
        """Label `count` pairs of pieces of `episodes`, and more that are held out; begin to fit the
        networks to all. No pair held out has an episode that is learned from."""
        c = self.config
        order = self.data_rng.permutation(len(episodes))
        held = held_out_count(len(episodes), c.validation_fraction, least=2)
        new = self._label(episodes.take(order[held:]), count)
        count_out = max(1, round(c.validation_fraction * count))
        new_out = self._label(episodes.take(order[:held]), count_out)
        if self.epoch == self.first:
            obs_NO, action = _steps(new.trajectories)
            self.reward.see(obs_NO)
            self.reward.standardise(obs_NO, action, c.centre)
        if self.compared:
            old, old_out = (Pairs.from_tree(tree) for tree in self.compared)
            new = _join([old, new])
            new_out = _join([old_out, new_out])
        else:
            new = _join([new])
            new_out = _join([new_out])
        self.compared = [new.tree(), new_out.tree()]
        self.fits_left = c.reward_epochs if c.reward == "learned" else 0

    def _label(self, episodes: Trajectories, count: int) -> Pairs:
        """`count` labelled pairs of pieces of `episodes`: all that stages 2 and 3 hear of the true
        reward."""
        c = self.config
        pieces = episodes
        if c.fragment_length is not None:
            pieces = fragments(episodes, c.fragment_length, self.data_rng)
        if len(pieces) < 2:
            raise UserError(
                f"algo.fragment_length={c.fragment_length}: {len(episodes)} episodes of at most "
                f"{episodes.length_E.max()} steps give {len(pieces)} pieces, and a comparison "
                "takes two"
            )
        return label(pieces, "random", self.data_rng, c.temperature, count=count)

    def _fit(self) -> dict[str, float]:
        """One pass over all comparisons; and how many of those held out r̂ predicts."""
        pairs, pairs_out = (Pairs.from_tree(tree) for tree in self.compared)
        shuffled_P2 = self.rng.permutation(pairs.ordered_P2)
        batches = math.ceil(len(shuffled_P2) / self.config.reward_batch_size)
        losses = []
        for index_B2 in np.array_split(shuffled_P2, batches):
            losses.append(self.fitter.update(steps_of(pairs.trajectories, index_B2)))
        self.reward.standardise(*_steps(pairs.trajectories), self.config.centre)
        self.fits_left -= 1
        paid_E = self.reward.pay_all(pairs_out.trajectories)
        preferred_P, other_P = paid_E[pairs_out.ordered_P2].T
        metrics = mean_metrics(losses)
        metrics["data/reward_accuracy"] = float((preferred_P > other_P).mean())
        return metrics

    def policy(self, *, explore: bool = False) -> ActorPolicy:
        spec = self.task.spec
        if self.first > 0 and self.epoch <= self.first:  # until the policy's first epoch
            return ActorPolicy(self.novice_actor, spec, explore=explore)
        if self.config.reward not in ("learned", "random"):
            return ActorPolicy(self.actor, spec, explore=explore)
        policy = RLHFPolicy(self.actor, spec, explore=explore)
        policy.reward = on_cpu(copy.deepcopy(self.reward))
        return policy


def _steps(data: Trajectories) -> tuple[np.ndarray, np.ndarray]:
    """Observations (N, O) and actions of all steps."""
    return data.obs_ETO[data.valid_ET], data.action[data.valid_ET]


def steps_of(data: Trajectories, index_B2: np.ndarray) -> dict[str, Tensor]:
    """The steps of these pairs one after another, and how many of them are of each piece."""
    taken_B2T = data.valid_ET[index_B2]
    columns = {
        "obs": data.obs_ETO[index_B2][taken_B2T],
        "action": data.action[index_B2][taken_B2T],
        "length": taken_B2T.sum(-1),
    }
    return {name: torch.from_numpy(column) for name, column in columns.items()}


def predicted_sums(reward: RewardNet, b: Batch) -> Tensor:
    """Σ_t r_m(s_t, a_t) of each piece, (M, B, 2)."""
    r_MN = reward(b["obs"], b["action"])
    sums_MP = segment_sums(r_MN, b["length"].flatten())
    return sums_MP.unflatten(1, b["length"].shape)


def reward_loss(reward: RewardNet, b: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Σ_m L_m, the first of each pair being the preferred one. The networks share nothing: each minimises its own."""
    sums_MB2 = predicted_sums(reward, b)
    loss_M = F.softplus(sums_MB2[..., 1] - sums_MB2[..., 0]).mean(-1)  # −log σ(difference)
    return loss_M.sum(), {"loss/reward": loss_M.mean()}


def _returns(played: Trajectories) -> dict[str, float]:
    return {
        "data/true_return_mean": played.return_E.mean(),
        "data/length_mean": float(played.length_E.mean()),
    }


def _learned_returns(played: Trajectories, reward_ET: np.ndarray) -> dict[str, float]:
    """What was paid, and Pearson's correlation with the true returns where neither is the same for all."""
    paid_E = reward_ET.sum(1, dtype=np.float64)
    true_E = played.return_E
    metrics = {"data/learned_return_mean": paid_E.mean()}
    if paid_E.std() > 1e-6 and true_E.std() > 1e-6:
        metrics["data/reward_correlation"] = float(np.corrcoef(paid_E, true_E)[0, 1])
    return metrics


def _join(parts: Sequence[Pairs]) -> Pairs:
    data = Trajectories.join([p.trajectories for p in parts])
    sizes = [len(p.trajectories) for p in parts]
    starts = np.cumsum([0, *sizes[:-1]])
    shifted = [p.index_P2 + start for p, start in zip(parts, starts, strict=True)]
    first_P = np.concatenate([p.first_P for p in parts])
    return Pairs(data, np.concatenate(shifted), first_P, parts[0].card)


def _actor(task: Task) -> Actor:
    actor = actor_for(task.spec, task.policy)
    start_weights(actor, task.policy)
    return actor


def _reward_of(where: str, spec: EnvSpec) -> RewardNet:
    """The learned reward of another run. Raises UserError where there is none, or it is of another task."""
    with said_of(f"algo.reward_from={where}"):
        policy = load_policy(where).policy
        if not isinstance(policy, RLHFPolicy):
            raise UserError("holds no learned reward; a policy of algo=rlhf's last stage does")
        theirs = policy.reward
        ours = (spec.kind, spec.obs_dim, spec.n_actions)
        if (theirs.kind, theirs.obs_dim, theirs.n_actions) != ours:
            raise UserError("its observations or actions are not the environment's")
    return theirs
