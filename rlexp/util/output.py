"""Output that fails ends nothing: a full disk, a terminal or reader that is gone, an encoding without a sign."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rlexp.util.files import in_one_line


class Steady:
    """A text stream that writes what it can; after a failure it is silent."""

    def __init__(self, stream: Any):
        self._stream = stream
        with suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except (OSError, ValueError):
            self._silence()
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._silence()

    def _silence(self) -> None:
        """What is still in the stream's buffer goes nowhere, or Python would try again when it ends, and fail."""
        with suppress(OSError, ValueError, AttributeError):
            place = self._stream.fileno()  # which a stream in memory does not have
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), place)
            self._stream.flush()


@contextmanager
def steady() -> Iterator[None]:
    """Within, stdout and stderr are steady, and a thread that fails says so in one line."""
    before = (sys.stdout, sys.stderr, threading.excepthook)
    sys.stdout = Steady(_open(sys.stdout))  # type: ignore[assignment]
    sys.stderr = Steady(_open(sys.stderr))  # type: ignore[assignment]
    threading.excepthook = say_of_thread
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr, threading.excepthook = before


def say_of_thread(failure: threading.ExceptHookArgs) -> None:
    """One line instead of a traceback: threads here are those of loggers and renderers, without which training goes
    on."""
    kind = failure.exc_type.__name__
    reason = in_one_line(failure.exc_value) if failure.exc_value is not None else ""
    name = failure.thread.name if failure.thread is not None else "?"
    with suppress(OSError, ValueError):
        print(f"warning: thread {name} has failed: {kind}: {reason}", file=sys.stderr, flush=True)


def _open(stream: Any) -> Any:
    """The stream; one to nowhere in place of none, or of one that is closed."""
    if stream is None or stream.closed:
        return open(os.devnull, "w", encoding="utf-8")
    return stream
