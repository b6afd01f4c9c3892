"""What is to be run: one run folder and its seeds, or a study of several, new or continued."""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlexp.experiment import former_names, hydra_errors
from rlexp.experiment.compose import compose, find
from rlexp.experiment.config import RunConfig, all_keys, build, nearest_key, require, seed_list
from rlexp.experiment.engines.base import Job
from rlexp.experiment.folder import Folder, create
from rlexp.experiment.probe import probe
from rlexp.experiment.provenance import command, now
from rlexp.loggers.jsonl import check_kept, read
from rlexp.report import history
from rlexp.util import checkpoint, trust
from rlexp.util.errors import UserError, did_you_mean, nearest


@dataclass
class Work:
    """Run folders, each with its config; `path` is the folder that the user gets."""

    path: Path
    runs: list[tuple[Folder, RunConfig]]
    is_study: bool = False
    started: float = field(default_factory=time.perf_counter)

    def jobs(self) -> list[Job]:
        """Every seed that has not reached its budget."""
        return [
            Job(run, conf, seed)
            for run, conf in self.runs
            for seed in conf.seeds
            if run.record["seeds"][str(seed)]["status"] != "done"
            or run.record["seeds"][str(seed)]["step"] < conf.train.budget
        ]

    def begin(self) -> None:
        """Write every folder's config and record. Of a new run that is interrupted here, nothing is left."""
        new = not any((run.path / "config.yaml").exists() for run, _ in self.runs)
        try:
            for run, _ in self.runs:
                run.begin()
        except BaseException:
            if new:
                shutil.rmtree(self.path, ignore_errors=True)
            raise

    def close(self, interrupted: bool) -> None:
        """Bring every record up to date; seeds that did not end are interrupted."""
        for run, _ in self.runs:
            for facts in run.record["seeds"].values():
                if facts["status"] in ("running", "waiting"):
                    began = f"interrupted at step {facts['step']:,}" if facts["status"] == "running" else "not begun"
                    facts |= {"status": "interrupted", "message": began}
            run.record["seconds"] += time.perf_counter() - self.started
            run.record["finished"] = None if interrupted else now()
            run.refresh(draw=True)
        self.sum_up()

    def sum_up(self) -> None:
        """A study's own table and picture."""
        if self.is_study:
            from rlexp.report.compare import study

            checkpoint.write_text(self.path / "summary.md", self.report())
            study(self.path)

    def failed(self) -> bool:
        return any(facts["status"] != "done" for run, _ in self.runs for facts in run.record["seeds"].values())

    def report(self) -> str:
        """What is printed at the end."""
        if not self.is_study:
            return (self.path / "summary.md").read_text()
        metric = OmegaConf.load(self.path / "study.yaml").metric
        name = metric.removeprefix("eval/")
        lines = [
            f"# {self.path.name}",
            "",
            f"`{command()}`",
            "",
            f"| arm | seeds | {name.replace('_', ' ')} | 95 % t-interval | min | max | not finished |",
            "|---|---|---|---|---|---|---|",
        ]
        for run, _ in self.runs:
            values = [final[name] for final in run.finals().values() if name in final]
            total = run.aggregate()
            if not values:
                lines.append(f"| {run.path.name} | 0 | | | | | {total['failed']} |")
                continue
            mean, half = total[name]["mean"], total[name]["t95"]
            low, high = (0, 1) if name.endswith("_rate") else (-math.inf, math.inf)  # a share leaves [0, 1] in no sense
            interval = "" if half is None else f"{max(low, mean - half):.4g} to {min(high, mean + half):.4g}"
            lines.append(
                f"| {run.path.name} | {len(values)} | {mean:.4g} | {interval} | {min(values):.4g} | "
                f"{max(values):.4g} | {total['failed']} |"
            )
        return "\n".join(lines) + "\n"


def single(composed: DictConfig) -> Work:
    """A new run. Raises UserError before anything is written."""
    run = build(composed)
    inputs = probe(run)
    path = create(_root(composed), run.name)
    return Work(path, [(Folder(path, run.plain, run.algo_class.clock, inputs), run)])


def _root(composed: DictConfig) -> Path:
    if not isinstance(composed.runs, str):
        raise UserError(f"runs: {composed.runs} is not a folder's name")
    return Path(composed.runs)


