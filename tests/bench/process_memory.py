"""What a process tree holds: a child's own ru_maxrss starts at that of the parent it was forked from."""

from __future__ import annotations

from contextlib import suppress

import psutil


def resident(pid: int) -> int:
    """Bytes that a process and its children hold in memory; a page that several share counts once (PSS)."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        head = psutil.Process(pid)
        for each in (head, *head.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += each.memory_full_info().pss
    return total
