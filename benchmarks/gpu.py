"""What a GPU computes, how fast, and reference runs made on it: one call, at most `--seconds` long, to be called again.

    python benchmarks/gpu.py --out runs/gpu --seconds 560

1. correctness: each algorithm's toy, some updates on the CPU and on the GPU: how far apart they are.
2. throughput: updates per second of the networks that want a GPU, alone and several seeds side by side.
3. reference runs, those of most value first, each an ordinary command; the cores make the data sets before.

What is done stands in OUT/results.jsonl and in runs/, and is not done again; runs that were stopped go on. At the end
each run is packed into OUT/<run>.tar.gz, with every seed's last policy but without full checkpoints. `--mps` lets
processes share the card at the same time (NVIDIA's MPS) rather than in turns; it changes no setting of the card.
"""

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import common

WORKER = str(Path(__file__).with_name("gpu_worker.py"))
ALGOS = ("bc", "cmaes", "dagger", "diffusion", "dpo", "dt", "ppo", "rlhf", "sac", "vpg")
SPEEDS = {  # what to measure: worker's arguments, processes side by side
    "dt": (["speed", "dt"], 1),
    "dt, eager": (["speed", "dt", "--eager"], 1),
    "dt, bfloat16": (["speed", "dt", "algo.precision=bfloat16"], 1),
    "dt, five seeds": (["speed", "dt"], 5),
    "dt, ten seeds": (["speed", "dt"], 10),
    "diffusion": (["speed", "diffusion"], 1),
    "diffusion, eager": (["speed", "diffusion", "--eager"], 1),
    "diffusion, three seeds": (["speed", "diffusion"], 3),
    "sac, with its steps": (["speed", "sac"], 1),
    "ppo, with its steps": (["speed", "ppo"], 1),
    "dt, acting": (["act", "dt"], 1),
    "dt, acting, eager": (["act", "dt", "--eager"], 1),
    "diffusion, acting": (["act", "diffusion"], 1),
    "dt, profile": (["profile", "dt"], 1),
    "diffusion, profile": (["profile", "diffusion"], 1),
    "dt, compiled": (["speed", "dt", "train.compile=true"], 1),
    "diffusion, compiled": (["speed", "diffusion", "train.compile=true"], 1),
}
ROBOTS = ("hopper", "halfcheetah", "walker2d")
FIVE, THREE, FRESH = "seeds=[0,1,2,3,4]", "seeds=[0,1,2]", "seeds=[5]"
ARMS = ("algo.obs_coef=1", "algo.return_coef=1", "algo.obs_coef=1 algo.return_coef=1")
RUNS = {  # options of main_mp.py, of most value first, and the data set that each learns from
    f"algo=diffusion env=bipedal {FIVE}": "bipedal/expert",
    **{f"algo=dt env={env} {FIVE}": f"{env}/medium" for env in ROBOTS},
    f"algo=dt env=hopper algo.ema_decay=0.999 {FIVE}": "hopper/medium",
    **{
        f"algo=dt env={env} buffer.dataset={kind} {THREE}": f"{env}/{kind}"
        for kind in ("expert", "medium-replay")
        for env in ROBOTS
    },
    **{f"algo=dt env={env} {FRESH}": f"{env}/medium" for env in ROBOTS},
    **{f"algo=dt env=hopper {arm} {THREE}": "hopper/medium" for arm in ARMS},
}
START = 15.0  # seconds, and half a second for each process: until all have started


class Results:
    """OUT/results.jsonl: a line for every part that is done."""

    def __init__(self, path: Path):
        self.path = path
        self.done: dict[str, dict[str, Any]] = {}
        for line in path.open() if path.exists() else ():
            row = json.loads(line)
            self.done[row["part"]] = row

    def add(self, part: str, **found: Any) -> None:
        self.done[part] = {"part": part, "machine": common.machine(), **found}
        with self.path.open("a") as file:
            file.write(json.dumps(self.done[part]) + "\n")


def worker(arguments: list[str], device: str, deadline: float) -> dict[str, Any]:
    """What one measurement found, or {"error": its last words}."""
    command = [sys.executable, WORKER, *arguments, "--device", device]
    try:
        left = max(1.0, deadline - time.time())
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=left, env={**os.environ, **common.ONE_THREAD}
        )
        return json.loads(done.stdout.splitlines()[-1]) if not done.returncode else {"error": done.stderr[-1500:]}
    except subprocess.TimeoutExpired:
        return {"error": "no time left"}


