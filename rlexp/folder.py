"""A run's folder: its names, its record, and the tables that are made from its seeds' metrics.

config.yaml   fully resolved            run.json     command, commit, versions, hardware, times, seeds, scores
curve.csv     every evaluation          curves.png   the same, drawn
train.log     what happened             summary.md   the table to hand in
seed_<k>/     metrics.jsonl  tensorboard/  checkpoints/  videos/
"""

import csv
import datetime
import importlib.metadata
import io
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rlexp import __version__, ckpt, log, stats
from rlexp.errors import UserError
from rlexp.history import read_record

CURVE = ("return_mean", "return_std", "return_min", "return_median", "return_max", "length_mean", "score")
PACKAGES = ("torch", "numpy", "gymnasium", "mujoco", "Box2D", "envpool", "hydra-core", "safetensors")


def create(root: Path, name: str) -> Path:
    """A new folder root/<day>/<time>_<name>[-n], ours alone however many runs start in the same second."""
    now = datetime.datetime.now()
    day = root / now.strftime("%Y-%m-%d")
    try:
        day.mkdir(parents=True, exist_ok=True)
        for n in range(1, 10_000):
            path = day / f"{now:%H-%M-%S}_{name}{f'-{n}' if n > 1 else ''}"
            try:
                path.mkdir()  # fails where it exists: the one atomic test-and-set a file system has
                return path
            except FileExistsError:
                continue
    except OSError as error:
        raise UserError(f"runs={root}: cannot make a run folder there ({error.strerror or error})") from None
    raise UserError(f"runs={root}: 10,000 runs started in the same second")


