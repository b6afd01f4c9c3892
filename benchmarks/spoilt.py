"""What `rlexp check` says of runs that were spoilt on purpose, at one, three and five seeds: PPO on CartPole.

    python benchmarks/spoilt.py [--runs FOLDER]

Trains seeds 10 to 14, which the reference has not seen, of the default settings and of ten spoilt ones (about 40 s a
seed and core), and prints a row for each. What has been trained is kept in FOLDER: called again, the rest is trained.
"""

import argparse
import dataclasses
import subprocess
import sys
from pathlib import Path

from rlexp.report import judge, sides
from rlexp.report.history import Run
from rlexp.report.references import entries

ROOT = Path(__file__).parent.parent
REFERENCE = "ppo_cartpole"
SEEDS = (10, 11, 12, 13, 14)
KINDS = {
    "default": [],
    "lr × 0.01": ["algo.lr=1e-5"],
    "lr × 30": ["algo.lr=3e-2"],
    "γ 0.5": ["algo.gamma=0.5"],
    "λ 0": ["algo.gae_lambda=0"],
    "half the budget": ["train.budget=50000", "algo.anneal_steps=50000"],
    "one epoch": ["algo.update_epochs=1"],
    "advantages not normalised": ["algo.normalise_advantage=false"],
    "ε 10: no clipping": ["algo.clip_coef=10"],
    "network of two units": ["policy.hidden=[2]"],
    "CartPole-v0: 200 steps": ["env.id=CartPole-v0", "env.max_episode_steps=200"],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "spoilt")
    args = parser.parse_args()
    print("| kind | 1 seed | 3 seeds | 5 seeds |\n|---|---|---|---|", flush=True)
    for kind, words in KINDS.items():
        run = _trained(args.runs / kind.replace(" ", "_").replace(":", ""), words)
        cells = [_said(run, seeds) for seeds in (1, 3, 5)]
        print(f"| {kind} | {' | '.join(cells)} |", flush=True)
    return 0


def _trained(place: Path, words: list[str]) -> Path:
    """The run folder of these options, trained if it is not there, continued if it is not whole."""
    seeds = ",".join(map(str, SEEDS))
    found = sorted(place.glob("*/*/run.json"))
    command = [sys.executable, ROOT / "main.py"]
    if found:
        command += [f"resume='{found[-1].parent}'"]
    else:
        command += ["algo=ppo", "env=cartpole", f"seeds=[{seeds}]", f"runs='{place}'", "video=none", "logger=none"]
        command += words
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (run,) = place.glob("*/*")
    return run


def _said(folder: Path, seeds: int) -> str:
    """The verdict on the first so many seeds."""
    run = Run.read(folder)
    kept = [str(seed) for seed in SEEDS[:seeds]]
    record = {**run.record, "seeds": {seed: run.record["seeds"][seed] for seed in kept}}
    part = dataclasses.replace(run, record=record, rows={seed: run.rows[seed] for seed in kept})
    judged = judge.judge(sides.of_run(folder.name, part), sides.of_entry(entries()[REFERENCE]))
    said = judged.word.replace("_", " ")
    if judged.measure is None:
        return said
    measure = judged.measure
    half = ""
    if measure.half_width is not None:
        half = f" ± {measure.half_width:.0f}"
    return f"{said}, {measure.name} {measure.difference:+.0f}{half}"


if __name__ == "__main__":
    sys.exit(main())
