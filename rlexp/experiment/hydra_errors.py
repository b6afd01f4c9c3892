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


def hydra_error(error: Exception, words: list[str] | None = None) -> str:
    """What was wrong with `words`, by default the command line's."""
    words = sys.argv[1:] if words is None else words
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if (found := re.search(r"Could not override '([^']+)'", text)) and found[1] in groups():
        return f"{found[1]}=...: nothing of that kind is chosen yet; write +{found[1]}=..., with a plus"
    if found and found[1].startswith("env.kwargs"):
        return f"{found[1]}: is passed on to the environment; write +{found[1]}=..., with a plus"
    if found:
        return f"{found[1]}: unknown option{did_you_mean(nearest_key(found[1], _known(words)))}"
    if found := re.search(r"Could not (?:find|load) '([^'/]+(?:/[^'/]+)*)/([^'/]+)'", text):
        return no_such(found[1], found[2])
    if found := re.search(r"Could not override '?([\w./]+)'?\.? ?No match in the defaults list", text):
        return f"{found[1]}: no such group{did_you_mean(nearest(found[1], groups()))}"
    if found := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{found[1]}: several values are a sweep; write -m {found[1]}, or brackets around a list"
    if "full_key" in text and "issing" in text:
        missing = re.search(r"Missing mandatory value: ([\w.]+)|full_key: ([\w.]+)", text)
        key = next(filter(None, missing.groups())) if missing else "?"
        return f"{key}: a value is missing; give one with {key}=..."
    if "LexerNoViableAltException" in text or "mismatched input" in text or "no viable alternative" in text:
        return f"{lines[0]} (quote values with spaces, brackets or braces: 'seeds=[0,1]')"
    if found := re.search(r"Error merging override ([^=]+)=(.*)", text):
        return f"{found[1].lstrip('+')}: {found[2]!r} is no value that it can have"
    return "; ".join(lines[:2])


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
