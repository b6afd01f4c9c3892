"""Declaring hyperparameters: type, meaning, unit, range and source of each stand once, in a frozen dataclass.

The value stands in yaml. `config.typed` merges the two and names the key of whatever does not fit.
"""

import math
from dataclasses import MISSING, dataclass, field, fields
from typing import Any


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
        for sign, bound in meta["bounds"].items():
            if bound is not None and not _HOLDS[sign](value, bound):
                raise OutOfRange(key, f"must be {sign} {bound}, not {value} ({meta['doc']})")
        if meta["choices"] and value not in meta["choices"]:
            raise OutOfRange(key, f"must be one of {', '.join(meta['choices'])}, not '{value}' ({meta['doc']})")
