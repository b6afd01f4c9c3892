"""What a seed tells whoever runs it."""

import traceback
from dataclasses import dataclass, field
from typing import Any

from rlexp.util.errors import UserError


@dataclass(frozen=True)
class Event:
    """What a seed tells whoever runs it. `kind`: progress, evaluation, warning, done, failed, interrupted."""

    seed: int
    kind: str
    text: str = ""
    data: dict[str, Any] = field(default_factory=dict)


def failure(seed: int, error: BaseException) -> Event:
    """A failed seed as an event: one line, and the traceback for the log."""
    first = (str(error).splitlines() or [""])[0]
    text = first if isinstance(error, UserError) else f"{type(error).__name__}: {first}"
    return Event(seed, "failed", text, {"traceback": "".join(traceback.format_exception(error))})
