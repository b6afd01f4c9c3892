"""Updates per second of the Decision Transformer, side by side with d3rlpy's and with plain PyTorch (see dt_worker.py).

    python benchmarks/dt_throughput.py --peer-python PATH

Each side is a process of its own; they take turns of a few updates, while the others wait, so that a machine that slows
down slows all of them. The table gives medians over turns, and medians of the ratios within a round. GFLOP/s counts the
products that a side does, from torch's own counter; the last row is a product of large matrices.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import common

WORKER = str(Path(__file__).with_name("dt_worker.py"))
NAMES = {
    "d3rlpy": "d3rlpy",
    "plain": "plain PyTorch",
    "rlexp": "rlexp",
    "bfloat16": "rlexp, bfloat16",
    "compiled": "rlexp, compiled",
    "matmul": "2048³ product",
}


class Side:
    """A worker that waits for its turns."""

    def __init__(self, python: str, side: str, threads: int, dropout: float):
        count = str(threads)
        env = {**os.environ, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OMP_WAIT_POLICY": "PASSIVE"}
        self.process = subprocess.Popen(
            [python, WORKER, side, "--threads", count, "--dropout", str(dropout)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=env,
        )
        self.flops = self._answer("ready")["flops"]
        self.turns: list[dict[str, float]] = []

    def _answer(self, word: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:  # d3rlpy prints there too
            if line.startswith(word + " "):
                return json.loads(line.removeprefix(word))
        raise SystemExit(f"{shlex.join(map(str, self.process.args))}\nhas ended")  # type: ignore[arg-type]

    def turn(self, updates: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{updates}\n")
        self.process.stdin.flush()
        self.turns.append(self._answer("turn"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has d3rlpy")
    parser.add_argument("--sides", nargs="+", choices=tuple(NAMES), default=["d3rlpy", "plain", "rlexp", "matmul"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--updates", type=int, default=10, help="of each side in a round")
    parser.add_argument("--json", type=Path, help="write every measurement there")
    args = parser.parse_args()

    python = {side: args.peer_python if side == "d3rlpy" else sys.executable for side in args.sides}
    sides = {side: Side(python[side], side, args.threads, args.dropout) for side in args.sides}
    for i in range(args.rounds):
        for side in sides.values():
            side.turn(args.updates)
        rates = [f"{name} {1 / side.turns[-1]['seconds']:.2f}" for name, side in sides.items()]
        print(f"round {i}, updates/s: {', '.join(rates)}", file=sys.stderr)
    for side in sides.values():
        assert side.process.stdin is not None
        side.process.stdin.close()

    first = next(iter(sides.values()))
    rows = []
    for name, side in sides.items():
        row = [NAMES[name], f"{1 / median(t['seconds'] for t in side.turns):.2f}"]
        for clock in ("seconds", "cpu"):
            ratios = [a[clock] / b[clock] for a, b in zip(first.turns, side.turns, strict=True)]
            row.append("" if name == "matmul" else f"{median(ratios):.2f}")
        for clock in ("seconds", "cpu"):
            rate = side.flops / median(t[clock] for t in side.turns) / 1e9
            row.append(f"{rate:.0f}" if side.flops else "")
        rows.append([*row, f"{side.flops / 1e9:.1f}" if side.flops else ""])
    command = shlex.join(["python", *sys.argv])
    print(f"\n`{command}`\n\n{common.machine()}; {args.threads} threads, dropout {args.dropout}\n")
    head = ["side", "updates/s", "ratio", "ratio in CPU time", "GFLOP/s", "GFLOP per CPU second", "GFLOP per update"]
    print(common.table(head, rows))
    common.save(
        args.json, {"command": command, "machine": common.machine(), "turns": {n: s.turns for n, s in sides.items()}}
    )


if __name__ == "__main__":
    main()
