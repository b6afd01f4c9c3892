"""One measurement of `gpu.py`, in a process of its own; prints one line of JSON.

    python benchmarks/gpu_worker.py correct sac
    python benchmarks/gpu_worker.py speed dt algo.precision=bfloat16

`correct` trains an algorithm's toy on the CPU and on the device, same seed, for some updates; then again on the device,
and there without CUDA graphs. `speed` counts updates, sampling and metrics included, on made-up episodes of the size of
the real ones; `act` times what an evaluation asks of a policy between two steps of its simulators.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rlexp.algos.base import Algorithm, Task  # noqa: E402
from rlexp.buffers.dataset import Dataset  # noqa: E402
from rlexp.envs.make import describe  # noqa: E402
from rlexp.envs.spec import EnvSpec  # noqa: E402
from rlexp.experiment.compose import compose  # noqa: E402
from rlexp.experiment.config import RunConfig, build  # noqa: E402
from rlexp.experiment.task import make_task  # noqa: E402
from rlexp.nn import capture  # noqa: E402
from rlexp.util import seeding  # noqa: E402

UPDATES, STEPS = 12, 3  # at least, of a correctness check: more than are made before a graph is recorded
WORK = {  # what is trained, steps of an episode, episodes, environments of an evaluation
    "dt": (["algo=dt", "env=halfcheetah"], 1000, 1000, 10),
    "diffusion": (["algo=diffusion", "env=bipedal"], 1060, 100, 20),
    "bc": (["algo=bc", "env=bipedal"], 1060, 100, 20),
    "sac": (["algo=sac", "env=hopper", "algo.learning_starts=500"], 0, 0, 10),
    "ppo": (["algo=ppo", "env=hopper"], 0, 0, 10),
}


def built(words: list[str]) -> RunConfig:
    return build(compose(words))


def toy(algo: str) -> list[str]:
    """The smallest task of an algorithm. Dropout masks are drawn on the device, so that there is none."""
    words = [f"+experiment={algo}_toy"] if (ROOT / "conf" / "experiment" / f"{algo}_toy.yaml").is_file() else []
    return [*(words or [f"algo={algo}", "env=lineworld"]), *(["algo.dropout=0"] if algo == "dt" else [])]


def train(algo: str, device: str) -> tuple[list[dict[str, float]], torch.Tensor]:
    """Metrics of some steps, and the policy's numbers after them."""
    run = built([*toy(algo), f"train.device={device}"])
    seeding.seed_globals(seeding.stream(0, "init"))
    learner, rows, updates = run.algo_class(run.algo, make_task(run, describe(run.env), 0)), [], 0
    while updates < UPDATES or len(rows) < STEPS:
        progress = learner.step()
        updates += progress.updates
        rows.append(dict(progress.metrics))
    return rows, torch.cat([x.double().flatten() for x in tensors(learner.policy().state_dict())])


def tensors(tree: Any) -> list[torch.Tensor]:
    """All numbers of a policy's state, on the CPU."""
    if isinstance(tree, dict):
        return [x for key in sorted(tree) for x in tensors(tree[key])]
    return [torch.as_tensor(tree).cpu()]


def correct(algo: str, device: str) -> dict[str, Any]:
    """How far the device is from the CPU, ‖difference‖ / ‖CPU‖; whether it repeats itself and graphs change nothing."""
    rows, numbers = train(algo, "cpu")
    with mock.patch.object(
        capture.Captured, "_record", autospec=True, side_effect=capture.Captured._record
    ) as recorded:
        there, theirs = train(algo, device)
    again = train(algo, device)
    with mock.patch.object(capture, "EAGER", math.inf):
        eager = train(algo, device)
    metrics = [abs(a[k] - b[k]) / max(abs(a[k]), 1e-3) for a, b in zip(rows, there, strict=True) for k in a]
    return {
        "algo": algo,
        "steps": len(rows),
        "parameters": float((theirs - numbers).norm() / numbers.norm()),
        "metrics": max(metrics),
        "first": max(metrics[: len(rows[0])]),
        "recordings": recorded.call_count,
        "repeats": same((there, theirs), again),
        "graphs": same((there, theirs), eager),
    }


def same(a: Any, b: Any) -> bool:
    return a[0] == b[0] and torch.equal(a[1], b[1])


