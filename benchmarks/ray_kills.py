"""Kill workers of engine=ray at random moments, and compare every algorithm's metrics with the serial run's.

    python benchmarks/ray_kills.py [--kills 20] [--algos cmaes,ppo] [--seed 0]

Each algorithm trains its toy with four seeds on two workers of a local cluster, again and again in new folders, until
so many of its processes have been killed (SIGKILL, at any moment from a seed's beginning on). metrics.jsonl must be the
serial run's byte for byte, the time column aside, and when the engine has ended none of its processes may live. A
process is spared that two have died before from the same checkpoint: a third would be given up, as it should.
"""

import argparse
import itertools
import os
import random
import re
import signal
import tempfile
import threading
import time
from pathlib import Path

from rlexp.engines.base import Engine, one_by_one
from rlexp.engines.ray import DEATHS, Ray
from rlexp.engines.serial import Serial
from rlexp.experiment import status
from rlexp.experiment.config import RunConfig
from rlexp.experiment.plan import new_folder
from rlexp.experiment.probe import probe
from rlexp.experiment.recorder import Recorder
from rlexp.experiment.work import Work
from rlexp.testing import toy

ALGOS = ("bc", "cmaes", "dagger", "diffusion", "dpo", "dt", "ppo", "rlhf", "sac", "vpg")
SEEDS = 4
SECONDS_TO_END = 15  # for the processes of a cluster that has been shut down


def train(place: Path, run: RunConfig, engine: Engine) -> Path:
    """Train all seeds of `run` in the new folder `place`, which is returned."""
    place.mkdir(parents=True)
    work = Work(place, [(new_folder(place, run, probe(run).inputs), run)])
    work.begin(engine.prepare)
    engine.run(one_by_one(work.jobs()), Recorder(work.folders()))
    work.close(whole=True)
    failed = {seed: facts["message"] for seed, facts in work.runs[0][0].seeds().items() if facts["status"] != "done"}
    assert not failed, failed
    return place


def metrics(run: Path) -> dict[str, str]:
    """The text of every seed's metrics.jsonl, without times."""
    files = run.glob("seed_*/metrics.jsonl")
    return {file.parent.name: re.sub(r'"seconds": [^,}]+', "", file.read_text()) for file in files}


def began(pid: int) -> str:
    """When the process `pid` began, in the system's clock; "" where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def descendants() -> dict[int, str]:
    """This process's children, their children, ..., and when each began."""
    parents = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(file.parent.name)] = int(file.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {pid: began(pid) for pid in found - {os.getpid()}}


class Killer(threading.Thread):
    """Kills a process that trains a seed of the run in `place`, at random moments `pause` seconds apart at most, until
    `left` have been hit or it is told that the run has `ended`."""

    def __init__(self, place: Path, left: int, pause: float, chance: random.Random):
        super().__init__(daemon=True)
        self.place = place
        self.left = left
        self.pause = pause
        self.chance = chance
        self.kills = 0
        self.seen: dict[int, str] = {}  # processes of the cluster
        self.ended = threading.Event()

    def run(self) -> None:
        while self.kills < self.left and not self.ended.wait(self.chance.uniform(0, self.pause)):
            self.seen |= descendants()
            victims = [pid for pid in map(self._victim, sorted(self.place.glob("seed_*"))) if pid in self.seen]
            if victims:
                os.kill(self.chance.choice(victims), signal.SIGKILL)
                self.kills += 1

    def _victim(self, folder: Path) -> int | None:
        """The process that trains the seed in `folder`, where it may be killed."""
        facts = status.read(folder)
        if facts is None or facts["status"] != "running":
            return None
        begins = [attempt["step"] for attempt in facts["attempts"]]
        alike = len(list(itertools.takewhile(lambda step: step == begins[-1], reversed(begins))))
        pid = facts["attempts"][-1]["pid"]
        return pid if alike < DEATHS and began(pid) else None


def require_none_left(seen: dict[int, str]) -> None:
    """Raise AssertionError where one of these processes still lives."""
    until = time.monotonic() + SECONDS_TO_END
    while alive := [pid for pid, start in seen.items() if began(pid) == start]:
        assert time.monotonic() < until, f"processes {alive} live on"
        time.sleep(0.2)


def check(algo: str, kills: int, place: Path, chance: random.Random) -> str:
    """The row of an algorithm."""
    run = toy(algo, f"seeds={list(range(SEEDS))}")
    started = time.monotonic()
    whole = metrics(train(place / "serial", run, Serial(Serial.Config())))
    took = (time.monotonic() - started) / SEEDS
    hit = 0
    attempts = 0
    for number in itertools.count():
        folder = place / f"ray_{number}"
        killer = Killer(folder, kills - hit, max(1.0, took / 2), chance)
        killer.start()
        train(folder, run, Ray(Ray.Config(workers=2)))
        killer.ended.set()
        killer.join()
        assert metrics(folder) == whole, f"{algo}: other metrics in run {number}"
        require_none_left(killer.seen)
        hit += killer.kills
        attempts += sum(len((status.read(seed) or {})["attempts"]) for seed in folder.glob("seed_*"))
        if hit >= kills:
            break
    return f"| {algo} | {hit} | {number + 1} | {attempts} | equal | none |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each algorithm")
    parser.add_argument("--algos", default=",".join(ALGOS))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    chance = random.Random(args.seed)
    print(f"| algorithm | kills | runs of {SEEDS} seeds | attempts | metrics | processes left |")
    print("|---|---|---|---|---|---|")
    for algo in args.algos.split(","):
        with tempfile.TemporaryDirectory() as place:
            print(check(algo, args.kills, Path(place), chance), flush=True)


if __name__ == "__main__":
    main()
