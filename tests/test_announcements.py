"""Whom a registration is told to, and as what."""

from typing import Any

import pytest

from flows import announcements
from flows.announcements import announce_registration
from storage.artifacts import Artifact
from tasks.journal import Entry, Journal, State


class Version:
    """The part of a registration's artifact that is read."""

    def __init__(self, decision: str, aliases: list[str]) -> None:
        self.stats = {
            "name": "mini", "version": "3", "decision": decision, "aliases": aliases, "reasons": ["because"]
        }  # fmt: skip


@pytest.mark.parametrize(
    ("decision", "aliases", "event"),
    [
        ("promoted", ["candidate", "champion"], "modelmill.model.promoted"),
        ("promoted", ["candidate"], None),  # left to a person
        ("candidate", ["candidate"], "modelmill.model.refused"),
        ("refused", [], "modelmill.model.refused"),
    ],
)
@pytest.mark.parametrize("state", ["completed", "cached"])
def test_a_new_registration_is_told_by_what_the_gate_said(
    monkeypatch: pytest.MonkeyPatch, decision: str, aliases: list[str], event: str | None, state: State
) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(announcements, "emit_event", lambda name, **rest: told.append({"name": name, **rest}))
    version: Any = Version(decision, aliases)
    announce_registration(Journal([Entry("register", "", state, 1.0, version)]))
    assert [one["name"] for one in told] == ([event] if event and state == "completed" else [])
    assert all(one["payload"]["reasons"] == ["because"] for one in told)


def test_a_run_that_registered_nothing_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcements, "emit_event", lambda *_, **__: pytest.fail("it told"))
    artifact: Artifact | None = None
    announce_registration(Journal())
    announce_registration(Journal([Entry("register", "", "failed", 1.0, artifact, "ValueError: no")]))
