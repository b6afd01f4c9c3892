"""Training throughput of PPO side by side with Stable-Baselines3's, at the same hyperparameters (see ppo_worker.py).

    python benchmarks/ppo_throughput.py --peer-python PATH

Each measurement is a process of its own with one thread. Sides alternate within a round, so that a machine that slows
down slows all of them; the table gives medians over rounds and ratios of medians. The first iteration, which compiles,
is not counted; the column "first" says what it took.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import common
from ppo_worker import ENVS, ITERATION, OURS

WORKER = str(Path(__file__).with_name("ppo_worker.py"))
NAMES = {
    "sb3": "Stable-Baselines3",
    "eager": "rlexp, gymnasium",
    "fast": "rlexp, envpool",
    "compiled": "rlexp, envpool, compiled",
    "bare": "rlexp, out of the box without EnvPool",
    "auto": "rlexp, out of the box",
}


def has_peer(python: str) -> bool:
    return subprocess.run([python, "-c", "import stable_baselines3"], capture_output=True).returncode == 0


def peer_versions(python: str) -> dict[str, str]:
    names = ("stable_baselines3", "torch", "gymnasium", "mujoco")
    code = f"import json, common; print(json.dumps(common.versions(*{names})))"
    return json.loads(common.run([python, "-c", code], PYTHONPATH=str(Path(__file__).parent)))


def measure(python: str, side: str, env: str, *options: Any) -> dict[str, Any]:
    """One run of one side in a process of its own."""
    return json.loads(common.run([python, WORKER, side, env, *map(str, options)]).splitlines()[-1])


def rows(env: str, found: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    """Table rows of one environment: medians over rounds, ratios to the peer where there is one."""
    out = []
    for side, runs in found.items():
        mid = {name: median(r[name] for r in runs) for name in runs[0] if name != "episodes"}
        ratio = {"seconds": "", "cpu": ""}
        if "sb3" in found:
            ratio = {k: f"{median(r[k] for r in found['sb3']) / mid[k]:.2f}" for k in ratio}
        rest = mid["seconds"] - mid["simulator"] - mid["update"]
        out.append(
            [
                ENVS[env],
                NAMES[side],
                f"{ITERATION / mid['seconds']:.0f}",
                ratio["seconds"],
                ratio["cpu"],
                *(f"{1e3 * x:.0f}" for x in (mid["simulator"], mid["update"], rest)),
                f"{mid['warmup']:.1f}",
            ]
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has stable_baselines3")
    parser.add_argument("--envs", nargs="+", choices=ENVS, default=list(ENVS))
    parser.add_argument("--sides", nargs="+", choices=tuple(OURS), default=list(OURS), help="ours")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=6, help=f"counted iterations of {ITERATION} steps")
    parser.add_argument("--json", type=Path, help="write every measurement there")
    args = parser.parse_args()

    sides = {"sb3": args.peer_python, **dict.fromkeys(args.sides, sys.executable)}
    packages = {"rlexp's": common.versions("torch", "gymnasium", "mujoco", "envpool")}
    if has_peer(args.peer_python):
        packages["peer's"] = peer_versions(args.peer_python)
    else:
        del sides["sb3"]
        print("stable_baselines3 cannot be imported: only rlexp is measured (--peer-python PATH names another python)")
    result: dict[str, Any] = {
        "command": shlex.join(["python", *sys.argv]),
        "machine": common.machine(),
        "versions": packages,
        "runs": {},
    }
    table: list[list[str]] = []
    for env in args.envs:
        found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        for i in range(args.rounds):
            for side, python in sides.items():
                found[side].append(measure(python, side, env, "--iterations", args.iterations, "--seed", i))
                print(f"{env} round {i} {side}: {ITERATION / found[side][-1]['seconds']:.0f} steps/s", file=sys.stderr)
        result["runs"][env] = found
        table += rows(env, found)
    head = [
        "environment",
        "side",
        "steps/s",
        "ratio",
        "ratio in CPU time",
        "simulator ms",
        "update ms",
        "rest ms",
        "first s",
    ]
    print(f"\n`{result['command']}`\n")
    print(result["machine"])
    for who, names in packages.items():
        print(f"{who}: " + ", ".join(f"{name} {version}" for name, version in names.items()))
    print("\n" + common.table(head, table))
    common.save(args.json, result)


if __name__ == "__main__":
    main()
