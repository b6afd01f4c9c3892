"""Who gives no sign of life is ended, with a line that says where it hangs.

Code that may hang says what it begins with `alive`; a thread beside it waits for the next sign. After `patience`
seconds without one, a signal raises `Hung` in the main thread. That ends loops in Python and calls that a signal
interrupts (sleep, sockets, pipes, locks). Native code that heeds none is left where it is: `last_word` is called with
the message, and the process ends with exit code 1.

Time is counted in the thread's own ticks: a process that was stopped (Ctrl-Z) or starved has not been silent.
"""

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Item = TypeVar("Item")

TICK = 1.0  # s between two looks, at most
GRACE = 10.0  # s for Hung to end what hangs, at most
SLOW = 5.0  # s that one call may overrun a time limit, at most: it is only slow
# Ignored where nobody handles it, and used by hardly anybody: a program that takes it away does no harm.
SIGNAL = getattr(signal, "SIGURG", None)


class Hung(BaseException):
    """Nothing has happened for too long. No Exception: code that tries again after any exception must not catch it."""


@dataclass(frozen=True)
class _Limit:
    """Seconds that some work may take as a whole."""

    seconds: float
    option: str  # that sets them
    begun: float  # of time.monotonic

    def left(self) -> float:
        """For the call that begins now. The last one may overrun."""
        left = self.begun + self.seconds - time.monotonic()
        return max(left, min(self.seconds, SLOW))


class _Sign:
    """The last sign of life in this process."""

    count = 0
    what = ""
    allowed = math.inf
    limit: _Limit | None = None


def alive(what: str = "") -> None:
    """A sign of life. `what` begins now and may hang, in words: "step() of 'Hopper-v5'"."""
    _Sign.what = what
    _Sign.allowed = math.inf if _Sign.limit is None else _Sign.limit.left()
    _Sign.count += 1


@contextmanager
def within(seconds: float, option: str) -> Iterator[None]:
    """Inside, a call hangs that takes longer than is left of `seconds`, which `option` sets, or than patience."""
    before = _Sign.limit
    _Sign.limit = _Limit(seconds, option, time.monotonic())
    alive()
    try:
        yield
    finally:
        _Sign.limit = before
        alive()


class Watch:
    """Inside, what runs between two signs may take `patience` seconds; None: any time that `within` does not limit. It
    watches the main thread, while it is `on`; in another thread, which no signal reaches, it does nothing. Used
    once."""

    def __init__(self, patience: float | None, last_word: Callable[[str], None] = lambda message: None):
        self.patience = math.inf if patience is None else patience
        self.last_word = last_word
        self.on = False
        self.message = ""  # what Hung says
        self.ended = threading.Event()
        self.watched = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> "Watch":
        if self.watched:
            if SIGNAL is not None:
                self.before = signal.signal(SIGNAL, self._interrupt)
            threading.Thread(target=self._look, name="watchdog", daemon=True).start()
        self.resume()
        return self

    def __exit__(self, *_: object) -> None:
        self.on = False
        self.ended.set()
        if self.watched and SIGNAL is not None:
            signal.signal(SIGNAL, self.before)

    def resume(self) -> None:
        """Watch from now on."""
        alive()
        self.on = True

    def each(self, items: Generator[Item, None, None]) -> Iterator[Item]:
        """The `items`, of which only the making is watched, not what is done with them."""
        try:
            while True:
                self.resume()
                try:
                    item = next(items)
                except StopIteration:
                    return
                finally:
                    self.on = False
                yield item
        finally:
            items.close()

    def _look(self) -> None:
        """The thread's work: count seconds of silence, and interrupt; then wait for that to have helped."""
        seen = -1
        silent = 0.0
        self.message = ""
        while True:
            allowed = min(self.patience, _Sign.allowed)
            limit = min(GRACE, allowed) if self.message else allowed
            tick = min(TICK, limit / 4)
            if self.ended.wait(tick):
                return
            silent += tick
            if not self.on or _Sign.count != seen:
                seen = _Sign.count
                silent = 0.0
                self.message = ""
            elif silent >= limit:
                silent = 0.0
                if self.message or SIGNAL is None:
                    self._end(self.message or self._described(allowed))
                else:
                    self.message = self._described(allowed)
                    signal.pthread_kill(_main(), SIGNAL)

    def _interrupt(self, number: int, frame: Any) -> None:
        if self.on and self.message:
            raise Hung(self.message)

    def _described(self, seconds: float) -> str:
        """What has hung for `seconds`, whose the limit is, and where in the code the main thread is."""
        subject = f"{_Sign.what} has not returned" if _Sign.what else "nothing has happened"
        option = "train.patience"
        if _Sign.limit is not None and seconds < self.patience:
            option = _Sign.limit.option
        return f"{subject} for {seconds:.3g} s ({option}){_place()}"

    def _end(self, message: str) -> None:
        """End the process, whose main thread cannot be reached."""
        with suppress(Exception):
            self.last_word(message)
        os._exit(1)


def _main() -> int:
    return threading.main_thread().ident or 0


def _place() -> str:
    """Where in the code the main thread is."""
    frame = sys._current_frames().get(_main())
    while frame is not None and frame.f_back is not None and _is_pythons(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None:
        return ""
    code = frame.f_code
    return f"; it is at line {frame.f_lineno} of {Path(code.co_filename).name}, in {code.co_name}()"


def _is_pythons(file: str) -> bool:
    """Whether a module belongs to Python's own library."""
    return file.startswith((os.path.dirname(os.__file__), "<frozen")) and "site-packages" not in file
