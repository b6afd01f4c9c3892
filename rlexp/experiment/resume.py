"""Old runs and studies, continued: nothing may change of what has been done."""

import sys
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from rlexp.engines.base import Engine
from rlexp.experiment import hydra_errors, overrides, status
from rlexp.experiment.config import RunConfig, build, make_engine, seed_list, stored
from rlexp.experiment.essentials import FREE_ON_RESUME, difference, digest
from rlexp.experiment.folder import Folder
from rlexp.experiment.probe import probe
from rlexp.experiment.provenance import changes
from rlexp.experiment.track import group
from rlexp.experiment.work import Work
from rlexp.loggers import jsonl
from rlexp.report import history
from rlexp.report.records import read_config, read_record, read_study
from rlexp.util import checkpoint
from rlexp.util.configs import find
from rlexp.util.errors import UserError, did_you_mean, nearest, said_of
from rlexp.util.files import read_yaml
from rlexp.util.params import all_keys, nearest_key
from rlexp.util.processes import require_workers

FREE_GROUPS = ("video", "logger")


def engine_of(words: list[str], train: dict[str, Any]) -> tuple[Engine, list[str]]:
    """The engine that `words` name (engine=, engine.<option>=, workers=), and the other words. What a run is continued
    on is not what it began on. `train`: the run's threads and device. Raises UserError."""
    parsed = overrides.parse(words)
    own = [one for one in parsed if one.key_or_group.split(".")[0] in ("engine", "workers")]
    rest = [str(one.input_line) for one in parsed if one not in own]
    options = {one.key_or_group: overrides.value(one) for one in own}
    require_workers(options.get("workers"))
    name = options.pop("engine", "serial")
    file = find("engine", str(name))
    if file is None:
        raise UserError(hydra_errors.no_such("engine", str(name)))
    config = OmegaConf.create({"engine": read_yaml(file), "workers": None, "train": train})
    for key, value in options.items():
        if OmegaConf.select(config, key, default=Ellipsis) is Ellipsis:
            known = [option for option in all_keys(_plain(config)) if option.startswith("engine.")]
            raise UserError(f"{key}: engine={name} has no such option{did_you_mean(nearest(key, known))}")
        OmegaConf.update(config, key, value)
    return make_engine(_plain(config)["engine"]), rest


