"""How many processors this process may use."""

from __future__ import annotations

import os

SHARE = "MODELMILL_PROCESSORS"
"""Environment variable with this process's share of the processors, where other processes have theirs."""


def processors() -> int:
    """Processors that this process may use, at least 1: its share, else those that the kernel lets it run on.

    A container may have few of a machine's many.
    """
    share = os.environ.get(SHARE, "")
    if share.isdecimal() and int(share):
        return int(share)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
