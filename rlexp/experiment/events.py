"""What a seed tells whoever runs it."""

import traceback
from dataclasses import dataclass, field
from typing import Any

from rlexp.util.errors import UserError
from rlexp.util.watchdog import Hung


@dataclass(frozen=True)
class Event:
    """What a seed tells whoever runs it. `kind`: progress, evaluation, warning, done, failed, interrupted."""

    seed: int
    kind: str
    text: str = ""
    data: dict[str, Any] = field(default_factory=dict)


def failure(seed: int, error: BaseException) -> Event:
    """A failed seed as an event: one line, and the traceback for the log."""
    text = printable(_first_line(error))
    if not isinstance(error, UserError | Hung):
        text = f"{type(error).__name__}: {text}".removesuffix(": ")
    return Event(seed, "failed", text, {"traceback": printable("".join(traceback.format_exception(error)))})


def _first_line(error: BaseException) -> str:
    try:
        return (str(error).splitlines() or [""])[0]
    except Exception:  # an exception class of somebody else's
        return "(its message cannot be made)"


def printable(text: str) -> str:
    """The text without what UTF-8 cannot say: halves of surrogate pairs."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
