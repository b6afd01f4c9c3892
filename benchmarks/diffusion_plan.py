"""What the diffusion policy's shortcuts save: milliseconds per plan and per update, beside plain ways to do the same.

Sides with the same weights, which alternate on one thread. Plans: ours; ours without memory, which takes the condition
through the whole network at every denoising step; and that with torch's nn.TransformerDecoder instead. Updates, each in
a process of its own: ours; the same by our learner with nn.TransformerDecoder; and as one would write that in PyTorch.

    python benchmarks/diffusion_plan.py
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import common
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rlexp.algos.base import Task
from rlexp.algos.diffusion import Diffusion, DiffusionPolicy
from rlexp.buffers.dataset import Dataset
from rlexp.envs.make import describe
from rlexp.envs.spec import EnvSpec
from rlexp.experiment.config import build
from rlexp.nn import denoise
from rlexp.nn.decoder import Decoder
from rlexp.nn.learner import Learner
from rlexp.util import paths

HISTORY = ("obs_BkO", "past_BkA", "step")
UPDATES = {"plain": "plain PyTorch", "learner": "nn.TransformerDecoder in our learner", "ours": "ours"}


class Torchs(nn.Module):
    """nn.TransformerDecoder with the weights of `ours`."""

    def __init__(self, ours: Decoder, width: int, heads: int):
        super().__init__()
        layer = nn.TransformerDecoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.whole = nn.TransformerDecoder(layer, len(ours.layers), nn.LayerNorm(width))
        self.whole.norm.load_state_dict(ours.norm.state_dict())
        for a, b in zip(ours.layers, self.whole.layers, strict=True):
            cross, inner = b.multihead_attn, b.self_attn
            pairs = [(a.norm_self, b.norm1), (a.norm_cross, b.norm2), (a.norm_mlp, b.norm3), (a.up, b.linear1)]
            pairs += [(a.down, b.linear2), (a.out_self, inner.out_proj), (a.out_cross, cross.out_proj)]
            for mine, theirs in pairs:
                theirs.load_state_dict(mine.state_dict())
            with torch.no_grad():
                inner.in_proj_weight.copy_(a.qkv.weight)
                inner.in_proj_bias.copy_(a.qkv.bias)
                cross.in_proj_weight.copy_(torch.cat([a.q.weight, a.k.weight, a.v.weight]))
                cross.in_proj_bias.copy_(torch.cat([a.q.bias, torch.zeros_like(a.q.bias), a.v.bias]))

    def forward(self, query_BQD: Tensor, memory_BKD: Tensor, query_BQ: Tensor, memory_BK: Tensor) -> Tensor:
        return self.whole(query_BQD, memory_BKD, tgt_key_padding_mask=~query_BQ, memory_key_padding_mask=~memory_BK)


def recorded(name: str, spec: EnvSpec) -> Dataset:
    """Episodes of the right sizes with nothing in them."""
    rng, n = np.random.default_rng(0), 20
    obs_NO = rng.standard_normal((n * 1600, spec.obs_dim)).astype(np.float32)
    action_NA = rng.uniform(-1, 1, (n * 1600, spec.n_actions)).astype(np.float32)
    ends = np.ones(n, bool), np.zeros((n, spec.obs_dim), np.float32)
    return Dataset(name, obs_NO, action_NA, np.ones(n * 1600, np.float32), np.full(n, 1600), *ends)


def cached(policy: DiffusionPolicy, noise_SBhA: Tensor) -> Tensor:
    """The plan as the policy makes it."""
    with torch.no_grad():
        return policy.net.plan(policy.condition(), noise_SBhA, policy.steps, policy.clip)


@torch.no_grad()
def whole(policy: DiffusionPolicy, noise_SBhA: Tensor) -> Tensor:
    """The plan by the whole network at each step."""
    condition, batch = policy.condition(), noise_SBhA.shape[1]
    exists_BW = torch.cat([condition["exists"], torch.ones(noise_SBhA.shape[1:3], dtype=torch.bool)], 1)

    def predict(noisy_BhA: Tensor, level: int) -> Tensor:
        return policy.net({**condition, "exists": exists_BW, "noisy": noisy_BhA, "level": torch.full((batch,), level)})

    return policy.net.action.back(denoise.sample(predict, noise_SBhA, policy.steps, policy.clip))


def alternate(sides: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and processor milliseconds of each side in each round, after one that does not count."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for counts in [False, *[True] * rounds]:
        for name, call in sides.items():
            wall, processor = time.perf_counter(), time.process_time()
            call()
            if counts:
                found[name].append(((time.perf_counter() - wall) * 1e3, (time.process_time() - processor) * 1e3))
    return found


def pair() -> tuple[Diffusion, Diffusion]:
    """Ours, and the same with nn.TransformerDecoder."""
    torch.set_num_threads(1)
    with initialize_config_dir(str(paths.CONF), version_base="1.3"):
        run = build(compose("config", ["algo=diffusion", "env=bipedal"]))
    c, spec = run.algo, describe(run.env)
    task = Task(run.env, spec, run.policy, 0, data=recorded(run.env.name, spec))
    torch.manual_seed(0)
    ours, plain = Diffusion(c, task), Diffusion(c, task)
    plain.net.load_state_dict(ours.net.state_dict())
    plain.net.decoder = Torchs(plain.net.decoder, c.embed_dim, c.num_heads)
    adam = {"lr": c.lr, "weight_decay": c.weight_decay, "ema": c.ema_decay}
    plain.learner = Learner(plain.net, plain.loss, **adam)
    return ours, plain


def update(side: str) -> Callable[[], Any]:
    """An update on one batch."""
    ours, plain = pair()
    c = ours.config
    batch = ours.batch(np.random.default_rng(0).integers(len(ours.data), size=c.batch_size))
    if side == "ours":
        return partial(ours.learner.update, batch)
    if side == "learner":
        return partial(plain.learner.update, batch)
    net = copy.deepcopy(plain.net)  # whose parameters are no views
    optimiser = torch.optim.AdamW(net.parameters(), c.lr, weight_decay=c.weight_decay)
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(c.ema_decay))

    def step() -> None:
        loss, _ = plain.loss(net, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        average.update_parameters(net)

    return step


def update_times(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds of each side, each in a process of its own: what one does with memory is no other's."""
    sides = {name: common.Side([sys.executable, __file__, "--update", name], common.ONE_THREAD) for name in UPDATES}
    for _ in range(rounds):
        for side in sides.values():
            side.turn(3)
    for side in sides.values():
        side.close()
    return {
        UPDATES[name]: [(turn["seconds"] * 1e3, turn["cpu"] * 1e3) for turn in side.turns]
        for name, side in sides.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write every measurement there")
    parser.add_argument("--update", choices=UPDATES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.update:
        once = update(args.update)
        for _ in range(3):
            once()
        common.take_turns(once, {})
        return
    ours, plain = pair()
    c, spec = ours.config, ours.task.spec

    times, difference = {}, {}
    for n in (1, 20):
        policies = {"ours": ours.policy(), "torch": plain.policy()}
        for policy in policies.values():
            rng = np.random.default_rng(0)
            policy.start(n, rng)
            policy.queue = [rng.uniform(-1, 1, (n, spec.n_actions)).astype(np.float32) for _ in range(6)]
            for _ in range(6):  # a history
                policy.act(rng.standard_normal((n, spec.obs_dim)).astype(np.float32))
        noise_SBhA = torch.randn(c.num_train_timesteps, n, c.horizon, spec.n_actions)
        sides = {
            "nn.TransformerDecoder, whole": partial(whole, policies["torch"], noise_SBhA),
            "ours, whole": partial(whole, policies["ours"], noise_SBhA),
            "ours": partial(cached, policies["ours"], noise_SBhA),
        }
        for steps in (10, 5):
            quick = ours.policy()
            quick.steps = denoise.steps("ddim", denoise.squared_cosine(c.num_train_timesteps), steps)
            quick.obs_BkO, quick.past_BkA, quick.step = (getattr(policies["ours"], x) for x in HISTORY)
            sides[f"ours, DDIM, {steps} steps"] = partial(cached, quick, noise_SBhA[:steps])
        plans = {name: side() for name, side in sides.items()}
        difference[n] = max(float((plans["ours"] - plans[name]).abs().max()) for name in list(sides)[:2])
        times[f"plan, {n} environment{'s' * (n > 1)}"] = alternate(sides, args.rounds)
    times[f"update, {c.batch_size} windows"] = update_times(args.rounds)

    rows = []
    for work, found in times.items():
        first = next(iter(found.values()))
        for name, each in found.items():
            wall, processor = (median(x) for x in zip(*each, strict=True))
            ratios = [median(f[i] / e[i] for f, e in zip(first, each, strict=True)) for i in (0, 1)]
            rows.append([work, name, *(f"{x:.1f}" for x in (wall, processor)), *(f"{x:.2f}" for x in ratios)])
    print(f"{common.machine()}, torch {torch.__version__}, {args.rounds} rounds\n")
    print(common.table(["work", "side", "ms", "CPU ms", "times as fast", "in CPU time"], rows))
    print(f"\nlargest difference between plans: {difference}")
    common.save(args.json, {"machine": common.machine(), "ms": times, "difference": difference})
    if max(difference.values()) > 1e-5:
        raise SystemExit("the plans differ")


if __name__ == "__main__":
    main()