def made_up(spec: EnvSpec, length: int, episodes: int) -> Dataset:
    rng, n = np.random.default_rng(0), length * episodes
    obs_NO = rng.standard_normal((n, spec.obs_dim), np.float32)
    action_NA = rng.uniform(-1, 1, (n, spec.n_actions)).astype(np.float32)
    ended_E, reward_N = np.zeros(episodes, bool), rng.uniform(0, 5, n).astype(np.float32)
    return Dataset("made up", obs_NO, action_NA, reward_N, np.full(episodes, length), ended_E, obs_NO[:episodes])


def learner_of(name: str, device: str, words: list[str]) -> Algorithm:
    options, length, episodes, _ = WORK[name]
    run = built([*options, f"train.device={device}", *words])
    spec = describe(run.env)
    data = made_up(spec, length, episodes) if length else None
    seeding.seed_globals(seeding.stream(0, "init"))
    return run.algo_class(run.algo, Task(run.env, spec, run.policy, 0, device, run.train.compile, data))


def speed(name: str, device: str, words: list[str], seconds: float, at: float) -> dict[str, Any]:
    """Updates per second, and ms of one action (plan) of an evaluation's environments."""
    learner, began = learner_of(name, device, words), time.perf_counter()
    done = 0
    while done < (100 if device == "cuda" else 20):
        done += learner.step().updates
    ready = time.perf_counter() - began
    late = turn(at)
    start, updates = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        updates += learner.step().updates
    rate = updates / (time.perf_counter() - start)
    memory = torch.cuda.max_memory_reserved() / 2**20 if device == "cuda" else 0.0
    return {"updates_per_second": rate, "first_seconds": ready, "late_seconds": late, "mib": memory}


def turn(at: float) -> float:
    """Wait for one's turn; how many seconds too late it is."""
    time.sleep(max(0.0, at - time.time()))
    return time.time() - at if at else 0.0


def act(name: str, device: str, words: list[str], seconds: float, at: float) -> dict[str, Any]:
    learner, lanes = learner_of(name, device, words), WORK[name][3]
    policy, rng = learner.policy(), np.random.default_rng(0)
    policy.start(lanes, rng)
    if name == "diffusion":
        policy.execute = 1  # type: ignore[attr-defined]
    times: list[float] = []
    turn(at)
    while sum(times) < seconds or len(times) < 60:
        obs_BO, start = rng.standard_normal((lanes, learner.task.spec.obs_dim), np.float32), time.perf_counter()
        policy.act(obs_BO)
        times.append(time.perf_counter() - start)
        policy.observe(np.zeros(lanes))
        if device == "cpu" and len(times) >= 30:
            break
    return {"ms": 1000 * float(np.median(times[25:])), "environments": lanes}


def profile(name: str, device: str, words: list[str], at: float) -> dict[str, Any]:
    """Kernels of one eager update, and the GPU's own time in them."""
    from torch.profiler import ProfilerActivity

    capture.EAGER = math.inf  # type: ignore[assignment]
    learner = learner_of(name, device, ["algo.log_every=1", *words])
    for _ in range(3):
        learner.step()
    turn(at)
    with torch.profiler.profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        learner.step()
        if device == "cuda":
            torch.cuda.synchronize()
    kernels = [e for e in seen.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    total: dict[str, list[float]] = {}
    for e in kernels:
        total.setdefault(e.name[:90], []).append(e.device_time)
    top = sorted(total.items(), key=lambda item: -sum(item[1]))[:12]
    longest = [[name, len(times), round(sum(times), 1)] for name, times in top]
    return {"kernels": len(kernels), "gpu_ms": sum(e.device_time for e in kernels) / 1000, "longest": longest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("correct", "speed", "act", "profile"))
    parser.add_argument("name")
    parser.add_argument("words", nargs="*", help="options of the run")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--at", type=float, default=0.0, help="Unix time at which counting begins")
    parser.add_argument("--eager", action="store_true", help="without CUDA graphs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.eager:
        capture.EAGER = math.inf  # type: ignore[assignment]
    if args.what == "correct":
        found = correct(args.name, args.device)
    elif args.what == "speed":
        found = speed(args.name, args.device, args.words, args.seconds, args.at)
    elif args.what == "act":
        found = act(args.name, args.device, args.words, args.seconds, args.at)
    else:
        found = profile(args.name, args.device, args.words, args.at)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
