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
FIVE, THREE = "seeds=[0,1,2,3,4]", "seeds=[0,1,2]"
RUNS = [  # options of main_mp.py, of most value first
    ["algo=dt", "env=hopper", FIVE],
    ["algo=dt", "env=halfcheetah", FIVE],
    ["algo=dt", "env=walker2d", FIVE],
    ["algo=diffusion", "env=bipedal", THREE],
    *(
        ["algo=dt", f"env={env}", f"buffer.dataset={data}", THREE]
        for data in ("medium-replay", "expert")
        for env in ("hopper", "halfcheetah", "walker2d")
    ),
]
DATA = ["hopper/medium", "halfcheetah/medium", "walker2d/medium", "bipedal/expert"]


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


def runs(out: Path, commands: list[list[str]], deadline: float, together: int) -> None:
    """Run ordinary commands, as many seeds of them at once as `together` allows, until all are done or time is over."""
    waiting, busy = list(commands), dict[subprocess.Popen[bytes], int]()
    while waiting or busy:
        for process in [p for p in busy if p.poll() is not None]:
            del busy[process]
        seeds = len(next(word for word in waiting[0] if word.startswith("seeds=")).split(",")) if waiting else 0
        if time.time() > deadline:
            for process in busy:
                process.send_signal(signal.SIGTERM)  # the record says so, and the run can go on
            for process in busy:
                process.wait(20)
            return
        if not waiting or (busy and sum(busy.values()) + seeds > together):
            time.sleep(0.5)
            continue
        words = waiting.pop(0)
        if (folder := made(words)) is not None:
            if all(seed["status"] == "done" for seed in record(folder)["seeds"].values()):
                continue
            words = [words[0], f"resume={folder}"]
        log = (out / "runs.log").open("ab")
        busy[subprocess.Popen([sys.executable, *words], cwd=common.ROOT, stdout=log, stderr=log)] = seeds


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


def made(words: list[str]) -> Path | None:
    """The folder of the run that this command made before, if any."""
    folders = [file.parent for file in sorted((common.ROOT / "runs").glob("*/*/run.json"))]
    return next((f for f in folders if record(f)["command"] == shlex.join(["python", *words])), None)


def pack(out: Path, folder: Path) -> None:
    """OUT/<run>.tar.gz: all but TensorBoard's files, full checkpoints and best policies."""
    with tarfile.open(out / f"{folder.name}.tar.gz", "w:gz") as archive:
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
        subprocess.run([control], input=b"quit\n")
        del os.environ["CUDA_MPS_PIPE_DIRECTORY"], os.environ["CUDA_MPS_LOG_DIRECTORY"]


def report(results: Results, commands: list[list[str]]) -> str:
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
    for folder in filter(None, map(made, commands)):
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
    parser.add_argument("--parts", nargs="+", choices=("correctness", "throughput", "data", "runs"),
                        default=["correctness", "throughput", "data", "runs"])  # fmt: skip
    parser.add_argument("--algos", nargs="+", choices=ALGOS, default=list(ALGOS))
    parser.add_argument("--speeds", nargs="+", choices=tuple(SPEEDS), default=list(SPEEDS))
    parser.add_argument("--measure-seconds", type=float, default=5.0, help="of each throughput")
    parser.add_argument("--data", nargs="+", default=DATA, help="data sets that are made first")
    parser.add_argument("--runs", nargs="+", help="options of the runs instead of the usual ones, one string a run")
    parser.add_argument("--together", type=int, default=(os.cpu_count() or 1) + 2, help="seeds trained at once")
    parser.add_argument("--mps", action="store_true")
    parser.add_argument("more", nargs="*", help="options of every run")
    args = parser.parse_args()
    deadline = time.time() + args.seconds
    args.out.mkdir(parents=True, exist_ok=True)
    out, results = args.out.resolve(), Results(args.out / "results.jsonl")
    wanted = [shlex.split(words) for words in args.runs] if args.runs else RUNS
    commands = [["main_mp.py", *words, f"train.device={args.device}", "video=none", *args.more] for words in wanted]
    making = None
    if "data" in args.parts:
        words = ["-m", "rlexp.cli", "data", "make", *args.data]
        making = subprocess.Popen(
            [sys.executable, *words], cwd=common.ROOT, stdout=(out / "data.log").open("ab"), stderr=subprocess.STDOUT
        )
    began = time.time()
    if "correctness" in args.parts:
        correctness(results, args.algos, args.device, deadline)
        print(f"correctness: {time.time() - began:.0f} s", flush=True)
    if making is not None:
        making.wait(max(1.0, deadline - time.time()))
        results.add("data", seconds=time.time() - began, sets=args.data)
        print(f"data: {time.time() - began:.0f} s", flush=True)
    with sharing(out, args.mps):
        if "throughput" in args.parts:
            throughput(results, args.speeds, args.device, args.measure_seconds, deadline, args.mps)
        if "runs" in args.parts:
            runs(out, commands, deadline - 20, args.together)
            for folder in filter(None, map(made, commands)):
                pack(out, folder)
    print(
        f"\n`{shlex.join(['python', *sys.argv])}`\n\n{common.machine()}, {common.gpu()}\n\n{report(results, commands)}"
    )


if __name__ == "__main__":
    main()
