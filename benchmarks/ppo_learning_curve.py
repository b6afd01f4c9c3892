"""Do rlexp's PPO and Stable-Baselines3's learn the same? Both sides of ppo_throughput.py over several seeds.

    python benchmarks/ppo_learning_curve.py --peer-python PATH --envs cartpole --steps 100000

At a few points: the mean return of the training episodes that ended in the window before it, averaged over seeds, with
its 95 % Student-t interval. The two throughputs may be compared only where these agree.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

import common
import numpy as np
from ppo_throughput import NAMES, has_peer, measure
from ppo_worker import ENVS, ITERATION, OURS

sys.path.insert(0, str(common.ROOT))
from rlexp.report.words import with_interval
from rlexp.util.stats import t_interval


def at_points(episodes: list[tuple[int, float]], points: list[int]) -> list[float]:
    """Mean return of the episodes that ended between each point and the one before it; NaN where none did."""
    step, total = np.array(episodes).T
    bounds = zip([0, *points[:-1]], points, strict=True)
    windows = [total[(step > low) & (step <= high)] for low, high in bounds]
    return [float(w.mean()) if len(w) else float("nan") for w in windows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has stable_baselines3")
    parser.add_argument("--envs", nargs="+", choices=ENVS, default=["cartpole", "hopper"])
    parser.add_argument("--sides", nargs="+", choices=tuple(OURS), default=["eager", "compiled"], help="ours")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100_000, help="environment steps of each run")
    parser.add_argument("--points", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write all episodes there")
    args = parser.parse_args()

    sides = {"sb3": args.peer_python, **dict.fromkeys(args.sides, sys.executable)}
    if not has_peer(args.peer_python):
        del sides["sb3"]
        print("stable_baselines3 cannot be imported: only rlexp is run (--peer-python PATH names another python)")
    iterations = -(-args.steps // ITERATION)
    points = [round(iterations * (i + 1) / args.points) * ITERATION for i in range(args.points)]
    result: dict[str, Any] = {"command": shlex.join(["python", *sys.argv]), "machine": common.machine(), "runs": {}}
    table = []
    for env in args.envs:
        result["runs"][env] = {}
        for side, python in sides.items():
            runs = [
                measure(python, side, env, "--iterations", iterations, "--warmup", 0, "--seed", seed)["episodes"]
                for seed in range(args.seeds)
            ]
            result["runs"][env][side] = runs
            curves = zip(*[at_points(episodes, points) for episodes in runs], strict=True)
            cells = [with_interval(*t_interval(values)) for values in curves]
            table.append([ENVS[env], NAMES[side], *cells])
            print(*table[-1], file=sys.stderr)
    print(f"\n`{result['command']}`\n")
    print(common.table(["environment", "side", *(f"to {p:,}" for p in points)], table))
    common.save(args.json, result)


if __name__ == "__main__":
    main()
