"""The words of a command line, key=value, read by Hydra's own parser for new runs and for resumed ones."""

import math
import os
import re
import shlex
from dataclasses import dataclass
from itertools import islice, pairwise, product
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, ValueType
from hydra.errors import HydraException

from rlexp.util.configs import choices, groups
from rlexp.util.errors import UserError, did_you_mean

MOST_SEEDS = 10_000
MOST_COMBINATIONS = 1000
FOR_ALL = ("resume", "engine", "workers", "runs", "trust", "study", "hydra")  # no combination has its own


def parse(words: list[str]) -> list[Override]:
    """Each word as Hydra understands it. Raises UserError for what it does not."""
    require_readable(words, words)
    return OverridesParser.create().parse_overrides(words)


def require_readable(options: list[str], typed: list[str]) -> None:
    """Raise UserError for the first of `options` that Hydra cannot read, with the words that would have worked.
    `typed`: the whole command line, in its order. The folder that resume= names is never read by Hydra."""
    parser = OverridesParser.create()
    for word in options:
        if word.startswith("resume="):
            continue
        try:
            parser.parse_override(word)
        except HydraException:
            raise UserError(_unreadable(word, options, typed)) from None


def _unreadable(word: str, options: list[str], typed: list[str]) -> str:
    key, equals, text = word.partition("=")
    if not equals or not key or not text:
        return _without_value(word, options, typed)
    if re.search(r"[\[\](){}'\",]", text):
        hint = "quote values with spaces, brackets or braces: 'seeds=[0,1]'"
        return f"{word}: '{text}' cannot be read; is a bracket or a quote open? ({hint})"
    escaped = text.replace("\\", "\\\\")
    quoted = f'{key}="{escaped}"'
    return f"{word}: has signs that need quotes inside of quotes; write {shlex.quote(quoted)}"


def _without_value(word: str, options: list[str], typed: list[str]) -> str:
    """Of a word that is not key=value: spaces around the sign, or choices without their group."""
    for left, sign, right in zip(typed, typed[1:], typed[2:], strict=False):
        if sign == "=":
            return f"{left} = {right}: write it without spaces, {left}={right}"
    for left, right in pairwise(typed):
        signs = left.count("=") + right.count("=")
        if signs == 1 and (left.endswith("=") or right.startswith("=")):
            return f"{left} {right}: write it without spaces, {left}{right}"
    bare = [one for one in options if "=" not in one]
    chosen = [f"{group}={one}" for one in bare for group in _groups_of(one)[:1]]
    hint = did_you_mean(" ".join(chosen) or None)
    return f"{word}: is no option{hint} (options are key=value)"


def _groups_of(choice: str) -> list[str]:
    """The groups that have a config called `choice`: algorithms and environments before others."""
    usual = ["algo", "env"]
    return [group for group in [*usual, *groups()] if choice in choices(group)]


@dataclass(frozen=True)
class Sweep:
    """What the words of a sweep stand for: every combination of the values that vary."""

    common: list[str]  # of all combinations
    varied: list[list[str]]  # of each combination: a word for each option with several values
    several_seeds: bool  # seeds are swept too: each combination has them all

    @property
    def keys(self) -> list[str]:
        """The options that vary."""
        return [word.partition("=")[0].lstrip("+") for word in self.varied[0]]


def sweep(words: list[str]) -> Sweep:
    """The combinations that `words` stand for. Raises UserError for what cannot be swept, or has no end."""
    parsed = parse(words)
    common = []
    choices_of = []
    several_seeds = False
    for one in parsed:
        swept = one.is_sweep_override()
        key = one.key_or_group
        values = _expanded(one)
        if swept and key.split(".")[0] in FOR_ALL:
            raise UserError(f"{one.input_line}: {key} cannot be swept, it is the same for all combinations")
        if key == "seeds" and swept:
            common.append(_all_seeds(values))
            several_seeds = True
        elif len(values) > 1:
            choices_of.append(values)
        else:
            common += values
    count = math.prod(map(len, choices_of))
    if count > MOST_COMBINATIONS:
        what = " ".join(str(one.input_line) for one in parsed if one.is_sweep_override())
        raise UserError(f"{what}: more than {MOST_COMBINATIONS:,} combinations; that is too many for one sweep")
    return Sweep(common, [list(each) for each in product(*choices_of)], several_seeds)


def _all_seeds(words: list[str]) -> str:
    """Swept seeds as one list: seeds=0,1,2 are those of each combination."""
    seeds: dict[Any, None] = {}
    for one in parse(words):
        given = one.value()
        several = given if isinstance(given, list) else [given]
        seeds |= dict.fromkeys(map(str, several))
    return f"seeds=[{','.join(seeds)}]"


def _expanded(override: Override) -> list[str]:
    """The words that an override of a sweep stands for, one or more. Raises UserError for what has no end."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    key = override.get_key_element()
    if override.value_type == ValueType.INTERVAL_SWEEP:
        raise UserError(
            f"{override.input_line}: has no end of values, and a sweep tries all; name some, e.g. {key}=1e-4,1e-3,1e-2"
        )
    found = override.value()
    if isinstance(found, Glob):
        known = choices(override.key_or_group)
        if not known:
            raise UserError(f"{override.input_line}: glob(...) is for the names of a group, and {key} is an option")
        names = found.filter(known)
        if not names:
            raise UserError(f"{override.input_line}: fits none of {', '.join(known)}")
        return [f"{key}={name}" for name in names]
    # One more than there may be says that there are too many, however long a range is.
    return [f"{key}={value}" for value in islice(override.sweep_string_iterator(), MOST_COMBINATIONS + 1)]


def at_home(words: list[str]) -> list[str]:
    """`words`, with the home folder for a tilde that begins a value: no shell puts it there."""
    return [re.sub(r"^([^=]+)=(~(?:/.*)?)$", _home, word) for word in words]


def _home(found: re.Match[str]) -> str:
    place = os.path.expanduser(found[2])
    plain = found[1] == "resume" or re.fullmatch(r"[\w./-]+", place, re.ASCII)
    return f"{found[1]}={place}" if plain else f'{found[1]}="{place}"'


def in_lists(words: list[str]) -> list[str]:
    """`words`, with the seeds that a range stands for as a list: to Hydra a range is a sweep."""
    return [re.sub(r"^seeds=range\((.*)\)$", _listed, word) for word in words]


def _listed(found: re.Match[str]) -> str:
    try:
        ends = [int(end) for end in found[1].split(",")]
        seeds = range(*ends)
    except (ValueError, TypeError):
        raise UserError(f"{found[0]}: is no range; e.g. 'seeds=range(3)', which is [0,1,2]") from None
    if not 0 < len(seeds) <= MOST_SEEDS:
        raise UserError(f"{found[0]}: has {len(seeds):,} seeds; from 1 to {MOST_SEEDS:,} can be trained")
    return f"seeds=[{','.join(map(str, seeds))}]"


def value(override: Override) -> Any:
    """The value of an override as plain data. Raises UserError for several values, which are a sweep."""
    if override.is_sweep_override():
        raise UserError(f"{override.input_line}: several values are a sweep; a resumed run takes one")
    return override.value()
