"""Hydra's own errors in one line, with the nearest valid choice."""

import re
import sys
from collections.abc import Sequence

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlexp.experiment.compose import compose
from rlexp.util.configs import choices, groups
from rlexp.util.errors import UserError, did_you_mean, nearest
from rlexp.util.params import all_keys, nearest_key


def composed(words: Sequence[str]) -> DictConfig:
    """The config that `words` compose. Raises UserError, for what Hydra finds wrong with them too."""
    try:
        return compose(words)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(hydra_error(error, list(words))) from None


def combination(common: Sequence[str], own: Sequence[str]) -> DictConfig:
    """The config that a sweep's `common` words and a combination's `own` compose. Raises UserError, which says whose
    mistake it is: an option may be one of another algorithm."""
    try:
        return composed([*common, *own])
    except UserError as error:
        if not own or str(error).startswith(tuple(own)):
            raise
        raise UserError(f"{' '.join(own)}: {error}") from None


def hydra_error(error: Exception, words: list[str] | None = None) -> str:
    """What was wrong with `words`, by default the command line's."""
    if words is None:
        words = sys.argv[1:]
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown is not None:
        return _cannot_override(unknown[1], words)
    no_file = re.search(r"Could not (?:find|load) '([^'/]+(?:/[^'/]+)*)/([^'/]+)'", text)
    if no_file is not None:
        return no_such(no_file[1], no_file[2])
    no_group = re.search(r"Could not override '?([\w./]+)'?\.? ?No match in the defaults list", text)
    if no_group is not None:
        return f"{no_group[1]}: no such group{did_you_mean(nearest(no_group[1], groups()))}"
    several = re.search(r"Ambiguous value for argument '([^']+)'", text)
    if several is not None:
        return f"{several[1]}: several values are a sweep; write -m {several[1]}, or brackets around a list"
    if "full_key" in text and "issing" in text:
        missing = re.search(r"Missing mandatory value: ([\w.]+)|full_key: ([\w.]+)", text)
        key = next(filter(None, missing.groups())) if missing else "?"
        return f"{key}: a value is missing; give one with {key}=..."
    if "LexerNoViableAltException" in text or "mismatched input" in text or "no viable alternative" in text:
        return f"{lines[0]} (quote values with spaces, brackets or braces: 'seeds=[0,1]')"
    refused = re.search(r"Error merging override ([^=]+)=(.*)", text)
    if refused is not None:
        return f"{refused[1].lstrip('+')}: {refused[2]!r} is no value that it can have"
    return "; ".join(lines[:2])


def _cannot_override(key: str, words: list[str]) -> str:
    """That nothing is there for `key` to override, with what it may have been meant to be."""
    if key in groups():
        return f"{key}=...: nothing of that kind is chosen yet; write +{key}=..., with a plus"
    if key.startswith("env.kwargs"):
        return f"{key}: is passed on to the environment; write +{key}=..., with a plus"
    return f"{key}: unknown option{did_you_mean(nearest_key(key, _known(words)))}"


def no_such(group: str, choice: str) -> str:
    """That a group has no `choice`, with what it has."""
    known = choices(group)
    hint = did_you_mean(nearest(choice, known))
    return f"{group}={choice}: no such {group}{hint} (there are {', '.join(known)})"


def _known(words: list[str]) -> list[str]:
    """All options of the config with the groups that `words` choose."""
    chosen = [word for word in words if word.split("=")[0].lstrip("+") in groups()]
    try:
        config = compose(chosen)
    except (HydraException, OmegaConfBaseException):  # one of them is wrong as well
        config = compose([])
    return [key for key in all_keys(OmegaConf.to_container(config)) if not key.endswith("_target_")]  # type: ignore[arg-type]
