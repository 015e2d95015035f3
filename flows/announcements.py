"""Events that tell the world what became of a model, for automations to act on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from prefect.events import emit_event

from storage.registry import CHAMPION
from tasks.journal import Journal

PROMOTED = "modelmill.model.promoted"
REFUSED = "modelmill.model.refused"


def announce_registration(journal: Journal) -> None:
    """Tell of the version that the journal's run registered: promoted, or refused with the gate's reasons.

    Silent where nothing was registered, where the registration came from the store (it was told of when it
    was made), and where the configuration leaves the promotion to a person.
    """
    entry = journal.last("register")
    if entry is None or entry.artifact is None or entry.state != "completed":
        return
    stats = entry.artifact.stats
    if CHAMPION in stats["aliases"]:
        announce("promoted", stats["name"], stats["version"], stats["reasons"])
    elif stats["decision"] != "promoted":
        announce("refused", stats["name"], stats["version"], stats["reasons"])


def announce(
    decision: Literal["promoted", "refused"], name: str, version: str | int, reasons: Sequence[str]
) -> None:
    """Emit ``modelmill.model.promoted`` or ``modelmill.model.refused`` for a registered model's version.

    Inside a flow run Prefect relates the event to the run by itself; without a Prefect server it is a no-op.
    """
    emit_event(
        PROMOTED if decision == "promoted" else REFUSED,
        resource={
            "prefect.resource.id": f"modelmill.model.{name}",
            "prefect.resource.name": name,
            "modelmill.model.version": str(version),
        },
        payload={"name": name, "version": str(version), "decision": decision, "reasons": list(reasons)},
    )