def correctness(results: Results, algos: list[str], device: str, deadline: float) -> None:
    missing = [algo for algo in algos if f"correct {algo}" not in results.done]
    with ThreadPoolExecutor(max(1, min(10, (os.cpu_count() or 1) - 1))) as pool:
        for algo, found in zip(
            missing, pool.map(lambda a: worker(["correct", a], device, deadline), missing), strict=True
        ):
            if found.get("error") != "no time left":
                results.add(f"correct {algo}", **found)


def throughput(results: Results, names: list[str], device: str, seconds: float, deadline: float, mps: bool) -> None:
    """Processes start together, and measure one part after another: starting takes longer than measuring."""
    parts = {f"speed {name}{', MPS' if mps else ''}": SPEEDS[name] for name in names}
    missing = {part: work for part, work in parts.items() if part not in results.done}
    jobs, at = [], time.time() + START + sum(processes for _, processes in missing.values()) / 2
    for part, (words, processes) in missing.items():
        jobs += [(part, [*words, "--seconds", str(seconds), "--at", str(at)])] * processes
        at += seconds + 1.5
    with ThreadPoolExecutor(max(1, len(jobs))) as pool:
        found = list(pool.map(lambda job: worker(job[1], device, deadline), jobs))
    for part in missing:
        each = [one for (name, _), one in zip(jobs, found, strict=True) if name == part]
        if not any(one.get("error") == "no time left" for one in each):
            results.add(part, each=each)


def make(names: list[str], ready: set[str], out: Path, deadline: float) -> None:
    """Make data sets one after another, each on all cores, which the other parts have first."""
    for name in names:
        with (out / "data.log").open("ab") as log, contextlib.suppress(subprocess.TimeoutExpired):
            command = ["nice", "-n", "19", sys.executable, "-m", "rlexp.cli.main", "data", "make", name]
            subprocess.run(command, cwd=common.ROOT, stdout=log, stderr=log, timeout=max(1.0, deadline - time.time()))
            ready.add(name)


def runs(out: Path, commands: dict[str, list[str]], ready: set[str], deadline: float, together: int) -> None:
    """Run ordinary commands whose data set is ready, as many seeds at once as `together` allows, until all are done or
    time is over."""
    waiting, busy = dict(commands), dict[subprocess.Popen[bytes], int]()
    while (waiting or busy) and time.time() < deadline:
        for process in [p for p in busy if p.poll() is not None]:
            del busy[process]
            pack(out, commands)
        free = together - sum(busy.values())
        able = [options for options in waiting if RUNS.get(options) is None or RUNS[options] in ready]
        seeds = len(able[0].partition("seeds=")[2].partition("]")[0].split(",")) if able else 0
        if not able or (busy and seeds > free):
            time.sleep(0.5)
            continue
        words = waiting.pop(able[0])
        if (folder := made(words)) is not None:
            if all(seed["status"] == "done" for seed in record(folder)["seeds"].values()):
                continue
            words = [words[0], f"resume={folder}"]
        log = (out / "runs.log").open("ab")
        busy[subprocess.Popen([sys.executable, *words], cwd=common.ROOT, stdout=log, stderr=log)] = seeds
    for process in busy:
        process.send_signal(signal.SIGTERM)  # the record says so, and the run can go on
    for process in busy:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(1.0, deadline + 15 - time.time()))


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


def made(words: list[str]) -> Path | None:
    """The folder of the run that this command made before, if any."""
    folders = [file.parent for file in sorted((common.ROOT / "runs").glob("*/*/run.json"))]
    return next((f for f in folders if record(f)["command"] == shlex.join(["python", *words])), None)


def pack(out: Path, commands: dict[str, list[str]], unfinished: bool = False) -> None:
    """OUT/<run>.tar.gz of runs that have ended: all but TensorBoard's files, full checkpoints and best policies."""
    for folder in filter(None, map(made, commands.values())):
        target = out / f"{folder.name}.tar.gz"
        if target.exists() or not (unfinished or record(folder)["finished"]):
            continue
        with tarfile.open(target, "w:gz", compresslevel=1) as archive:
            for path in sorted(folder.rglob("*")):
                dropped = path.name.startswith(("step_", "best.", "latest", ".")) or "tensorboard" in path.parts
                if path.is_file() and not dropped:
                    archive.add(path, path.relative_to(common.ROOT / "runs"))


@contextlib.contextmanager
def sharing(out: Path, mps: bool) -> Iterator[None]:
    """Within it, where `mps`, processes share the card at the same time."""
    if not mps:
        yield
        return
    os.environ["CUDA_MPS_PIPE_DIRECTORY"] = os.environ["CUDA_MPS_LOG_DIRECTORY"] = str(out / "mps")
    (out / "mps").mkdir(exist_ok=True)
    control = shutil.which("nvidia-cuda-mps-control") or "nvidia-cuda-mps-control"
    subprocess.run([control, "-d"], check=True)
    try:
        yield
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run([control], input=b"quit\n", timeout=10)
        del os.environ["CUDA_MPS_PIPE_DIRECTORY"], os.environ["CUDA_MPS_LOG_DIRECTORY"]


