"""Decision Transformer: acting as sequence modelling, given the return that is asked for. Chen et al. 2021.

K successive steps of a recorded episode become 3K tokens, and a causal transformer predicts each action from what came
before it:

    R̂_t = Σ_{i≥t} r_i / scale                  return-to-go: undiscounted, to the end of the episode however it ended
    R̂_1, s_1, a_1, R̂_2, s_2, a_2, …            tokens: a linear map each, plus a learned vector for the step
    L = mean of (a_t − π(R̂_≤t, s_≤t, a_<t))²   over action dims and the steps of the window inside the episode (alg. 1)

Acting begins with the return that is wanted; after each step R̂ ← R̂ − r / scale, and the last K steps are kept. Windows
begin at any step of the data with equal probability, so long episodes are drawn more often than short ones.

Discrete actions are learned by cross-entropy. With `learned_std` the loss is a Gaussian's negative log-likelihood, of
which the square is the case of a fixed variance. Optional, with a weight each: the token of a_t also predicts s_{t+1}
and R̂_{t+1}. Embedded tokens are layer-normalised; blocks normalise first and have GELU. AdamW, its rate warmed up.

A window that the episode's end cuts short is filled up behind it. Causal attention keeps the filling from every real
token, so there is no padding mask; the loss leaves it out. An acting policy has none: its history grows to K steps.

Three things make an update cheap and change nothing that is computed: of the last block only keys and values are
needed of every token, the rest of those that a head reads; nothing attends to a_K; and in training on a CPU with one
head the products of its weights are made first (`rlexp.nn.attention`).

Shapes: N recorded steps, B windows or environments of K steps, L tokens, D width, O observation dims, A action dims or
number of actions. Observations are standardised by statistics of all data; bounded actions are scaled to [−1, 1].
Returns are sums of rewards, in tokens divided by `return_scale`. Clock: updates.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rlexp.algos.base import Algorithm, Progress, Task
from rlexp.envs.spec import EnvSpec
from rlexp.nn.actors import Normaliser, PolicyConfig, middle_and_reach
from rlexp.nn.attention import OneHead, weights_first
from rlexp.nn.capture import Captured
from rlexp.nn.dropout import add_dropout, dropout
from rlexp.nn.learner import Batch, Learner, mean_metrics
from rlexp.policies.base import Policy
from rlexp.util.errors import UserError
from rlexp.util.params import OutOfRange, Params, param
from rlexp.util.processor import has_bfloat16

# which tokens' outputs are read
STATES = slice(1, None, 3)
LAST = slice(-1, None)
ALL = slice(None)


class Block(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.norm_mlp = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        # a bias would add the same to all scores of a query
        self.key = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x_BLD: Tensor, mask_LL: Tensor, p: float, read: slice = ALL) -> Tensor:
        """The block's output for the tokens in `read`, which attend to all."""
        h = self.norm_attention(x_BLD)
        x = add_dropout(x_BLD[:, read], self._attend(h, mask_LL[read], p, read), p)
        h = self.up(self.norm_mlp(x))
        return add_dropout(x, self.down(F.gelu(h)), p)

    def _attend(self, h: Tensor, mask: Tensor, p: float, read: slice) -> Tensor:
        if weights_first(h, self.heads):
            weights = self.query.weight, self.query.bias, self.key.weight, self.value.weight, self.value.bias
            head = OneHead.of(*weights, self.out)
            score = head.scores(h[:, read], h, mask)
            return head.read(dropout(score.softmax(-1), p), h)
        q = self._split(self.query(h[:, read]))
        k = self._split(self.key(h))
        v = self._split(self.value(h))
        score = q @ k.mT * q.shape[-1] ** -0.5 + mask
        y = dropout(score.softmax(-1), p) @ v
        return self.out(y.transpose(1, 2).flatten(2))

    def _split(self, x_BLD: Tensor) -> Tensor:
        """(B, L, D) as (B, H, L, D / H)."""
        return x_BLD.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Transformer(nn.Module):
    """Tokens in, one output for each token that is asked for; and the heads that read these."""

    middle_A: Tensor
    reach_A: Tensor
    bounded_A: Tensor

    def __init__(
        self,
        kind: str,
        obs_dim: int,
        n_actions: int,
        low: list[float],
        high: list[float],
        learned_std: bool,
        steps: int,
        layers: int,
        heads: int,
        width: int,
    ):
        """`low` and `high` bound continuous actions, by ±inf where there is no bound; [] for discrete ones."""
        super().__init__()
        self.spec = {name: value for name, value in locals().items() if isinstance(value, int | str | list)}
        self.discrete = kind == "discrete"
        self.n_actions = n_actions
        low_A = torch.tensor(low)
        high_A = torch.tensor(high)
        bounded_A = low_A.isfinite() & high_A.isfinite()
        middle_A, reach_A = middle_and_reach(low_A, high_A)
        self.register_buffer("bounded_A", bounded_A, persistent=False)
        self.register_buffer("middle_A", middle_A.where(bounded_A, 0), persistent=False)
        self.register_buffer("reach_A", reach_A.where(bounded_A, 1), persistent=False)
        self.embed_return = nn.Linear(1, width)
        self.embed_obs = nn.Linear(obs_dim, width)
        if self.discrete:
            self.embed_action: nn.Module = nn.Embedding(n_actions, width)
        else:
            self.embed_action = nn.Linear(n_actions, width)
        self.embed_step = nn.Embedding(steps, width)
        self.norm_in = nn.LayerNorm(width)
        self.norm_out = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        n_out = n_actions
        if learned_std and not self.discrete:
            n_out = 2 * n_actions
        self.action = nn.Linear(width, n_out)
        self.next_obs = nn.Linear(width, obs_dim)
        self.next_return = nn.Linear(width, 1)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, b: Batch, read: slice, p: float = 0.0) -> Tensor:
        """Outputs of the tokens in `read`, with dropout of probability `p`, from columns return (B, K), obs, action and
        step. The last action is a token only where `read` is ALL: else nothing depends on it."""
        step_BK = b["step"].clamp(max=self.embed_step.num_embeddings - 1)
        action = b["action"]
        if not self.discrete:
            action = self.scaled(action)
        parts = [
            self.embed_return(b["return"].unsqueeze(-1)),
            self.embed_obs(b["obs"]),
            self.embed_action(action),
        ]
        x_BK3D = torch.stack(parts, 2) + self.embed_step(step_BK).unsqueeze(2)
        x = x_BK3D.flatten(1, 2)
        if read != ALL:
            x = x[:, :-1]
        x = dropout(self.norm_in(x), p)
        mask_LL = torch.full([x.shape[1]] * 2, -torch.inf, device=x.device).triu(1)
        for block in self.blocks[:-1]:
            x = block(x, mask_LL, p)
        return self.norm_out(self.blocks[-1](x, mask_LL, p, read))

    def scaled(self, action: Tensor) -> Tensor:
        """Continuous actions as the network sees them: bounded ones in [−1, 1]."""
        return (action - self.middle_A) / self.reach_A

    def gaussian(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean of the scaled actions, and its log standard deviation where that is learned, from outputs of states."""
        mean, *log_std = self.action(x).split(self.n_actions, -1)
        mean = torch.where(self.bounded_A, mean.tanh(), mean)
        if not log_std:
            return mean, None
        return mean, log_std[0].clamp(-5, 2)


class DTPolicy(Policy, kind="dt"):
    """Remembers the last K returns-to-go, observations and executed actions of each environment."""

    remembers = True
    standardises = True

    def __init__(
        self,
        net: Transformer,
        stats: Normaliser,
        context: int,
        return_scale: float,
        target: float,
        data_best: float,
        explore: bool = False,
    ):
        self.net = copy.deepcopy(net).requires_grad_(False)
        self.device = self.net.middle_A.device  # acts where the network is: on a GPU it takes a tenth of the time
        self.read = Captured(lambda history: self.net(history, LAST)[:, 0], self.device)
        self.stats = stats
        self.context = context  # K
        self.return_scale = return_scale
        self.explore = explore
        self.target = target  # the return asked for
        self.data_best = data_best  # that of the data's best episode
        spec: Any = net.spec
        self.env = EnvSpec.with_bounds(spec["obs_dim"], spec["kind"], spec["n_actions"], spec)
        self.generator = torch.Generator()
        self.start(1, np.random.default_rng(0))

    @property
    def samples(self) -> bool:
        return self.explore and bool(self.net.discrete or self.net.spec["learned_std"])

    def start(self, batch: int, rng: np.random.Generator) -> None:
        self.generator.manual_seed(int(rng.integers(2**62)))
        self.step = 0
        self.to_go_B = np.full(batch, self.target / self.return_scale)
        self.unknown = torch.zeros(batch, self.net.n_actions)
        if self.net.discrete:
            self.unknown = torch.zeros(batch, dtype=torch.int64)
        self.history: dict[str, Tensor] = {}

    @torch.no_grad()
    def act(self, obs_BO: np.ndarray) -> np.ndarray:
        shape = (len(self.to_go_B), self.env.obs_dim)
        if obs_BO.shape != shape:
            raise ValueError(f"observations are {obs_BO.shape}, not {shape}")
        now = {
            "return": torch.from_numpy(self.to_go_B).float(),
            "obs": torch.from_numpy(self.stats(obs_BO)),
            "action": self.unknown,  # until it has been chosen
            "step": torch.full((len(obs_BO),), self.step),
        }
        for name, new in now.items():
            new_B1 = new[:, None].to(self.device)
            past = self.history.get(name, new_B1[:, :0])
            self.history[name] = torch.cat([past, new_B1], 1)[:, -self.context :]
        action = self._choose(self.read(self.history))
        self.history["action"][:, -1] = torch.from_numpy(action)
        self.step += 1
        return action

    def _choose(self, x_BD: Tensor) -> np.ndarray:
        """The mean (most likely) actions, or sampled ones with `explore`, ready to execute."""
        if self.net.discrete:
            logit_BA = self.net.action(x_BD).cpu()
            noise_BA = torch.empty_like(logit_BA).exponential_(generator=self.generator).log_()
            if self.explore:
                logit_BA = logit_BA - noise_BA  # Gumbel-max: an exact sample
            return logit_BA.argmax(-1).numpy()
        mean_BA, log_std_BA = self.net.gaussian(x_BD)
        if self.explore and log_std_BA is not None:
            noise_BA = torch.randn(mean_BA.shape, generator=self.generator)
            mean_BA = mean_BA + log_std_BA.exp() * noise_BA.to(self.device)
        return self.env.executable((self.net.middle_A + self.net.reach_A * mean_BA).cpu().numpy())

    def observe(self, reward_B: np.ndarray) -> None:
        self.to_go_B = self.to_go_B - reward_B / self.return_scale

    def spec(self) -> dict[str, Any]:
        names = ("context", "return_scale", "target", "data_best", "explore")
        return {"net": self.net.spec, **{name: getattr(self, name) for name in names}}

    def state_dict(self) -> dict[str, Any]:
        return {"net": self.net.state_dict(), "stats": self.stats.state_dict()}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], state: Mapping[str, Any]) -> DTPolicy:
        net = Transformer(**spec["net"])
        net.load_state_dict(state["net"])
        stats = Normaliser(spec["net"]["obs_dim"])
        stats.load_state_dict(state["stats"])
        return cls(net, stats, **{name: value for name, value in spec.items() if name != "net"})


class DT(Algorithm):
    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        context_length: int = param(
            "K: steps of a window, and that acting looks back on",
            unit="steps",
            ge=1,
        )
        num_layers: int = param("transformer blocks", ge=1, le=1000)
        num_heads: int = param("attention heads", ge=1)
        embed_dim: int = param("of every token; a multiple of `num_heads`", unit="units", ge=1)
        dropout: float = param(
            "of embedded tokens, attention weights and both outputs of a block",
            ge=0,
            lt=1,
        )
        max_ep_len: int = param(
            "steps of an episode that are told apart: its time limit",
            unit="steps",
            ge=1,
        )
        target_return: float | None = param(
            "return that is asked for when acting; null: the data's best episode's",
        )
        return_scale: float = param("returns are divided by this", gt=0)
        learned_std: bool = param("continuous actions: learn a variance too, by likelihood")
        obs_coef: float = param("weight of the loss of also predicting the next state", ge=0)
        return_coef: float = param(
            "weight of the loss of also predicting the next return-to-go",
            ge=0,
        )
        lr: float = param("AdamW learning rate, after the warm-up", gt=0)
        warmup: int = param(
            "updates over which the rate rises linearly to `lr`",
            unit="updates",
            ge=0,
        )
        weight_decay: float = param("AdamW weight decay", ge=0)
        ema_decay: float | None = param(
            "decay per update of averaged weights, which then act; null: the last weights act",
            ge=0,
            lt=1,
            default=None,
        )
        max_grad_norm: float | None = param(
            "global gradient norm is clipped to this; null: never",
            gt=0,
        )
        batch_size: int = param("windows per update, drawn with replacement", unit="windows", ge=1)
        log_every: int = param("updates per row of metrics", unit="updates", ge=1)
        precision: str = param(
            "of products; weights stay float32; auto: bfloat16 where that is native, else float32",
            choices=("auto", "float32", "bfloat16"),
        )

    clock = "updates"
    compiles = True
    ignores = frozenset(PolicyConfig.__dataclass_fields__)
    needs = frozenset({"data"})
    devices = frozenset({"cpu", "cuda"})
    state = ("learner", "rng", "updates")

    @classmethod
    def resolve(cls, options: dict[str, Any], device: str) -> dict[str, Any]:
        if options.get("precision") != "auto":
            return options
        if has_bfloat16(device):
            return {**options, "precision": "bfloat16"}
        return {**options, "precision": "float32"}

    def __init__(self, config: Config, task: Task):
        assert task.data is not None
        self.config = config
        self.task = task
        self.data = task.data
        c = config
        spec = task.spec
        if not self.data.rewarded:
            raise UserError(f"{self.data.name}: has no rewards, so no return can be asked for; use algo=bc")
        if c.obs_coef and not np.isfinite(self.data.final_obs_EO).all():
            raise UserError(
                f"algo.obs_coef={c.obs_coef}: {self.data.name} does not say what the last actions of its episodes led "
                "to (it has no next_observations); use algo.obs_coef=0"
            )
        low = spec.bounds.get("low", [])
        high = spec.bounds.get("high", [])
        shape = (c.learned_std, c.max_ep_len, c.num_layers, c.num_heads, c.embed_dim)
        self.net = Transformer(spec.kind, spec.obs_dim, spec.n_actions, low, high, *shape)
        self.stats = Normaliser(spec.obs_dim)
        self.stats.update(self.data.obs_NO)
        self.columns = self._columns()
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
        self.rng = task.rng("batch")
        self.updates = 0

    @classmethod
    def check(cls, config: Config, budget: int) -> None:
        if config.embed_dim % config.num_heads:
            raise OutOfRange(
                "embed_dim",
                f"must be a multiple of num_heads={config.num_heads}, not {config.embed_dim}",
            )

    def cautions(self) -> list[str]:
        found = []
        known = self.config.max_ep_len
        longest = max(int(self.data.length_E.max()), self.task.env.time_limit or 0)
        if longest > known:
            found.append(
                f"episodes have up to {longest:,} steps, and those after algo.max_ep_len={known} look like the one "
                f"before; algo.max_ep_len={longest} tells them apart"
            )
        if self.config.precision == "bfloat16" and not has_bfloat16(self.task.device):
            found.append(
                "this processor has no native bfloat16, so that it is several times slower than float32; "
                "algo.precision=auto chooses"
            )
        return found

    def _columns(self) -> dict[str, Tensor]:
        """What windows are cut from, each N long, on the device."""
        c = self.config
        data = self.data
        to_go_N = data.return_to_go_N / np.float32(c.return_scale)
        columns = {"return": to_go_N, "obs": self.stats(data.obs_NO), "action": data.action}
        if c.obs_coef:
            columns["next_obs"] = self.stats(data.next_obs_NO())
        if c.return_coef:
            columns["next_return"] = to_go_N - data.reward_N / np.float32(c.return_scale)
        return {name: torch.from_numpy(column).to(self.task.device) for name, column in columns.items()}

    def batch(self, row_B: np.ndarray) -> dict[str, Tensor]:
        """The windows that begin at these steps of the data."""
        window = self.data.windows(row_B, range(self.config.context_length))
        row_BK, valid_BK, step_BK = (
            torch.from_numpy(x).to(self.task.device) for x in (window.row_BK, window.valid_BK, window.step_BK)
        )
        batch = {name: column[row_BK] for name, column in self.columns.items()}
        return {**batch, "step": step_BK, "valid": valid_BK}

    def loss(self, net: Transformer, b: Batch, train: bool = True) -> tuple[Tensor, dict[str, Tensor]]:
        c = self.config
        more = bool(c.obs_coef or c.return_coef)
        bfloat16 = c.precision == "bfloat16"
        with torch.autocast(b["obs"].device.type, torch.bfloat16, enabled=bfloat16):
            x = net(b, ALL if more else STATES, c.dropout if train else 0.0)
            state_BKD = x[:, 1::3] if more else x
            action_BKD = x[:, 2::3]  # where all are read
            terms = {"loss/action": self._action_loss(net, state_BKD, b)}
            if c.obs_coef:
                error = net.next_obs(action_BKD) - b["next_obs"]
                terms["loss/obs"] = error.square().mean(-1)
            if c.return_coef:
                error = net.next_return(action_BKD).squeeze(-1) - b["next_return"]
                terms["loss/return"] = error.square()
        valid_BK = b["valid"].float()
        metrics = {}
        for name, term_BK in terms.items():
            metrics[name] = (term_BK.float() * valid_BK).sum() / valid_BK.sum()
        weights = {"loss/action": 1.0, "loss/obs": c.obs_coef, "loss/return": c.return_coef}
        weighted = (weights[name] * term for name, term in metrics.items())
        return sum(weighted, torch.zeros(())), metrics

    def _action_loss(self, net: Transformer, x_BKD: Tensor, b: Batch) -> Tensor:
        """(B, K), of the data's actions."""
        if net.discrete:
            return F.cross_entropy(net.action(x_BKD).mT, b["action"], reduction="none")
        mean, log_std = net.gaussian(x_BKD)
        error = (net.scaled(b["action"]) - mean).square()
        if log_std is None:
            return error.mean(-1)
        return (0.5 * error * (-2 * log_std).exp() + log_std + 0.5 * math.log(2 * math.pi)).mean(-1)

    def step(self) -> Progress:
        c = self.config
        losses = []
        row_UB = self.rng.integers(len(self.data), size=(c.log_every, c.batch_size))
        for row_B in row_UB:
            self.updates += 1
            lr = c.lr
            if self.updates < c.warmup:
                lr = c.lr * (self.updates / c.warmup)
            losses.append(self.learner.update(self.batch(row_B), lr))
        return Progress(0, c.log_every, {**mean_metrics(losses), "opt/lr": lr})

    def policy(self, *, explore: bool = False) -> DTPolicy:
        c = self.config
        best = float(self.data.return_E.max())
        target = c.target_return
        if target is None:
            target = best
        net = self.net
        if c.ema_decay is not None:
            net = self.learner.average()
        stats = copy.deepcopy(self.stats)
        return DTPolicy(
            net,
            stats,
            c.context_length,
            c.return_scale,
            target,
            best,
            explore,
        )
