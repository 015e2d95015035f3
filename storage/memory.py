"""What a process has freed, given back to the system."""

from __future__ import annotations

import contextlib
import ctypes


def give_back() -> None:
    """Return freed memory that the allocator keeps; takes a millisecond or two: do it once a batch.

    Large pieces that come and go leave a heap in which little is used and nothing is returned by itself.
    """
    with contextlib.suppress(OSError, AttributeError):  # of glibc alone
        ctypes.CDLL(None).malloc_trim(0)