def study(composed: DictConfig, name: str, overrides: list[str]) -> Work:
    """A new study: `conf/study/<name>.yaml` names arms, each a list of overrides; the command line overrides all."""
    node: Any = OmegaConf.to_container(composed.study, resolve=True)
    for key in ("title", "metric", "arms"):
        if key not in node:
            raise UserError(f"study={name}: has no '{key}'")
    for arm in node["arms"]:
        if not isinstance(arm, str) or Path(arm).name != arm:
            raise UserError(f"study={name}: an arm is named {arm!r}, which is no folder's name; quote it?")
    common = node.get("common", []) + ([f"seeds={node['seeds']}"] if "seeds" in node else [])
    runs, inputs = {}, {}
    for arm, words in node["arms"].items():
        try:
            algorithms = former_names.algorithms_of([*common, *words, *overrides])
            words = former_names.translated([*common, *words], algorithms)
            words += former_names.translated(overrides, algorithms)
            runs[arm] = build(compose(words))
            inputs[arm] = probe(runs[arm])
        except UserError as error:
            raise UserError(f"arm {arm} of study={name}: {error}") from None
        except (HydraException, OmegaConfBaseException) as error:
            said = hydra_errors.hydra_error(error, words)
            raise UserError(f"arm {arm} of study={name}: {said}") from None
    path = create(_root(composed), f"study_{name}")
    checkpoint.write_text(path / "study.yaml", OmegaConf.to_yaml({"name": name, **node}))
    folders = []
    for arm, run in runs.items():
        (path / arm).mkdir()
        folders.append((Folder(path / arm, run.plain, run.algo_class.clock, inputs[arm]), run))
    return Work(path, folders, is_study=True)


def resume(path: Path, overrides: list[str]) -> Work:
    """An old run or study, continued. Raises UserError where that would alter what has been done."""
    is_study = (path / "study.yaml").is_file()
    places = list(history.folders(path).values()) if is_study else [path]
    runs = []
    for place in places:
        run = build(_resumed(place, overrides))
        inputs = probe(run)
        _check_checkpoints(place, run)
        runs.append((Folder(place, run.plain, run.algo_class.clock, inputs), run))
    return Work(path, runs, is_study)


# What may change when a run is resumed, because nothing that has been done depends on it.
FREE_ON_RESUME = (
    *("train.budget", "train.keep", "train.snapshot_every", "train.tensorboard"),
    *("video", "seeds", "reference", "workers"),
    "algo.iterations",  # DPO's, with the budget
    *("buffer.dataset", "buffer.path"),  # the same data, wherever they are now: their digest is remembered
)


def _resumed(folder: Path, overrides: list[str]) -> dict[str, Any]:
    """The stored config of `folder` with `overrides` (key=value) applied. Raises UserError for any that would alter
    what has been done."""
    file = folder / "config.yaml"
    if not file.is_file():
        hint = did_you_mean(nearest(folder.name, [file.name for file in folder.parent.glob("*")]))
        raise UserError(f"resume={folder}: no run folder (it has no config.yaml){hint}")
    try:
        stored: Any = OmegaConf.to_container(OmegaConf.load(file))
        require(stored)
        trust.require(trust.names_in(stored))
        stored["algo"] = former_names.renamed(stored["algo"])
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    except Exception as error:  # a yaml parser's many errors
        raise UserError(f"{file}: cannot be read ({' '.join(str(error).split())[:200]})") from None
    for override in overrides:
        key, _, text = override.lstrip("+~").partition("=")
        try:
            new = OmegaConf.to_container(OmegaConf.create(f"value: {text}"))["value"]  # type: ignore[call-overload,index]
        except Exception:  # a yaml parser's many errors
            raise UserError(f"{override}: '{text}' cannot be read; is a bracket or a quote open?") from None
        *parents, leaf = key.split(".")
        node = stored
        for parent in parents:
            node = node.get(parent, {}) if isinstance(node, dict) else {}
        if key == "video" and (file_of_choice := find("video", str(new))):
            new = OmegaConf.to_container(OmegaConf.load(file_of_choice))
        elif key == "video":
            raise UserError(hydra_errors.no_such("video", text))
        elif leaf not in node or isinstance(node[leaf], dict):
            raise UserError(
                f"{override}: a resumed run keeps its {key}; only its options can be changed"
                f"{did_you_mean(nearest_key(key, all_keys(stored)))}"
            )
        free = any(key == name or key.startswith(name + ".") for name in FREE_ON_RESUME)
        if new != node[leaf] and not free:
            raise UserError(
                f"{key}: was {node[leaf]} in {folder} and cannot become {new}: it would alter what has been "
                f"done; free to change are {', '.join(FREE_ON_RESUME)}"
            )
        if key == "seeds" and not set(node[leaf]) <= set(seed_list(new)):
            raise UserError(f"seeds: {folder} has {node[leaf]}; seeds can be added, not dropped")
        if key == "train.budget" and isinstance(new, int | float) and new < node[leaf]:
            raise UserError(f"train.budget: was {node[leaf]} in {folder}; it can grow, not shrink to {new}")
        node[leaf] = new
    return stored


def _check_checkpoints(path: Path, run: RunConfig) -> None:
    """Broken or foreign checkpoints are found now, not in the middle."""
    for seed in run.seeds:
        place = path / f"seed_{seed}"
        if not (found := checkpoint.latest(place / "checkpoints")):
            continue
        tree = checkpoint.load(found)
        if set(tree) != {"policy", "algo", "run", "rng"}:
            raise UserError(f"{found}: is a policy, not a checkpoint from which training can continue")
        if (theirs := tree["policy"]["card"]["algo"]) != run.algo_name:
            raise UserError(f"{found}: is a checkpoint of {theirs}, the run is one of {run.algo_name}")
        check_kept(place / "metrics.jsonl", tree["run"]["bytes"])
        read(place / "metrics.jsonl")
