"""Diffusion policy: learn which action sequences an expert takes by learning to tell noise from them.

Chi et al. 2023, "Diffusion Policy: Visuomotor Policy Learning via Action Diffusion"; Ho et al. 2020 (DDPM). At step i
of an episode let c be the last k states s_{i−k+1} … s_i and the k − 1 actions between them, and a the h actions
a_i … a_{i+h−1} that follow. Training draws places (c, a) of recorded episodes, a noise level t and noise ε ~ N(0, I)
for each, and takes an AdamW step on

    L = mean over valid entries of ( ε̂_θ(√ᾱ_t a + √(1 − ᾱ_t) ε, t, c) − ε )²                (Ho eq. 14)

Acting starts from noise, denoises h actions given c (DDPM or DDIM, `rlexp.nn.denoise`), executes the first
`n_action_steps` of them, and plans anew. It uses the average of the weights over updates.

ε̂ is a transformer decoder. The k states and k − 1 past actions are the memory's tokens, the h noisy actions its
queries. A token is a linear map of the scaled vector, plus a learned vector for its place in the window, plus sinusoids
of its step in the episode; queries also carry a learned vector for t. Places before an episode's start or after its end
exist neither as memory nor as queries, and are no part of the loss. Steps beyond the longest recorded episode count as
its last one.

What is learned is a distribution, and a plan is a sample of it, drawn from the generator that an evaluation hands to
the policy: "mean" and "sampled" actions are the same. Actions are scaled to [−1, 1] (`action_range`), where estimates
of them are clipped while denoising: all of the range can be produced, nothing else.

Shapes: B windows or environments, k states, K = 2k − 1 memory tokens, h future actions, W = K + h tokens, O observation
and A action dims, S denoising steps, D width. Clock: updates.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlexp.algos.base import Algorithm, Progress, Task
from rlexp.envs.spec import EnvSpec
from rlexp.nn import denoise
from rlexp.nn.actors import PolicyConfig, middle_and_reach
from rlexp.nn.capture import Captured
from rlexp.nn.decoder import Decoder
from rlexp.nn.learner import Batch, Learner, mean_metrics
from rlexp.policies.base import Policy
from rlexp.util.errors import UserError
from rlexp.util.params import OutOfRange, Params, param


class Scale(nn.Module):
    """x ↦ (x − shift) / scale, and back."""

    shift: Tensor
    scale: Tensor

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("shift", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def set(self, shift: np.ndarray, scale: np.ndarray) -> None:
        """Dimensions that do not vary, where `scale` is 0, are shifted only."""
        self.shift.copy_(torch.from_numpy(shift))
        self.scale.copy_(torch.from_numpy(np.where(scale > 1e-6, scale, 1.0)))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.shift) / self.scale

    def back(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class Denoiser(nn.Module):
    """ε̂. Takes observations and past actions as they are, scales included; noisy actions scaled."""

    offset_W: Tensor  # steps of a window's tokens, from the current one: k states, k − 1 past actions, h actions
    wave_TD: Tensor

    def __init__(
        self,
        obs_dim: int,
        n_actions: int,
        context: int,
        horizon: int,
        levels: int,
        longest: int,
        layers: int,
        width: int,
        heads: int,
    ):
        super().__init__()
        self.spec = {name: value for name, value in locals().items() if isinstance(value, int)}
        self.context = context  # k
        self.horizon = horizon  # h
        self.longest = longest
        self.obs = Scale(obs_dim)
        self.action = Scale(n_actions)
        self.embed_obs = nn.Linear(obs_dim, width)
        self.embed_past = nn.Linear(n_actions, width)
        self.embed_noisy = nn.Linear(n_actions, width)
        self.embed_level = nn.Embedding(levels, width)
        self.place_WD = nn.Parameter(torch.randn(2 * context - 1 + horizon, width))
        self.decoder = Decoder(layers, width, heads)
        self.head = nn.Linear(width, n_actions)
        offsets = [*range(1 - context, 1), *range(1 - context, 0), *range(horizon)]
        angle_TD = torch.arange(longest + horizon - 1)[:, None] * 1e4 ** -torch.linspace(0, 1, width // 2)
        self.register_buffer("offset_W", torch.tensor(offsets), persistent=False)
        self.register_buffer("wave_TD", torch.cat([angle_TD.sin(), angle_TD.cos()], 1), persistent=False)

    def positions(self, step_B: Tensor) -> list[Tensor]:
        """What place and step add to memory tokens (B, K, D) and to queries (B, h, D)."""
        step_BW = step_B.clamp(max=self.longest - 1)[:, None] + self.offset_W
        position_BWD = self.place_WD + self.wave_TD[step_BW.clamp(min=0)]
        return position_BWD.split([2 * self.context - 1, self.horizon], 1)

    def memory(self, obs_BkO: Tensor, past_BkA: Tensor, position_BKD: Tensor) -> Tensor:
        states = self.embed_obs(self.obs(obs_BkO).clamp(-10, 10))
        actions = self.embed_past(self.action(past_BkA))
        return torch.cat([states, actions], 1) + position_BKD

    def forward(self, b: Batch) -> Tensor:
        """ε̂ (B, h, A) of a batch of windows: obs, past, noisy, level (B,), step (B,), exists (B, W)."""
        for_memory_BKD, for_query_BhD = self.positions(b["step"])
        memory_BKD = self.memory(b["obs"], b["past"], for_memory_BKD)
        query_BhD = self.embed_noisy(b["noisy"]) + self.embed_level(b["level"])[:, None] + for_query_BhD
        memory_BK, query_Bh = b["exists"].split([2 * self.context - 1, self.horizon], 1)
        return self.head(self.decoder(query_BhD, memory_BKD, query_Bh, memory_BK))

    def plan(self, b: Batch, noise_SBhA: Tensor, steps: list[denoise.DenoisingStep], clip: float | None) -> Tensor:
        """Actions (B, h, A), unscaled, from noise. What does not depend on the noisy actions is computed once."""
        for_memory_BKD, for_query_BhD = self.positions(b["step"])
        memory_BKD = self.memory(b["obs"], b["past"], for_memory_BKD)
        memory = self.decoder.remember(memory_BKD, b["exists"])

        def predict(noisy_BhA: Tensor, level: int) -> Tensor:
            query_BhD = self.embed_noisy(noisy_BhA) + (self.embed_level.weight[level] + for_query_BhD)
            return self.head(self.decoder.recall(query_BhD, memory))

        return self.action.back(denoise.sample(predict, noise_SBhA, steps, clip))


class DiffusionPolicy(Policy, kind="diffusion"):
    """Remembers the last k states and k − 1 executed actions of each environment, and what is left of the plan."""

    remembers = True
    standardises = True

    def __init__(
        self,
        net: Denoiser,
        env: EnvSpec,
        sampler: str,
        steps: int,
        clip: bool,
        execute: int,
        explore: bool = False,
    ):
        self.net = copy.deepcopy(net).requires_grad_(False)
        self.env = env
        self.explore = explore
        self.options = {"sampler": sampler, "steps": steps, "clip": clip}
        self.execute = execute  # actions of each plan; up to the horizon
        levels = denoise.squared_cosine(net.spec["levels"])
        self.steps = denoise.steps(sampler, levels, steps)
        self.clip = 1.0 if clip else None
        self.device = self.net.offset_W.device  # plans where the network is
        self.denoised = Captured(
            lambda b: self.net.plan(b, b["noise"], self.steps, self.clip),
            self.device,
        )
        self.generator = torch.Generator()
        self.start(1, np.random.default_rng(0))

    @property
    def samples(self) -> bool:
        return True  # a plan begins as noise

    def start(self, batch: int, rng: np.random.Generator) -> None:
        self.generator.manual_seed(int(rng.integers(2**62)))
        context = self.net.context
        self.obs_BkO = np.zeros((batch, context, self.env.obs_dim), np.float32)
        self.past_BkA = np.zeros((batch, context - 1, self.env.n_actions), np.float32)
        self.step = 0
        self.queue: list[np.ndarray] = []

    def act(self, obs_BO: np.ndarray) -> np.ndarray:
        if len(obs_BO) != len(self.obs_BkO):
            raise ValueError(
                f"observations of {len(obs_BO)} environments; start({len(obs_BO)}, rng) begins so many",
            )
        seen = np.concatenate([self.obs_BkO, obs_BO[:, None]], 1, dtype=np.float32)
        self.obs_BkO = seen[:, 1:]
        if not self.queue:
            noise_SBhA = torch.randn(
                len(self.steps),
                len(obs_BO),
                self.net.horizon,
                self.env.n_actions,
                generator=self.generator,
            )
            self.queue = self.plan(noise_SBhA)[: self.execute]
        action_BA = self.queue.pop(0)
        self.past_BkA = np.concatenate([self.past_BkA, action_BA[:, None]], 1)[:, 1:]
        self.step += 1
        return action_BA

    def condition(self) -> dict[str, Tensor]:
        """What has been seen and done, laid out like a window in training."""
        exists_K = self.step + self.net.offset_W[: 2 * self.net.context - 1] >= 0
        return {
            "obs": torch.from_numpy(self.obs_BkO),
            "past": torch.from_numpy(self.past_BkA),
            "step": torch.full((len(self.obs_BkO),), self.step),
            "exists": exists_K.expand(len(self.obs_BkO), -1),
        }

    @torch.no_grad()
    def plan(self, noise_SBhA: Tensor) -> list[np.ndarray]:
        """The next h actions (B, A), ready to execute, made from `noise_SBhA`."""
        action_BhA = self.denoised({**self.condition(), "noise": noise_SBhA}).cpu()
        return [self.env.executable(action_BA) for action_BA in action_BhA.transpose(0, 1).numpy()]

    def spec(self) -> dict[str, Any]:
        chosen = {"execute": self.execute, "explore": self.explore}
        return {"net": self.net.spec, **self.options, **chosen, **self.env.bounds}

    def state_dict(self) -> dict[str, Tensor]:
        return self.net.state_dict()

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> DiffusionPolicy:
        net = Denoiser(**spec["net"])
        net.load_state_dict(state)
        env = EnvSpec.with_bounds(net.spec["obs_dim"], "continuous", net.spec["n_actions"], spec)
        return cls(
            net,
            env,
            spec["sampler"],
            spec["steps"],
            spec["clip"],
            spec["execute"],
            spec["explore"],
        )


class Diffusion(Algorithm):
    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        n_obs_steps: int = param(
            "k: states that a plan is conditioned on, the current one included",
            unit="steps",
            ge=1,
        )
        horizon: int = param("h: actions that are planned at once", unit="steps", ge=1)
        n_action_steps: int = param(
            "actions of each plan that are executed before the next one",
            unit="steps",
            ge=1,
        )
        num_layers: int = param("transformer layers", ge=1, le=1000)
        embed_dim: int = param(
            "of every token; even, and a multiple of `num_heads`",
            unit="units",
            ge=2,
        )
        num_heads: int = param("attention heads", ge=1)
        num_train_timesteps: int = param("T: noise levels", ge=1)
        sampler: str = param("how plans are denoised", choices=denoise.SAMPLERS)
        num_inference_steps: int | None = param(
            "denoising steps of a plan, at most T; null: T",
            ge=1,
        )
        action_range: str = param(
            "what is scaled to ±1: the action space's bounds, the data's, or the data's mean ± std",
            choices=("box", "data", "std"),
        )
        clip_sample: bool = param("clip estimates of the actions to ±1 while denoising")
        lr: float = param("AdamW learning rate", gt=0)
        weight_decay: float = param("AdamW weight decay", ge=0)
        ema_decay: float = param("decay per update of the averaged weights, which act", ge=0, lt=1)
        max_grad_norm: float | None = param(
            "global gradient norm is clipped to this; null: never",
            gt=0,
        )
        batch_size: int = param("windows per update, drawn with replacement", unit="windows", ge=1)
        log_every: int = param("updates per row of metrics", unit="updates", ge=1)

    clock = "updates"
    compiles = True
    ignores = frozenset(PolicyConfig.__dataclass_fields__)
    actions = frozenset({"continuous"})
    needs = frozenset({"data"})
    devices = frozenset({"cpu", "cuda"})
    state = ("learner", "generator", "rng")

    def __init__(self, config: Config, task: Task):
        assert task.data is not None
        self.config = config
        self.task = task
        self.data = task.data
        c, spec, longest = config, task.spec, int(task.data.length_E.max())
        window = (spec.obs_dim, spec.n_actions, c.n_obs_steps, c.horizon, c.num_train_timesteps, longest)
        self.net = Denoiser(*window, c.num_layers, c.embed_dim, c.num_heads)
        self.net.obs.set(*self.data.obs_stats())
        self.net.action.set(*self._action_range())
        self.offsets = self.net.offset_W.tolist()
        self.scale = copy.deepcopy(self.net.action)  # stays with the data
        self.scale.to(task.device)
        self.columns = [torch.from_numpy(x).to(task.device) for x in (self.data.obs_NO, self.data.action)]
        alpha_bar_T = torch.from_numpy(denoise.squared_cosine(c.num_train_timesteps))
        self.alpha_bar_T = alpha_bar_T.float().to(task.device)
        self.learner = Learner(
            self.net,
            self.loss,
            lr=c.lr,
            weight_decay=c.weight_decay,
            clip=c.max_grad_norm,
            ema=c.ema_decay,
            compile=task.compile,
            fused=True,
            device=task.device,
        )
        self.generator = task.generator("explore")
        self.rng = task.rng("batch")

    @classmethod
    def check(cls, config: Config, budget: int) -> None:
        if config.n_action_steps > config.horizon:
            raise OutOfRange(
                "n_action_steps",
                f"is {config.n_action_steps}, but a plan has {config.horizon} actions (algo.horizon)",
            )
        if (config.num_inference_steps or 1) > config.num_train_timesteps:
            raise OutOfRange(
                "num_inference_steps",
                f"is {config.num_inference_steps}, but there are {config.num_train_timesteps} noise levels",
            )
        if config.embed_dim % config.num_heads or config.embed_dim % 2:
            raise OutOfRange(
                "embed_dim",
                f"must be even and a multiple of num_heads={config.num_heads}, not {config.embed_dim}",
            )
        if config.action_range == "std" and config.clip_sample:
            raise OutOfRange(
                "clip_sample",
                "with action_range=std makes actions beyond one standard deviation impossible; "
                "use action_range=box or data, or clip_sample=false",
            )

    def _action_range(self) -> tuple[np.ndarray, np.ndarray]:
        """Centre and half width (A,) of what becomes ±1. Raises UserError where the action space
        has no bounds."""
        action_NA = self.data.action
        if self.config.action_range == "std":
            return action_NA.mean(0, dtype=np.float64), action_NA.std(0, dtype=np.float64)
        if self.config.action_range == "data":
            return middle_and_reach(action_NA.min(0), action_NA.max(0))
        low_A, high_A = self.task.spec.box
        if not np.isfinite([low_A, high_A]).all():
            raise UserError(
                "algo.action_range=box: the environment's actions have no bounds; use algo.action_range=data"
            )
        return middle_and_reach(low_A, high_A)

    def batch(self, row_B: np.ndarray) -> dict[str, Tensor]:
        """The windows around these steps of the data, each with a noise level and noise of its own."""
        k = self.config.n_obs_steps
        window = self.data.windows(row_B, self.offsets)
        device = self.task.device
        obs_NO, action_NA = self.columns
        row_BK = torch.from_numpy(window.row_BK).to(device)
        seen, done, to_do = row_BK.split([k, k - 1, self.config.horizon], 1)
        action_BhA = self.scale(action_NA[to_do])
        noise_BhA = torch.randn(action_BhA.shape, generator=self.generator).to(device)
        levels = self.config.num_train_timesteps
        level_B = torch.randint(levels, [len(row_B)], generator=self.generator).to(device)
        return {
            "obs": obs_NO[seen],
            "past": action_NA[done],
            "step": torch.from_numpy(window.step_BK[:, k - 1]).to(device),
            "exists": torch.from_numpy(window.valid_BK).to(device),
            "level": level_B,
            "noise": noise_BhA,
            "noisy": denoise.add_noise(action_BhA, noise_BhA, self.alpha_bar_T[level_B]),
        }

    def loss(self, net: Denoiser, b: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        error_Bh = (net(b) - b["noise"]).square().mean(-1)
        valid_Bh = b["exists"][:, -self.config.horizon :].float()
        loss = (error_Bh * valid_Bh).sum() / valid_Bh.sum()
        return loss, {"loss/noise": loss}

    def step(self) -> Progress:
        c = self.config
        losses = []
        for _ in range(c.log_every):
            batch = self.batch(self.rng.integers(len(self.data), size=c.batch_size))
            losses.append(self.learner.update(batch))
        metrics = mean_metrics(losses)
        metrics["data/labels"] = float(len(self.data))
        return Progress(0, c.log_every, metrics)

    def policy(self, *, explore: bool = False) -> DiffusionPolicy:
        c = self.config
        steps = c.num_inference_steps or c.num_train_timesteps
        return DiffusionPolicy(
            self.learner.average(),
            self.task.spec,
            c.sampler,
            steps,
            c.clip_sample,
            c.n_action_steps,
            explore,
        )
