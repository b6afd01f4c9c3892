"""Updates per second of the Decision Transformer, side by side with d3rlpy's and with plain PyTorch (see dt_worker.py).

    python benchmarks/dt_throughput.py --peer-python PATH

Each side is a process of its own; they take turns of a few updates, while the others wait, so that a machine that slows
down slows all of them. The table gives medians over turns, and medians of the ratios within a round. GFLOP/s counts the
products that a side does, from torch's own counter; the last row is a product of large matrices.
"""

import argparse
import shlex
import sys
from pathlib import Path
from statistics import median

import common
from common import Side

WORKER = str(Path(__file__).with_name("dt_worker.py"))
NAMES = {
    "d3rlpy": "d3rlpy",
    "plain": "plain PyTorch",
    "rlexp": "rlexp",
    "bfloat16": "rlexp, bfloat16",
    "compiled": "rlexp, compiled",
    "matmul": "2048³ product",
}


def side(python: str, name: str, threads: int, dropout: float) -> Side:
    count = str(threads)
    command = [python, WORKER, name, "--threads", count, "--dropout", str(dropout)]
    return Side(command, {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count})


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

    python = {name: args.peer_python if name == "d3rlpy" else sys.executable for name in args.sides}
    sides = {name: side(python[name], name, args.threads, args.dropout) for name in args.sides}
    for i in range(args.rounds):
        for each in sides.values():
            each.turn(args.updates)
        rates = [f"{name} {1 / each.turns[-1]['seconds']:.2f}" for name, each in sides.items()]
        print(f"round {i}, updates/s: {', '.join(rates)}", file=sys.stderr)
    for each in sides.values():
        each.close()

    first = next(iter(sides.values()))
    rows = []
    for name, each in sides.items():
        flops = each.facts["flops"]
        row = [NAMES[name], f"{1 / median(t['seconds'] for t in each.turns):.2f}"]
        for clock in ("seconds", "cpu"):
            row.append("" if name == "matmul" else f"{each.ratio(first, clock):.2f}")
        for clock in ("seconds", "cpu"):
            rate = flops / median(t[clock] for t in each.turns) / 1e9
            row.append(f"{rate:.0f}" if flops else "")
        rows.append([*row, f"{flops / 1e9:.1f}" if flops else ""])
    command = shlex.join(["python", *sys.argv])
    print(f"\n`{command}`\n\n{common.machine()}; {args.threads} threads, dropout {args.dropout}\n")
    head = ["side", "updates/s", "ratio", "ratio in CPU time", "GFLOP/s", "GFLOP per CPU second", "GFLOP per update"]
    print(common.table(head, rows))
    common.save(
        args.json, {"command": command, "machine": common.machine(), "turns": {n: s.turns for n, s in sides.items()}}
    )


if __name__ == "__main__":
    main()
