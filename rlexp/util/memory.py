"""Memory that a process frees and asks for again, at every update the same."""

import ctypes
import functools
import sys

# parameters of mallopt, from glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
LARGEST = 32 * 2**20  # bytes of a block that is kept; glibc takes no more on all systems
KEPT = 512 * 2**20  # bytes, about


@functools.cache
def keep_freed() -> bool:
    """Keep freed memory, up to half a gigabyte of it, for what is asked for next; whether the system can.

    By default glibc gives blocks of megabytes back to the system as soon as they are freed. The system fills them with
    zeros, page by page, when the next update asks for them: a tenth of an update of a transformer.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in musl
    return bool(mallopt and mallopt(M_MMAP_THRESHOLD, LARGEST) and mallopt(M_TRIM_THRESHOLD, KEPT))
