"""The files that say what runs and studies are, config.yaml, run.json and study.yaml: read in one place."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from rlexp.util.errors import UserError, did_you_mean, nearest, said_of
from rlexp.util.files import read_object, read_yaml

NUMBER = (int, float, NoneType)
KINDS: dict[str, Any] = {  # of what run.json has, where it has it
    **dict.fromkeys(("seeds", "final", "eval", "inputs", "versions", "hardware"), dict),
    **dict.fromkeys(("name", "command", "clock", "started", "algo", "env"), str),
    "resumed": list,
    "verdict": (dict, NoneType),
    "seconds": (int, float),
}
OF_A_SEED: dict[str, Any] = {
    **dict.fromkeys(("status", "message"), str),
    **dict.fromkeys(("step", "env_steps", "updates"), int),
    **dict.fromkeys(("final", "best"), (dict, NoneType)),
    "attempts": list,
    "seconds": (int, float),
}
NAMED = {"algo": "_target_", "env": "name"}  # groups that a run is called after, and the key that says how


def read_config(run: Path) -> dict[str, Any]:
    """What config.yaml in the folder `run` says: at least which algorithm, environment and seeds, and `train`. Raises
    UserError."""
    file = run / "config.yaml"
    config = read_yaml(file)
    check_config(str(file), config)
    return config


def check_config(file: str, config: dict[str, Any]) -> None:
    """Raise UserError where a run's resolved config lacks what every reader of it needs."""
    for group in (*NAMED, "train"):
        if not isinstance(config.get(group), dict):
            raise UserError(f"{file}: {group}: is missing; every run has that group")
    for group, key in NAMED.items():
        if not isinstance(config[group].get(key), str):
            raise UserError(f"{file}: {group}.{key}: is missing")
    target = config["algo"]["_target_"]
    if not re.fullmatch(r"\w+(\.\w+)+", target):  # files are named after it
        raise UserError(f"{file}: algo._target_: '{target}' is not module.Class")
    if "seeds" not in config:
        raise UserError(f"{file}: seeds: is missing; e.g. seeds: [0, 1, 2]")
    if not isinstance(config["seeds"], list) or not config["seeds"]:
        raise UserError(f"{file}: seeds: is no list with seeds in it")


def read_record(run: Path) -> dict[str, Any]:
    """What run.json in the folder `run` says; `seeds` and `final` are always there. Raises UserError where it is
    broken."""
    file = run / "run.json"
    record = read_object(file)
    record.setdefault("seeds", {})
    record.setdefault("final", {})
    for key, value in record.items():
        if not isinstance(value, KINDS.get(key, object)):
            raise UserError(f"{file}: is no run's record ({key} is a {type(value).__name__})")
    for seed, facts in record["seeds"].items():
        if not seed.isdigit():
            raise UserError(f"{file}: is no run's record ({seed!r} is no seed)")
        check_seed(f"{file}: seed {seed}", facts)
    for name, total in record["final"].items():
        numbers = list(total.values()) if isinstance(total, dict) else [total]
        if not all(isinstance(number, NUMBER) for number in numbers):
            raise UserError(f"{file}: is no run's record (final.{name})")
    return record


def check_seed(what: str, facts: Any) -> None:
    """Raise UserError where `facts`, of run.json or a seed's status.json, do not say how far a seed is."""
    if not isinstance(facts, dict):
        raise UserError(f"{what}: is no seed's status")
    for key in ("status", "step"):
        if key not in facts:
            raise UserError(f"{what}: is no seed's status (it has no {key})")
    facts.setdefault("message", "")
    for key, value in facts.items():
        if not isinstance(value, OF_A_SEED.get(key, object)):
            raise UserError(f"{what}: is no seed's status ({key} is a {type(value).__name__})")
    for name, value in (facts.get("final") or {}).items():
        if not isinstance(value, NUMBER):
            raise UserError(f"{what}: is no seed's status (final.{name})")


def read_study(place: Path) -> dict[str, Any]:
    """What study.yaml in the folder `place` says: `title`, `metric`, `arms` and maybe more. Raises UserError."""
    file = place / "study.yaml"
    study = read_yaml(file)
    with said_of(str(file)):
        check_study(study)
    return study


def check_study(study: dict[str, Any]) -> None:
    """Raise UserError where a study's yaml lacks something, or holds what it should not."""
    for key in ("title", "metric"):
        if not isinstance(study.get(key), str):
            raise UserError(f"has no '{key}'")
    arm_names(study)
    for key, words in {"common": study.get("common", []), **study["arms"]}.items():
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise UserError(f"{key}: is no list of options, such as [algo=vpg, algo.lr=1e-2]")


def arm_names(study: Mapping[str, Any]) -> dict[str, str]:
    """What each arm of a study's yaml is called in pictures. Raises UserError where `names` do not fit the arms."""
    if not isinstance(study.get("arms"), dict):
        raise UserError("has no 'arms', a mapping of arms to their options")
    for arm in study["arms"]:
        if not isinstance(arm, str) or Path(arm).name != arm:
            raise UserError(f"an arm is named {arm!r}, which is no folder's name; quote it?")
    arms = list(study["arms"])
    given = study.get("names") or {}
    if not isinstance(given, dict):
        raise UserError("names: is no mapping of arms to what they are called")
    for arm in given:
        if arm not in arms:
            raise UserError(f"names.{arm}: there is no such arm{did_you_mean(nearest(str(arm), arms))}")
    names = {arm: str(given.get(arm, arm)) for arm in arms}
    if len(set(names.values())) < len(names):
        raise UserError("names: two arms are called the same")
    return names
