"""Child processes that end with this one and leave Ctrl-C to it, and the cores and threads that there are for them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def limit_threads(n: int) -> None:
    """Threads of numerical libraries, in this process before they are imported, and in those that it starts."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(n)


def spawn(target: Callable[[Connection], None]) -> tuple[Any, Connection]:
    """Start `target(pipe)` in a new process. Returns the process, and the other end of its pipe."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_begin, args=(target, theirs), daemon=True)
    main = threading.current_thread() is threading.main_thread()  # no other may set handlers
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None  # deaf to Ctrl-C from its birth
    try:
        process.start()
    finally:
        if main:
            signal.signal(signal.SIGINT, before)
    theirs.close()
    return process, ours


def _begin(target: Callable[[Connection], None], pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Windows inherits no handlers
    threading.Thread(target=_die_with_parent, daemon=True).start()
    target(pipe)


def _die_with_parent() -> None:
    """A killed parent must not leave workers that write into a folder which somebody resumes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
