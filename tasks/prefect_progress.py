"""A stage's progress as a live artifact in the Prefect UI.

It is only shown: where Prefect's server is away, the stage goes on and its bar stands still.
"""

from __future__ import annotations

import time
from dataclasses import replace
from types import TracebackType
from typing import Self
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import TaskRunContext
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from tasks.progress import Event

FIRST_AFTER_S = 3.0
"""Stages shorter than this need no bar; the API call would cost more than it tells."""
INTERVAL_S = 2.0
PAUSE_S = 30.0
"""After a try that failed, since the stage waits for each."""


class PrefectProgress:
    """Listens to one stage's progress events and moves a progress artifact, seldom enough to cost nothing."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._artifact: UUID | None = None
        self._next = time.monotonic() + FIRST_AFTER_S
        self._last: Event | None = None

    def __call__(self, event: Event) -> None:
        """Show an event, if it is time to and there is a total to measure against."""
        if not event.total:
            return
        now, self._last = time.monotonic(), event
        if now < self._next or TaskRunContext.get() is None:
            return
        self._next = now + INTERVAL_S
        self._show(100.0 * event.done / event.total, event)

    def _show(self, percent: float, event: Event) -> None:
        done = f"{event.done:,.0f} of {event.total:,.0f} {event.unit}".strip()
        figures = (f"{name.replace('_', ' ')} {value}" for name, value in event.detail.items())
        text = " · ".join([done, *figures])
        percent = min(100.0, max(0.0, percent))
        try:
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):  # else a minute of waiting
                self._put(percent, text)
        except (httpx.HTTPError, PrefectException):
            self._next = time.monotonic() + PAUSE_S

    def _put(self, percent: float, text: str) -> None:
        if self._artifact is None:
            created = create_progress_artifact(
                percent, key=f"{self.stage.replace('_', '-')}-progress", description=text
            )
            self._artifact = created if isinstance(created, UUID) else None
        else:
            update_progress_artifact(self._artifact, progress=percent, description=text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._artifact is not None and self._last is not None:
            self._show(100.0, replace(self._last, detail={}))  # what is going on and left is over
