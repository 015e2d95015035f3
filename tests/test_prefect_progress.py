"""What the progress artifact of a stage says when the stage is over."""

from typing import Any

import pytest

from tasks import prefect_progress
from tasks.prefect_progress import PrefectProgress
from tasks.progress import Event


def test_the_end_is_told_in_words_too(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[float, str]] = []

    def update(_artifact: Any, *, progress: float, description: str) -> None:
        shown.append((progress, description))

    monkeypatch.setattr(prefect_progress, "FIRST_AFTER_S", 0.0)
    monkeypatch.setattr(prefect_progress.TaskRunContext, "get", object)
    monkeypatch.setattr(prefect_progress, "update_progress_artifact", update)
    with PrefectProgress("pretrain") as sink:
        sink._artifact = object()  # type: ignore[assignment] # made earlier
        sink(Event("pretrain", "", "progress", 57, 60, "steps", {"seconds_left": 3}))
        sink(Event("pretrain", "", "progress", 60, 60, "steps", {"seconds_left": 0}))
    assert shown == [(95.0, "57 of 60 steps · seconds left 3"), (100.0, "60 of 60 steps")]