def _plain(config: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def resume(path: Path, words: list[str]) -> Work:
    """The run or study in `path`, with the overrides `words`. Raises UserError where that would alter what has been
    done."""
    if (path / "tune.yaml").is_file():
        raise UserError(f"resume={path}: is a tuning; rlexp tune --resume {path} goes on with it")
    study = read_study(path) if (path / "study.yaml").is_file() else None
    places = [path] if study is None else list(history.folders(path).values())
    parsed = overrides.parse(words)
    runs = []
    for place in places:
        run = _built(place, parsed)
        folder = Folder(place, run.plain, run.algo_class.clock)
        folder.remember(probe(run).inputs)
        check_checkpoints(place, run)
        runs.append((folder, run))
    return Work(path, runs, study, _other_code(runs[0][0].record))


def _built(place: Path, parsed: list[Override]) -> RunConfig:
    """The run in the folder `place`, with overrides. Raises UserError, which names config.yaml where it is that file
    which is wrong, and not what was typed."""
    try:
        return build(_with_overrides(place, parsed))
    except UserError:
        config = stored(place) if (place / "config.yaml").is_file() else None
        if config is not None:
            with said_of(str(place / "config.yaml")):
                build(config)
        raise


def _other_code(record: dict[str, Any]) -> list[str]:
    """A line to be said where other code goes on than the run was last trained by."""
    differs = changes([record, *record.get("resumed", [])][-1])
    return [f"goes on with other code: {'; '.join(differs)}; from here on numbers may differ"] if differs else []


def _with_overrides(folder: Path, parsed: list[Override]) -> dict[str, Any]:
    """The stored config of the run in `folder` with overrides applied. Raises UserError for any that would alter what
    has been done."""
    if not (folder / "config.yaml").is_file():
        if (folder.parent / "config.yaml").is_file() and (folder / "checkpoints").is_dir():
            raise UserError(f"resume={folder}: is a seed's folder; resume={folder.parent} continues the run")
        runs = [file.parent.name for file in folder.parent.glob("*/config.yaml")]
        near = did_you_mean(nearest(folder.name, runs))
        raise UserError(f"resume={folder}: no run folder (it has no config.yaml){near}")
    _check_config(folder)
    config = stored(folder)
    for override in parsed:
        key = override.key_or_group
        node, leaf = _place(config, key, override)
        new = _new_value(override)
        _check_change(folder, key, node.get(leaf), new)
        node[leaf] = new
    return config


def _place(config: dict[str, Any], key: str, override: Override) -> tuple[dict[str, Any], str]:
    """The group of `config` in which `key` stands, and its name there. Raises UserError where there is none."""
    *parents, leaf = key.split(".")
    node: Any = config
    for parent in parents:
        node = node.get(parent) if isinstance(node, dict) else None
    there = isinstance(node, dict) and (leaf in node or key in FREE_ON_RESUME)  # newer than the run, perhaps
    is_option = there and not isinstance(node.get(leaf), dict)
    if not is_option and key not in FREE_GROUPS:
        near = did_you_mean(nearest_key(key, all_keys(config)))
        raise UserError(f"{override.input_line}: a resumed run keeps its {key}; only its options can be changed{near}")
    return node, leaf


def _new_value(override: Override) -> Any:
    """The value that `override` gives; of a group, what its choice (of `logger`, its choices) stand for."""
    if override.key_or_group not in FREE_GROUPS:
        return overrides.value(override)
    return group(override.key_or_group, [str(override.input_line)])


def _check_change(folder: Path, key: str, old: Any, new: Any) -> None:
    """Raise UserError where option `key` may not go from `old` to `new`."""
    free = any(key == name or key.startswith(f"{name}.") for name in FREE_ON_RESUME)
    if new != old and not free:
        raise UserError(
            f"{key}: was {old} in {folder} and cannot become {new}: it would alter what has been done; "
            f"free to change are {', '.join(FREE_ON_RESUME)}"
        )
    if key == "seeds" and not set(old) <= set(seed_list(new)):
        raise UserError(f"seeds: {folder} has {old}; seeds can be added, not dropped")
    if key == "train.budget" and isinstance(new, int | float) and new < old:
        raise UserError(f"train.budget: was {old} in {folder}; it can grow, not shrink to {new}")


def _check_config(folder: Path) -> None:
    """Raise UserError where config.yaml is not what the run's record says it is."""
    record = read_record(folder) if (folder / "run.json").exists() else {}
    config = read_config(folder)
    missing = [seed for seed in record.get("seeds", {}) if seed not in map(str, config["seeds"])]
    if missing:
        raise UserError(f"{folder / 'config.yaml'}: has lost seed {missing[0]}; seeds can be added, not dropped")
    began_with = record.get("config_digest")
    if began_with is not None and began_with != digest(config) and not _any_checkpoint(folder):
        what = "has been changed since the run began"
        raise UserError(f"{folder / 'config.yaml'}: {what}; put back what it was, or begin a new run with it")


def _any_checkpoint(folder: Path) -> bool:
    """Whether any seed has one: these know which option it is that has changed."""
    return any(folder.glob("seed_*/checkpoints/step_*.safetensors"))


def check_checkpoints(path: Path, run: RunConfig) -> None:
    """Broken or foreign checkpoints are found now, not in the middle. Raises UserError; stderr says where an earlier
    one has to do."""
    for seed in run.seeds:
        place = path / f"seed_{seed}"
        found = checkpoint.load_newest(place / "checkpoints")
        if found is None:
            continue
        _check_checkpoint(place, seed, found, run)
        for broken in found.broken:
            step = f"{found.tree['run']['counters']['step']:,}"
            print(f"warning: {broken}; seed {seed} goes on from step {step}", file=sys.stderr)
        jsonl.read(place / "metrics.jsonl")


def _check_checkpoint(place: Path, seed: int, found: checkpoint.Newest, run: RunConfig) -> None:
    """Raise UserError where the newest checkpoint of the seed in `place` is not one that this run has written."""
    tree = found.tree
    if set(tree) != {"policy", "algo", "run", "rng"}:
        raise UserError(f"{found.path}: is a policy, not a checkpoint from which training can continue")
    theirs = tree["policy"]["card"]["algo"]
    if theirs != run.algo_name:
        raise UserError(f"{found.path}: is a checkpoint of {theirs}, the run is one of {run.algo_name}")
    saved = tree["run"]
    step = saved["counters"]["step"]
    file = place.parent / "config.yaml"
    changed = difference(saved.get("config", {}), run.plain)
    if changed is not None:
        key, was, now = changed
        raise UserError(
            f"{file}: {key} is {now}, and seed {seed} was trained with {was} until step {step:,}; put that back, or "
            "begin a new run"
        )
    if run.train.budget < saved.get("budget", 0):
        raise UserError(
            f"{file}: train.budget was {saved['budget']:,}; it can grow, not shrink to {run.train.budget:,}"
        )
    noted = (status.read(place) or {}).get("saved") or {}
    if noted.get("step") == step and noted.get("checkpoint") != checkpoint.digest(found.path):
        raise UserError(f"{found.path}: is not the checkpoint that seed {seed} has saved; put that back")
    jsonl.check_kept(place / "metrics.jsonl", saved["bytes"], saved.get("metrics"))
