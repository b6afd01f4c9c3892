"""Config keys that had another name once: stored runs, gallery cards and old command lines still mean the same.

`rlexp/util/former_keys.py` is the only place that knows the former names of algorithms' keys.
"""

import functools
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlexp.util import configs, paths
from rlexp.util.errors import UserError
from rlexp.util.files import read_text
from rlexp.util.former_keys import FORMER, algorithm_of, given_twice

# Group `logger` was an option once, true or false.
TENSORBOARD = "train.tensorboard"
LOGGER_TODAY = {"true": "tensorboard", "false": "none"}
TENSORBOARD_TODAY = {
    "tensorboard": {
        "_target_": "rlexp.loggers.tensorboard.TensorBoard",
        "flush_every": 120,
    }
}


def with_loggers(config: Mapping[str, Any]) -> dict[str, Any]:
    """A stored config with group `logger`, which those from before it was there say by `train.tensorboard`."""
    if "logger" in config:
        return dict(config)
    train = dict(config["train"])
    tensorboard = train.pop("tensorboard", True)
    return {**config, "train": train, "logger": TENSORBOARD_TODAY if tensorboard else {}}


def translated(words: Iterable[str], algorithms: set[str] | None = None) -> list[str]:
    """The words of a command line, or of a study's arm, with former names replaced; stderr says so, once a name.

    `algorithms` are those that the words configure, by default the ones that they choose. Raises UserError where one
    word would have to become two, and where a key is given by its former and its present name.
    """
    words = _with_logger(list(words))
    if algorithms is None:
        algorithms = algorithms_of(words)
    given = {_split(word)[1] for word in words}
    found = []
    for word in words:
        sign, key, rest = _split(word)
        name = _name_today(key, algorithms)
        if name != key:
            if name in given:
                raise given_twice(key.removeprefix("algo."), name.removeprefix("algo."))
            _say(f"{key} is now called {name}")
        found.append(f"{sign}{name}{rest}")
    return found


def _with_logger(words: list[str]) -> list[str]:
    """The words with `train.tensorboard=...` as it is written today. Raises UserError for other values than true and
    false, and where the words choose loggers too."""
    found = []
    for word in words:
        _, key, rest = _split(word)
        if key != TENSORBOARD:
            found.append(word)
            continue
        today = LOGGER_TODAY.get(rest.removeprefix("=").lower())
        if today is None:
            raise UserError(f"{word}: is now written logger=tensorboard or logger=none")
        if any(_split(other)[1] == "logger" for other in words):
            raise UserError(f"{word}: is the former name of logger=...; give one of them, not both")
        _say(f"{key}{rest} is now written logger={today}")
        found.append(f"logger={today}")
    return found


def algorithms_of(words: Iterable[str]) -> set[str]:
    """The algorithms that the words of a command line choose, by name; of all arms, where they choose a study."""
    chosen = {}
    for word in words:
        _, key, rest = _split(word)
        chosen[key] = re.findall(r"[\w.-]+", rest) if key in ("algo", "experiment", "study") else [rest[1:]]
    if "resume" in chosen:
        run = Path(chosen["resume"][0])
        return _targets([run / "config.yaml", *run.glob("*/config.yaml")])
    if "algo" in chosen:
        return _named(chosen["algo"])
    for group in ("experiment", "study"):
        texts = [_text(configs.find(group, choice)) for choice in chosen.get(group, [])]
        names = re.findall(r"(?:override /|\b)algo(?:: |=)(\w+)", "\n".join(texts))
        if names:
            return _named(names)
    return _named(re.findall(r"- algo: (\w+)", _text(paths.CONF / "config.yaml")))


def _named(choices: Iterable[str]) -> set[str]:
    """The algorithms that these choices of group `algo` configure."""
    return _targets(configs.find("algo", choice) for choice in choices)


def _targets(files: Iterable[Path | None]) -> set[str]:
    """The algorithms that the `_target_`s in these files name; files that are not there name none."""
    found = (re.search(r"_target_: *([\w.]+)\.\w+ *(?:#.*)?$", _text(file), re.MULTILINE) for file in files)
    return {algorithm_of(match[0].split()[1]) for match in found if match}


def _text(file: Path | None) -> str:
    return read_text(file) if file is not None and file.is_file() else ""


def _split(word: str) -> tuple[str, str, str]:
    """`++`, `algo.envs` and `=16` of `++algo.envs=16`."""
    match = re.match(r"([+~]*)([^=]*)(.*)", word, re.DOTALL)
    assert match is not None  # every string matches
    return match[1], match[2], match[3]


def _name_today(key: str, algorithms: set[str]) -> str:
    """Raises UserError where it depends on which of several algorithms is meant."""
    group, _, old = key.partition(".")
    if group != "algo" or not old:
        return key
    names = {algorithm: FORMER.get(algorithm, {}).get(old, old) for algorithm in sorted(algorithms)}
    if len(set(names.values())) > 1:
        said = ", ".join(f"algo.{name} of {algorithm}" for algorithm, name in names.items() if name != old)
        raise UserError(f"{key}: is now called {said}; run these algorithms apart")
    return f"algo.{next(iter(names.values()), old)}"


@functools.cache
def _say(text: str) -> None:
    """Once for each text: the arms of a study often share their words."""
    print(text, file=sys.stderr)
