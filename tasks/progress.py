"""How far a stage is, told to whoever listens: the terminal, Prefect, a test.

Stages report as often as they like; listeners hear at most a few times a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

INTERVAL_S = 0.25


@dataclass(frozen=True)
class Event:
    """One thing that happened to a stage."""

    stage: str
    label: str
    """Which of the mapped parts, or empty."""
    state: str
    """``started``, ``progress``, ``note`` (``detail["text"]``), ``completed``, ``cached``, ``failed`` or
    ``stopped``."""
    done: float = 0
    total: float | None = None
    unit: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]
_listeners: list[Listener] = []
_lock = threading.Lock()


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have ``listener`` hear every event of this process while the block runs."""
    with _lock:
        _listeners.append(listener)
    try:
        yield
    finally:
        with _lock:
            _listeners.remove(listener)


def tell(event: Event) -> None:
    """Hand an event to every listener, in the calling thread."""
    with _lock:
        listeners = tuple(_listeners)
    for listener in listeners:
        listener(event)


class Progress:
    """A stage's own reporter: throttled, so that a tight loop may call it for every item."""

    def __init__(self, stage: str, label: str, sinks: tuple[Listener, ...] = ()) -> None:
        self.stage = stage
        self.label = label
        self._sinks = (tell, *sinks)
        self._last = 0.0

    def __call__(self, done: float, total: float | None = None, unit: str = "", **detail: Any) -> None:
        """Report ``done`` of ``total`` ``unit``, with figures worth showing beside the bar."""
        now = time.monotonic()
        if now - self._last < INTERVAL_S and done != total:
            return
        self._last = now
        event = Event(self.stage, self.label, "progress", done, total, unit, detail)
        for sink in self._sinks:
            sink(event)

    def note(self, text: str) -> None:
        """Tell a sentence that people should see while the stage works."""
        tell(Event(self.stage, self.label, "note", detail={"text": text}))
