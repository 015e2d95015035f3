"""What a process holds, and what it has freed given back to the system."""

from __future__ import annotations

import contextlib
import ctypes


def give_back() -> None:
    """Return freed memory that the allocator keeps; takes a millisecond or two: do it once a batch.

    Large pieces that come and go leave a heap in which little is used and nothing is returned by itself.
    """
    with contextlib.suppress(OSError, AttributeError):  # of glibc alone
        ctypes.CDLL(None).malloc_trim(0)


def resident_bytes(pid: int) -> int:
    """What a process holds in memory; raises ProcessLookupError where there is no such process."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error as error:
        raise ProcessLookupError(str(error)) from None
