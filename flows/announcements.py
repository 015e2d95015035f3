"""Events that tell the world what became of a model, for automations to act on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from prefect.events import emit_event

PROMOTED = "modelmill.model.promoted"
REFUSED = "modelmill.model.refused"


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
