"""One PPO run of one side at the shared settings, timed; prints one JSON object. Started by the ppo_*.py benchmarks.

Sides: `sb3` is Stable-Baselines3's PPO on its own DummyVecEnv (what make_vec_env gives); `eager`, `fast` and
`compiled` are rlexp's on Gymnasium, on EnvPool, and on EnvPool with the compiled update; `auto` is what it chooses for
a million steps if nothing is said, and `bare` the same where EnvPool is not installed. Neither side normalises
observations or rewards, evaluates, saves or logs to disk. Nothing of the other side is imported.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ENVS = {"hopper": "Hopper-v5", "bipedal": "BipedalWalker-v3", "cartpole": "CartPole-v1"}
OURS = {  # env.backend, train.compile
    "eager": ("gymnasium", "false"),
    "fast": ("envpool", "false"),
    "compiled": ("envpool", "true"),
    "bare": ("gymnasium", "auto"),
    "auto": ("auto", "auto"),
}
N_ENVS, STEPS, MINIBATCH, EPOCHS = 16, 128, 64, 10
ITERATION = N_ENVS * STEPS  # env steps

EPISODES = list[tuple[int, float]]  # (env steps at the end of the iteration in which it ended, return)


class Clock:
    """Seconds inside some methods, and the moments at which iterations ended. `cpu` is this process's processor time,
    all threads: other processes disturb it less than wall time."""

    def __init__(self) -> None:
        self.inside = {"simulator": 0.0, "update": 0.0}
        self.marks: list[dict[str, float]] = []

    def watch(self, owner: Any, method: str, part: str) -> None:
        """Add the time inside `owner.method` to `part` from now on."""
        call = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.inside[part] += time.perf_counter() - start

        setattr(owner, method, timed)

    def mark(self) -> None:
        self.marks.append({"seconds": time.perf_counter(), "cpu": time.process_time(), **self.inside})

    def report(self, warmup: int) -> dict[str, float]:
        """Per iteration after `warmup` of them: seconds, cpu seconds, seconds by part; and what the warm-up took."""
        first, start, end = self.marks[0], self.marks[warmup], self.marks[-1]
        n = len(self.marks) - 1 - warmup
        return {**{name: (end[name] - start[name]) / n for name in end}, "warmup": start["seconds"] - first["seconds"]}


def sb3(env: str, iterations: int, seed: int, clock: Clock) -> EPISODES:
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.logger import Logger
    from torch import nn

    envs = make_vec_env(ENVS[env], N_ENVS, seed=seed)
    net = {"net_arch": [64, 64], "activation_fn": nn.Tanh, "ortho_init": True}
    model = PPO(
        "MlpPolicy",
        envs,
        n_steps=STEPS,
        batch_size=MINIBATCH,
        n_epochs=EPOCHS,
        learning_rate=3e-4,
        gamma=0.99,
        gae_lambda=0.95,
        clip_range=0.2,
        clip_range_vf=None,
        normalize_advantage=True,
        ent_coef=0.0,
        vf_coef=0.5,
        max_grad_norm=0.5,
        target_kl=None,
        seed=seed,
        device="cpu",
        policy_kwargs=net,
    )
    model.set_logger(Logger(None, []))  # its own makes a folder in /tmp, though it writes nothing
    clock.watch(envs, "step", "simulator")
    clock.watch(model, "train", "update")
    episodes: EPISODES = []

    class Marks(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_start(self) -> None:  # the iteration before this one is over
            clock.mark()
            for returns in envs.env_method("get_episode_rewards"):
                episodes.extend((self.num_timesteps, total) for total in returns)
                returns.clear()

        def _on_training_end(self) -> None:
            self._on_rollout_start()

    model.learn(iterations * ITERATION, callback=Marks())
    return episodes


def ours(env: str, backend: str, compile: str, iterations: int, seed: int, clock: Clock) -> EPISODES:
    root = Path(__file__).resolve().parent.parent
    sys.path.insert(0, str(root))
    from hydra import compose, initialize_config_dir

    from rlexp.envs.make import describe
    from rlexp.experiment.config import build
    from rlexp.experiment.task import make_task
    from rlexp.util import seeding

    settings = {
        "num_envs": N_ENVS,
        "num_steps": STEPS,
        "batch_size": MINIBATCH,
        "update_epochs": EPOCHS,
        "lr": 3e-4,
        "gamma": 0.99,
        "gae_lambda": 0.95,
        "clip_coef": 0.2,
        "vf_clip_coef": "null",
        "normalise_advantage": "true",
        "ent_coef": 0.0,
        "vf_coef": 0.5,
        "max_grad_norm": 0.5,
        "target_kl": "null",
        "normalise_obs": "false",
        "normalise_reward": "false",
        "lr_schedule": "constant",
        "clip_schedule": "constant",
    }
    with initialize_config_dir(str(root / "conf"), version_base="1.3"):
        run = build(
            compose(
                "config",
                [
                    "algo=ppo",
                    f"env={env}",
                    f"env.backend={backend}",
                    "policy=mlp",
                    f"train.compile={compile}",
                    "train.budget=1000000",
                    *(f"algo.{key}={value}" for key, value in settings.items()),
                ],
            )
        )
    seeding.seed_globals(seeding.stream(seed, "init"))
    algo: Any = run.algo_class(run.algo, make_task(run, describe(run.env), seed))
    clock.watch(algo.collector.envs, "step", "simulator")
    clock.watch(algo, "_learn", "update")
    episodes: EPISODES = []
    _tap(algo.collector, lambda rollout: episodes.extend((algo.steps_done + ITERATION, r) for r in rollout.returns))
    clock.mark()
    for _ in range(iterations):
        algo.step()
        clock.mark()
    return episodes


def _tap(collector: Any, use: Callable[[Any], None]) -> None:
    """Let `use` see every rollout of `collector`."""
    collect = collector.collect

    def tapped(*args: Any) -> Any:
        rollout = collect(*args)
        use(rollout)
        return rollout

    collector.collect = tapped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=("sb3", *OURS))
    parser.add_argument("env", choices=ENVS)
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--warmup", type=int, default=1, help="first iterations, not counted")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    clock, total = Clock(), args.iterations + args.warmup
    if args.side == "sb3":
        episodes = sb3(args.env, total, args.seed, clock)
    else:
        episodes = ours(args.env, *OURS[args.side], total, args.seed, clock)
    print(json.dumps({**clock.report(args.warmup), "episodes": episodes}))


if __name__ == "__main__":
    main()