class Folder:
    """One run folder and its record (run.json); written by the process that was started by hand, no other."""

    def __init__(self, path: Path, config: dict[str, Any], clock: str, inputs: dict[str, Any]):
        """`inputs`: what is to be remembered of the data and files that it learns from. Raises UserError where a run
        was begun with others, or its record is broken."""
        self.path, self.config = path, config
        self.record = read_record(path) if (path / "run.json").exists() else {}
        for key, facts in self.record.setdefault("inputs", inputs).items():
            if facts["digest"] != inputs.get(key, {}).get("digest"):
                was, now = (", ".join(f"{k} {v}" for k, v in (x or {}).items()) for x in (facts, inputs.get(key)))
                raise UserError(f"resume={path}: what {key} names has changed since it began; it was {was}, is {now}")
        for seed in config["seeds"]:
            facts = self._seeds().setdefault(str(seed), {"status": "waiting", "message": "", "step": 0})
            if facts["status"] != "done":  # it is about to be continued
                facts |= {"status": "waiting", "message": ""}
        self.clock = clock

    def _seeds(self) -> dict[str, Any]:
        return self.record.setdefault("seeds", {})

    def begin(self) -> None:
        """Take the folder: nobody else may work in it, and its record says what is about to be done."""
        self._lock()
        train, dirty = self.config["train"], bool(git("status", "--porcelain", "--untracked-files=no"))
        this = {"command": command(), "commit": git("rev-parse", "HEAD"), "dirty": dirty, "versions": versions()}
        if "command" not in self.record:
            self.record = {
                "name": self.path.name,
                "clock": self.clock,
                **this,
                "hardware": hardware(train["device"]),
                "started": now(),
                "seconds": 0.0,
                "resumed": [],
                "eval": {
                    "episodes": train["eval_episodes"],
                    "actions": "sampled" if train["eval_sampled"] else "mean",
                },
                **self.record,
            }
        else:
            self.record.setdefault("resumed", []).append({**this, "started": now()})
        self.record["finished"] = None
        ckpt.write_text(self.path / "config.yaml", OmegaConf.to_yaml(self.config))
        self.write()

    def _lock(self) -> None:
        """Refuse a folder in which another process is at work. The lock ends with the process, however it ends."""
        try:
            import fcntl
        except ImportError:  # Windows: no advisory locks; two processes in one folder are the user's to avoid
            return
        self._lock_file = open(self.path / ".lock", "w")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"resume={self.path}: another process is running in this folder") from None

    def seed(self, seed: int) -> Path:
        return self.path / f"seed_{seed}"

    def rows(self, seed: int) -> list[log.Row]:
        return log.read(self.seed(seed) / "metrics.jsonl")

    def update(self, seed: int, **facts: Any) -> None:
        self.record["seeds"][str(seed)] |= facts

    def write(self) -> None:
        ckpt.write_text(self.path / "run.json", json.dumps(self.record, indent=2) + "\n")

    def say(self, text: str) -> None:
        """One line, with the time, in train.log."""
        with open(self.path / "train.log", "a", encoding="utf-8") as file:
            file.write(f"{now()} {text}\n")

    def refresh(self, draw: bool) -> None:
        """Make curve.csv and summary.md, and curves.png with `draw`, from what the seeds have written."""
        table = io.StringIO()
        out = csv.writer(table, lineterminator="\n")
        out.writerow(["seed", *log.COUNTERS, *CURVE])
        for seed in self.config["seeds"]:
            for row in self.rows(seed):
                if "eval/return_mean" in row:
                    out.writerow([seed, *(row[c] for c in log.COUNTERS), *(row.get(f"eval/{c}", "") for c in CURVE)])
        ckpt.write_text(self.path / "curve.csv", table.getvalue())
        ckpt.write_text(self.path / "summary.md", self.summary())
        self.record["final"] = self.aggregate()
        self.write()
        if draw:
            from rlexp import plot  # matplotlib takes a while to import

            plot.curves(self.path)

    def finals(self) -> dict[str, dict[str, float]]:
        seeds = self.record["seeds"].items()
        return {seed: facts["final"] for seed, facts in seeds if facts["status"] == "done" and facts.get("final")}

    def aggregate(self) -> dict[str, Any]:
        """Mean over seeds of each final score, with its 95 % t-interval; n finished, and how many did not."""
        finals = list(self.finals().values())
        out: dict[str, Any] = {"n": len(finals), "failed": len(self.record["seeds"]) - len(finals)}
        for name in finals[0] if finals else ():
            mean, half = stats.t_interval([final[name] for final in finals])
            out[name] = {"mean": mean, "t95": None if half != half else half}
        return out

    def summary(self) -> str:
        """summary.md: one row a seed, then the mean with its interval."""
        evaluation, seeds = self.record["eval"], self.record["seeds"]
        scored = any("score" in final for final in self.finals().values())
        lines = [
            f"# {self.path.name}",
            "",
            f"`{self.record['command']}`",
            "",
            f"Last policy, {evaluation['actions']} actions, {evaluation['episodes']} fresh episodes a seed.",
            "",
            f"| seed | status | {self.record['clock']} | return mean | std | min | median | max | length |"
            + (" score |" if scored else ""),
            "|---" * (10 if scored else 9) + "|",
        ]
        for seed, facts in seeds.items():
            final = facts.get("final") or {}
            cells = [seed, facts["status"], f"{facts['step']:,}"]
            cells += [f"{final[name]:.1f}" if name in final else "" for name in CURVE[: 7 if scored else 6]]
            lines.append("| " + " | ".join(cells) + " |")
        total = self.aggregate()
        n, missing = total["n"], f" ({total['failed']} not finished)" if total["failed"] else ""
        lines += ["", f"Mean over {n} seed{'s' * (n != 1)}{missing}:" if n else "No seed has finished."]
        for name in ("return_mean", "score", "success_rate"):
            if name in total:
                half = total[name]["t95"]
                interval = f" ± {half:.4g} (95 % t-interval of the mean)" if half is not None else ""
                lines.append(f"- {name.replace('_', ' ')}: {total[name]['mean']:.4g}{interval}")
        if notes := [f"- seed {seed}: {facts['message']}" for seed, facts in seeds.items() if facts["message"]]:
            lines += ["", *notes]
        return "\n".join(lines) + "\n"


def command() -> str:
    """The command line, as one would type it."""
    program = Path(sys.argv[0])
    return shlex.join(([] if program.stem == "rlexp" else ["python"]) + [program.name, *sys.argv[1:]])


def git(*words: str) -> str:
    """What git answers about this package's own source; "" where there is no git or no repository."""
    try:
        here = Path(__file__).parent
        return subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def versions() -> dict[str, str]:
    found = {"rlexp": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware(device: str = "cpu") -> dict[str, Any]:
    """The machine; with the GPU, where networks are trained on one."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    found = {"cpu": cpu, "cores": os.cpu_count(), "platform": platform.platform(terse=True)}
    if device == "cpu":
        return found
    import torch

    return {**found, "gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}


def now() -> str:
    return datetime.datetime.now().isoformat(timespec="seconds")
