"""How many processors this process may use."""

from __future__ import annotations

import os


def processors() -> int:
    """Processors that the kernel lets this process run on, at least 1; a container may have few of many."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
