"""Training throughput of SAC side by side with Stable-Baselines3's, at the same hyperparameters.

    python benchmarks/sac_throughput.py --peer-python PATH

One environment, one update of critics, policy and temperature per step: batch 256, networks 256x256 ReLU, lr 3e-4,
γ 0.99, τ 0.005, replay of a million. Each measurement is a process of its own with one thread; sides alternate within
a round. Steps with random actions come first, then 200 with updates, one of which compiles; none of these is counted.
Neither side evaluates, saves or logs to disk. "products" does nothing but an update's products of matrices, by PyTorch
too: no way to compute the same update on this processor is faster.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import common

NAMES = {"sb3": "Stable-Baselines3", "eager": "rlexp", "compiled": "rlexp, compiled", "products": "products alone"}
ENVS = {"hopper": "Hopper-v5", "halfcheetah": "HalfCheetah-v5", "walker2d": "Walker2d-v5"}
RANDOM, WARMUP = 1000, 1200  # steps with random actions; steps that are not counted


class Clock:
    """Wall and processor time, and where they were when counting began."""

    def __init__(self) -> None:
        self.start: tuple[float, float] | None = None

    def at(self, step: int) -> None:
        if self.start is None and step >= WARMUP:
            self.start = self.now()

    @staticmethod
    def now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def report(self, steps: int) -> dict[str, float]:
        """Seconds and processor seconds of a step."""
        assert self.start is not None
        return {n: (b - a) / steps for n, a, b in zip(("seconds", "cpu"), self.start, self.now(), strict=True)}


def sb3(env: str, steps: int, seed: int) -> dict[str, float]:
    from stable_baselines3 import SAC
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.logger import Logger

    clock = Clock()

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            clock.at(self.num_timesteps - 1)  # the update of this step is still to come
            return True

    model = SAC(
        "MlpPolicy", ENVS[env], learning_rate=3e-4, buffer_size=1_000_000, learning_starts=RANDOM, batch_size=256,
        tau=0.005, gamma=0.99, train_freq=1, gradient_steps=1, ent_coef="auto", policy_kwargs={"net_arch": [256, 256]},
        seed=seed, device="cpu",
    )  # fmt: skip
    model.set_logger(Logger(None, []))  # its own makes a folder in /tmp, though it writes nothing
    model.learn(WARMUP + steps, callback=Watch())
    return clock.report(steps)


def ours(env: str, compile: bool, steps: int, seed: int) -> dict[str, float]:
    root = Path(__file__).resolve().parent.parent
    sys.path.insert(0, str(root))
    from hydra import compose, initialize_config_dir

    from rlexp.envs.make import describe
    from rlexp.experiment.config import build
    from rlexp.experiment.task import make_task
    from rlexp.util import seeding

    words = [
        f"env={env}",
        "algo=sac",
        f"algo.learning_starts={RANDOM}",
        "algo.num_steps=100",
        f"train.compile={compile}",
    ]
    with initialize_config_dir(str(root / "conf"), version_base="1.3"):
        run = build(compose("config", words))
    seeding.seed_globals(seeding.stream(seed, "init"))
    algo: Any = run.algo_class(run.algo, make_task(run, describe(run.env), seed))
    clock = Clock()
    for step in range(0, WARMUP + steps, 100):
        clock.at(step)
        algo.step()
    return clock.report(steps)


def products(steps: int) -> dict[str, float]:
    """The products of an update on Hopper: a batch of 256 through layers of 14 (the policy: 11), 256, 256 and 1 (6)."""
    import torch

    critic = [(14, 256), (256, 256), (256, 1)]
    policy = [(11, 256), (256, 256), (256, 6)]
    forward = [*policy, *critic * 2, *critic * 2, *policy, *critic * 2]  # π(s'), Q̄, Q; π(s), Q of its actions
    inputs = [*critic[1:] * 2, *critic * 2, *policy[1:]]  # whose gradients by their inputs are needed: Q; Q, π
    weights = [*critic * 2, *policy]  # and by their weights
    calls = [(torch.randn(256, n), torch.randn(n, m)) for n, m in forward]
    calls += [(torch.randn(256, m), torch.randn(n, m).T) for n, m in inputs]
    calls += [(torch.randn(256, n).T, torch.randn(256, m)) for n, m in weights]
    clock = Clock()
    for step in range(WARMUP + steps):
        clock.at(step)
        for a, b in calls:
            a @ b
    return clock.report(steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has stable_baselines3")
    parser.add_argument("--envs", nargs="+", choices=ENVS, default=["hopper", "walker2d"])
    parser.add_argument("--sides", nargs="+", choices=NAMES, default=list(NAMES)[:3])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000, help="counted steps; a multiple of 100")
    parser.add_argument("--json", type=Path, help="write every measurement there")
    parser.add_argument("--measure", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.steps < 100 or args.steps % 100:
        parser.error(f"--steps: {args.steps} is no multiple of 100")
    if args.measure:
        import torch

        torch.set_num_threads(1)
        side, env = args.measure, args.envs[0]
        run = (args.steps, args.seed)
        if side == "products":
            found = products(args.steps)
        elif side == "sb3":
            found = sb3(env, *run)
        else:
            found = ours(env, side == "compiled", *run)
        print(json.dumps(found))
        return

    python = {side: args.peer_python if side == "sb3" else sys.executable for side in args.sides}
    if "sb3" in python and subprocess.run([args.peer_python, "-c", "import stable_baselines3"]).returncode:
        raise SystemExit("--peer-python: this interpreter has no stable_baselines3")
    result: dict[str, Any] = {"command": shlex.join(["python", *sys.argv]), "machine": common.machine(), "runs": {}}
    table = []
    for env in args.envs:
        found: dict[str, list[dict[str, float]]] = {side: [] for side in python}
        for i in range(args.rounds):
            for side, interpreter in python.items():
                words = [__file__, "--measure", side, "--envs", env, "--steps", args.steps, "--seed", i]
                found[side].append(json.loads(common.run([interpreter, *map(str, words)]).splitlines()[-1]))
                print(f"{env} round {i} {side}: {1 / found[side][-1]['seconds']:.1f} steps/s", file=sys.stderr)
        result["runs"][env] = found
        for side, runs in found.items():
            ratios = [
                f"{median(theirs[k] / our[k] for theirs, our in zip(found['sb3'], runs, strict=True)):.2f}"
                if "sb3" in found
                else ""
                for k in ("seconds", "cpu")
            ]
            rate = 1 / median(run["seconds"] for run in runs)
            table.append([ENVS[env], NAMES[side], f"{rate:.1f}", *ratios])
    print(f"\n`{result['command']}`\n\n{result['machine']}\n")
    print(common.table(["environment", "side", "steps with update per second", "ratio", "ratio in CPU time"], table))
    common.save(args.json, result)


if __name__ == "__main__":
    main()
