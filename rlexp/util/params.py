"""Declaring hyperparameters: type, meaning, unit, range and source of each stand once, in a frozen dataclass.

The value stands in yaml. `typed` merges the two and names the key of whatever does not fit.
"""

import math
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException, ValidationError

from rlexp.util.errors import UserError, did_you_mean, nearest


def param(
    doc: str,
    *,
    unit: str = "",
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    choices: tuple[str, ...] | None = None,
    source: str = "",
    file: bool = False,
    default: Any = MISSING,
) -> Any:
    """A field of a `Params` class: what it means, its unit, the range it must lie in, and where the term comes from;
    `file`: whether it names one, on whose content the run depends."""
    bounds = {"≥": ge, ">": gt, "≤": le, "<": lt}
    return field(
        default=default,
        metadata={"doc": doc, "unit": unit, "bounds": bounds, "choices": choices, "source": source, "file": file},
    )


_HOLDS = {"≥": lambda x, b: x >= b, ">": lambda x, b: x > b, "≤": lambda x, b: x <= b, "<": lambda x, b: x < b}


LARGEST = 10**15  # of whole numbers: a million steps a second make so many in thirty years


class OutOfRange(ValueError):
    """A value outside the range its declaration allows; `key` is the field's name."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, kw_only=True)
class Params:
    """Base of every config class: checks the declared ranges and choices when it is made."""

    def __post_init__(self) -> None:
        for f in fields(self):
            value, meta = getattr(self, f.name), f.metadata
            if value is None or not meta:
                continue
            for item in value if isinstance(value, list) else [value]:
                self._check(f.name, item, meta)

    @staticmethod
    def _check(key: str, value: Any, meta: Any) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            raise OutOfRange(key, f"must be a finite number, not {value} ({meta['doc']})")
        if isinstance(value, int) and abs(value) > LARGEST:
            digits = len(str(abs(value)))
            raise OutOfRange(key, f"must be at most {LARGEST:.0e}, not a number of {digits} digits ({meta['doc']})")
        bounds = meta["bounds"]
        if any(bound is not None for bound in bounds.values()) and not isinstance(value, int | float):
            raise OutOfRange(key, f"must be a number, not {value!r} ({meta['doc']})")
        for sign, bound in bounds.items():
            if bound is not None and not _HOLDS[sign](value, bound):
                raise OutOfRange(key, f"must be {sign} {bound}, not {value} ({meta['doc']})")
        if meta["choices"] and value not in meta["choices"]:
            raise OutOfRange(key, f"must be one of {', '.join(meta['choices'])}, not '{value}' ({meta['doc']})")


def typed(schema: type[Params], node: dict[str, Any], where: str) -> Any:
    """`node` as an instance of `schema`; `where` is the group's name in messages. Raises UserError."""
    declared = {f.name: f for f in fields(schema)}
    for key in node:
        if key not in declared:
            close = nearest(key, declared)
            if close is not None:
                close = f"{where}.{close}"
            raise UserError(f"{where}.{key}: unknown option{did_you_mean(close)}")
    for key, f in declared.items():
        if key not in node and f.default is f.default_factory is MISSING:
            folder = where.split(".")[0]
            raise UserError(
                f"{where}.{key}: has no value; write one into the yaml in conf/{folder}/ ({f.metadata['doc']})"
            )
    hints = typing.get_type_hints(schema)
    for key, value in node.items():  # OmegaConf reads any number as true or false
        if hints[key] is bool and not isinstance(value, bool):
            raise UserError(f"{where}.{key}: {value!r} is not true or false")
    try:
        config = OmegaConf.merge(OmegaConf.structured(schema), _whole_numbers(schema, node))
        return OmegaConf.to_object(config)
    except OutOfRange as error:
        raise UserError(f"{where}.{error.key}: {error}") from None
    except MissingMandatoryValue as error:
        raise UserError(
            f"{where}.{error.full_key}: a value is missing; give one with {where}.{error.full_key}=..."
        ) from None
    except ValidationError as error:
        key = str(error.full_key or "").split("[")[0]
        wanted = declared[key].type if key in declared else "another type"
        raise UserError(f"{where}.{error.full_key}: {node.get(key)!r} is not {_article(wanted)}") from None
    except OmegaConfBaseException as error:
        raise UserError(f"{where}: {str(error).splitlines()[0]}") from None


def _article(wanted: Any) -> str:
    names = {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "str": "a word",
        "list[int]": "a list of whole numbers",
        "dict[str, typing.Any]": "a mapping, such as {map_name:8x8}",
    }
    text = wanted.__name__ if isinstance(wanted, type) else str(wanted)
    words = names.get(text.removesuffix(" | None"), text)
    return words + (" or null" if text.endswith("| None") else "")


def _whole_numbers(schema: type, node: dict[str, Any]) -> dict[str, Any]:
    """1e6 is a float to yaml; where a whole number is declared, a whole float is one."""
    hints = typing.get_type_hints(schema)
    return {
        key: int(value)
        if hints[key] in (int, int | None) and isinstance(value, float) and value.is_integer()
        else value
        for key, value in node.items()
    }


def all_keys(node: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of all options, leaves and groups."""
    out = []
    for key, value in node.items():
        out.append(prefix + str(key))
        if isinstance(value, dict):
            out += all_keys(value, f"{prefix}{key}.")
    return out


def nearest_key(word: str, keys: list[str]) -> str | None:
    """The dotted name closest to the unknown one `word`, or None.

    First of its own last part in another group, then of a last part that is close, then as a whole.
    """
    last = word.split(".")[-1]
    by_last: dict[str, str] = {}
    for key in keys:
        own_last = key.split(".")[-1]
        if key != word and own_last == last:
            return key
        if key != word:
            by_last[own_last] = key
    close = nearest(last, by_last)
    if close is not None:
        return by_last[close]
    return nearest(word, keys)


def flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping by dotted keys."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{name}.")
        else:
            found[name] = value
    return found