def report(results: Results, folders: list[Path]) -> str:
    """Markdown tables of all that is done."""
    checks, rates, others, seeds = [], [], [], []
    for part, row in results.done.items():
        name, one = part.partition(" ")[2], row.get("each", [row])[0]
        if "error" in one:
            others.append([name, one["error"].strip()[-300:].replace("\n", " ")])
        elif part.startswith("correct "):
            numbers = [f"{row[key]:.1e}" for key in ("first", "metrics", "parameters")]
            answers = ["yes" if row[key] else "no" for key in ("repeats", "graphs")]
            checks.append([name, row["steps"], *numbers, row["recordings"], *answers])
        elif "updates_per_second" in one:
            each = [x.get("updates_per_second", 0.0) for x in row["each"]]
            cells = [f"{sum(each):.1f}", f"{min(each):.1f} to {max(each):.1f}", f"{one['first_seconds']:.1f}"]
            rates.append([name, len(each), *cells, f"{one['mib']:.0f}"])
        elif "ms" in one:
            others.append([name, f"{one['ms']:.2f} ms for {one['environments']} environments"])
        elif "kernels" in one:
            others.append([name, f"{one['kernels']} kernels of one eager update take {one['gpu_ms']:.2f} ms"])
    for folder in folders:
        facts = record(folder)
        data = ((facts.get("inputs") or {}).get("buffer") or {}).get("digest", "")
        for seed, its in facts["seeds"].items():
            scores = [f"{(its.get('final') or {}).get(key, float('nan')):.1f}" for key in ("return_mean", "score")]
            seeds.append(
                [f"`{facts['command']}`", data, seed, its["status"], its["step"], round(its.get("seconds", 0)), *scores]
            )
    heads = (
        [
            "algorithm",
            "steps",
            "first metrics",
            "all metrics",
            "policy",
            "recordings",
            "repeats",
            "same without graphs",
        ],
        ["work", "processes", "updates/s", "of each", "first 100 updates, s", "MiB of each"],
        ["work", ""],
        ["run", "data", "seed", "status", "updates", "seconds", "last return", "score"],
    )
    tables = zip(heads, (checks, rates, others, seeds), strict=True)
    return "\n\n".join(common.table(head, rows) for head, rows in tables if rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--seconds", type=float, default=560, help="of the whole call")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", nargs="+", choices=("correctness", "throughput", "runs"),
                        default=["correctness", "throughput", "runs"])  # fmt: skip
    parser.add_argument("--algos", nargs="+", choices=ALGOS, default=list(ALGOS))
    parser.add_argument("--speeds", nargs="+", choices=tuple(SPEEDS), default=list(SPEEDS))
    parser.add_argument("--measure-seconds", type=float, default=5.0, help="of each throughput")
    parser.add_argument("--runs", nargs="+", help="options of the runs instead of the usual ones, one string a run")
    parser.add_argument("--together", type=int, default=(os.cpu_count() or 1) + 2, help="seeds trained at once")
    parser.add_argument("--mps", action="store_true")
    parser.add_argument("more", nargs="*", help="options of every run")
    args = parser.parse_args()
    deadline = time.time() + args.seconds
    args.out.mkdir(parents=True, exist_ok=True)
    out, results = args.out.resolve(), Results(args.out / "results.jsonl")
    commands = {
        options: ["main_mp.py", *shlex.split(options), f"train.device={args.device}", "video=none", *args.more]
        for options in args.runs or RUNS
    }
    ready: set[str] = set()
    names = list(dict.fromkeys(RUNS[options] for options in commands if options in RUNS))
    if "runs" in args.parts:
        threading.Thread(target=make, args=(names, ready, out, deadline), daemon=True).start()
    if "correctness" in args.parts:
        correctness(results, args.algos, args.device, deadline)
    with sharing(out, args.mps):
        if "throughput" in args.parts:
            throughput(results, args.speeds, args.device, args.measure_seconds, deadline, args.mps)
        if "runs" in args.parts:
            runs(out, commands, ready, deadline - 30, args.together)
    pack(out, commands, unfinished=True)
    found = list(filter(None, map(made, commands.values())))
    print(f"`{shlex.join(['python', *sys.argv])}`\n\n{common.machine()}, {common.gpu()}\n\n{report(results, found)}")


if __name__ == "__main__":
    main()
