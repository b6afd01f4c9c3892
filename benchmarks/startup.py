"""How soon do commands that need no training answer? And that those which should not do not import torch.

python benchmarks/startup.py
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median

import common

LIST = "import sys; sys.argv = ['rlexp', 'list']; from rlexp.cli import main; sys.exit(main())"
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "python main.py --help": ["main.py", "--help"],
    "python main.py --cfg job": ["main.py", "--cfg", "job"],
    "rlexp list": ["-c", LIST],
    "python -c 'import torch'": ["-c", "import torch"],
}
LIGHT = ("python main.py --help", "python main.py --cfg job")  # must answer without torch


def seconds(words: list[str]) -> float:
    start = time.perf_counter()
    common.run([sys.executable, *words])
    return time.perf_counter() - start


def imports_torch(words: list[str]) -> bool:
    """Whether `python words` imports torch, by its own account at its end."""
    if words[0] == "-c":
        code = words[1]
    else:
        code = f"import runpy, sys; sys.argv = {words!r}; runpy.run_path({words[0]!r}, run_name='__main__')"
    report = "import atexit, sys; atexit.register(lambda: print('\\ntorch imported:', 'torch' in sys.modules)); "
    return common.run([sys.executable, "-c", report + code], PYTHONPATH=str(common.ROOT)).endswith(": True\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write every measurement there")
    args = parser.parse_args()

    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for words in COMMANDS.values():  # once without the clock: byte code is written, files are cached
        seconds(words)
    for _ in range(args.rounds):
        for name, words in COMMANDS.items():
            times[name].append(seconds(words))
    heavy = {name: imports_torch(words) for name, words in COMMANDS.items()}
    rows = [
        [f"`{name}`", f"{median(found):.2f}", f"{min(found):.2f}", "yes" if heavy[name] else "no"]
        for name, found in times.items()
    ]
    print(f"{common.machine()}\n")
    print(common.table(["command", "median s", "fastest s", "imports torch"], rows))
    common.save(args.json, {"machine": common.machine(), "seconds": times, "imports_torch": heavy})
    if wrong := [name for name in LIGHT if heavy[name]]:
        raise SystemExit(f"imports torch: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
