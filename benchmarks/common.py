"""What the benchmarks share: running a command, naming the machine, writing a table. Standard library only."""

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def run(command: Sequence[str], **env: str) -> str:
    """Standard output of `command`, run from the repository's root; what it wrote is raised where it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **ONE_THREAD, **env})
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nexit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Side:
    """A process that waits for its turns, as `take_turns` does in it."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]):
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **env, "OMP_WAIT_POLICY": "PASSIVE"},
        )
        self.facts = self._answer("ready")
        self.turns: list[dict[str, float]] = []

    def _answer(self, word: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:  # libraries print there too
            if line.startswith(word + " "):
                return json.loads(line.removeprefix(word))
        raise SystemExit(f"{shlex.join(map(str, self.process.args))}\nhas ended")  # type: ignore[arg-type]

    def turn(self, updates: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{updates}\n")
        self.process.stdin.flush()
        self.turns.append(self._answer("turn"))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def ratio(self, first: "Side", clock: str) -> float:
        """How many times as fast as `first` it was, the median over rounds."""
        return median(theirs[clock] / our[clock] for theirs, our in zip(first.turns, self.turns, strict=True))


def take_turns(update: Callable[[], Any], facts: Mapping[str, Any]) -> None:
    """For every line `n` on standard input update n times, and print the seconds and processor seconds of each."""
    print("ready", json.dumps(facts), flush=True)
    for line in sys.stdin:
        n = int(line)
        wall = time.perf_counter()
        cpu = time.process_time()
        for _ in range(n):
            update()
        took = {"seconds": (time.perf_counter() - wall) / n, "cpu": (time.process_time() - cpu) / n}
        print("turn", json.dumps(took), flush=True)


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of `packages` in this interpreter, and its own."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def machine() -> str:
    """CPU model, cores, and how busy they are now."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        name = next((x.split(":")[1].strip() for x in cpuinfo.open() if x.startswith("model name")), name)
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{name}, {os.cpu_count()} cores{load}"


def gpu() -> str:
    """Model of the GPU, and the versions of PyTorch and CUDA."""
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def save(path: Path | None, result: Any) -> None:
    """Write `result` as JSON where a path is given."""
    if path is not None:
        path.write_text(json.dumps(result, indent=1) + "\n")
