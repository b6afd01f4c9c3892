"""One side of the Decision Transformer benchmark: builds its model on made-up Hopper-sized data, then, for every line
`n` on its standard input, trains for n updates, sampling included, and prints seconds and processor seconds of each.

Sides: `d3rlpy` is d3rlpy's; `plain` is the same model as one would write it in PyTorch; `rlexp`, `bfloat16`
and `compiled` are this project's; `matmul` multiplies two 2048 × 2048 matrices instead. All at the course's settings,
on the CPU, in float32 but for `bfloat16`.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

BATCH, CONTEXT, LAYERS, WIDTH, STEPS = 64, 20, 3, 128, 1000
OBS, ACTIONS, EPISODES, LENGTH = 11, 3, 100, 500
LR, DECAY, CLIP, WARMUP, SCALE = 1e-4, 1e-4, 0.25, 10_000, 1000.0
SIDES = ("d3rlpy", "plain", "rlexp", "bfloat16", "compiled", "matmul")


def data() -> dict[str, np.ndarray]:
    """100 episodes of 500 steps, one after another."""
    rng, n = np.random.default_rng(0), EPISODES * LENGTH
    return {
        "obs": rng.standard_normal((n, OBS)).astype(np.float32),
        "action": np.tanh(rng.standard_normal((n, ACTIONS))).astype(np.float32),
        "reward": rng.uniform(0, 6, n).astype(np.float32),
    }


def d3rlpy(dropout: float) -> Callable[[], Any]:
    import d3rlpy
    from d3rlpy.algos import DecisionTransformerConfig
    from d3rlpy.models import VectorEncoderFactory
    from d3rlpy.optimizers import GPTAdamWFactory, WarmupSchedulerFactory
    from d3rlpy.preprocessing import MultiplyRewardScaler, StandardObservationScaler

    d, ends = data(), np.zeros(EPISODES * LENGTH)
    ends[LENGTH - 1 :: LENGTH] = 1
    dataset = d3rlpy.dataset.MDPDataset(d["obs"], d["action"], d["reward"], np.zeros_like(ends), ends)
    config = DecisionTransformerConfig(
        batch_size=BATCH,
        context_size=CONTEXT,
        max_timestep=STEPS,
        learning_rate=LR,
        encoder_factory=VectorEncoderFactory([WIDTH], exclude_last_activation=True),
        optim_factory=GPTAdamWFactory(
            weight_decay=DECAY, clip_grad_norm=CLIP, lr_scheduler_factory=WarmupSchedulerFactory(WARMUP)
        ),
        observation_scaler=StandardObservationScaler(mean=d["obs"].mean(0), std=d["obs"].std(0)),
        reward_scaler=MultiplyRewardScaler(1 / SCALE),
        num_heads=1,
        num_layers=LAYERS,
        attn_dropout=dropout,
        resid_dropout=dropout,
        embed_dropout=dropout,
        activation_type="gelu",
    )
    model = config.create(device="cpu:0")
    model.build_with_dataset(dataset)
    return lambda: model.update(dataset.sample_trajectory_batch(BATCH, length=CONTEXT))


class PlainBlock(nn.Module):
    def __init__(self, dropout: float):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        weight = (q @ k.mT * WIDTH**-0.5).masked_fill(hidden, -torch.inf).softmax(-1)
        x = x + self.dropout(self.out(self.dropout(weight) @ v))
        return x + self.dropout(self.mlp(self.norm2(x)))


class Plain(nn.Module):
    def __init__(self, dropout: float):
        super().__init__()
        self.embed = nn.ModuleList(nn.Linear(n, WIDTH) for n in (1, OBS, ACTIONS))
        self.embed_step, self.norm = nn.Embedding(STEPS, WIDTH), nn.LayerNorm(WIDTH)
        self.blocks = nn.ModuleList(PlainBlock(dropout) for _ in range(LAYERS))
        self.last, self.head, self.dropout = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, ACTIONS), nn.Dropout(dropout)
        self.register_buffer("future", torch.ones(3 * CONTEXT, 3 * CONTEXT, dtype=torch.bool).triu(1))

    def forward(self, columns: list[torch.Tensor], step: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        when = self.embed_step(step)
        x = torch.stack([embed(column) + when for embed, column in zip(self.embed, columns, strict=True)], 2)
        x = self.dropout(self.norm(x.flatten(1, 2)))
        hidden = self.future | padding.repeat_interleave(3, 1)[:, None]
        for block in self.blocks:
            x = block(x, hidden)
        return self.head(self.last(x)[:, 1::3]).tanh()


def plain(dropout: float) -> Callable[[], Any]:
    d, rng = data(), np.random.default_rng(0)
    to_go = d["reward"].reshape(EPISODES, LENGTH)[:, ::-1].cumsum(1)[:, ::-1].reshape(-1, 1) / SCALE
    columns = [torch.from_numpy(np.ascontiguousarray(x)) for x in (to_go, d["obs"], d["action"])]
    net = Plain(dropout)
    optimiser = torch.optim.AdamW(net.parameters(), LR, weight_decay=DECAY)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda i: min((i + 1) / WARMUP, 1))

    def update() -> None:
        first = rng.integers(EPISODES * LENGTH, size=BATCH)
        step = first[:, None] % LENGTH + np.arange(CONTEXT)
        row = torch.from_numpy(first[:, None] - first[:, None] % LENGTH + step.clip(max=LENGTH - 1))
        padding = torch.from_numpy(step >= LENGTH)
        batch = [column[row] for column in columns]
        action = net(batch, torch.from_numpy(step).clamp(max=STEPS - 1), padding)
        loss = F.mse_loss(action[~padding], batch[2][~padding])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        optimiser.step()
        rate.step()
        loss.item()

    return update


def rlexp(dropout: float, precision: str, compile: bool) -> Callable[[], Any]:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from rlexp.algos.base import Task
    from rlexp.algos.dt import DT
    from rlexp.buffers.dataset import Dataset
    from rlexp.envs.spec import EnvConfig, EnvSpec
    from rlexp.nn.actors import PolicyConfig

    d, bound = data(), np.ones(ACTIONS, np.float32)
    length_E, ended_E = np.full(EPISODES, LENGTH), np.zeros(EPISODES, bool)
    recorded = Dataset("made up", d["obs"], d["action"], d["reward"], length_E, ended_E, d["obs"][:EPISODES])
    config = DT.Config(
        context_length=CONTEXT,
        num_layers=LAYERS,
        num_heads=1,
        embed_dim=WIDTH,
        dropout=dropout,
        max_ep_len=STEPS,
        target_return=None,
        return_scale=SCALE,
        learned_std=False,
        obs_coef=0.0,
        return_coef=0.0,
        lr=LR,
        warmup=WARMUP,
        weight_decay=DECAY,
        max_grad_norm=CLIP,
        batch_size=BATCH,
        log_every=1,
        precision=precision,
    )
    env: Any = EnvConfig(
        id="none", name="none", max_episode_steps=None, backend="gymnasium", random_return=None, expert_return=None
    )
    policy = PolicyConfig(hidden=[], activation="tanh", orthogonal=True, log_std=0.0, init=None)
    spec = EnvSpec(OBS, "continuous", ACTIONS, -bound, bound)
    return DT(config, Task(env, spec, policy, 0, compile=compile, data=recorded)).step


def matmul() -> Callable[[], Any]:
    x = torch.randn(2048, 2048)
    return lambda: x @ x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dropout", type=float, default=0.1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    sides = {"d3rlpy": d3rlpy, "plain": plain}
    if args.side == "matmul":
        update = matmul()
    elif args.side in sides:
        update = sides[args.side](args.dropout)
    else:
        precision = "bfloat16" if args.side == "bfloat16" else "float32"
        update = rlexp(args.dropout, precision, args.side == "compiled")
    for _ in range(3):
        update()
    flops = {"flops": 0}
    if args.side != "compiled":
        with FlopCounterMode(display=False) as counter:
            update()
        flops["flops"] = counter.get_total_flops()
    common.take_turns(update, flops)


if __name__ == "__main__":
    main()
