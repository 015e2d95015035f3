"""What Prefect does by itself: end runs whose process is gone, and tell people what happened.

``python -m flows.automations [--webhook URL]`` makes them on the server that PREFECT_API_URL names.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import timedelta
from typing import cast
from uuid import UUID

import yaml
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.settings import PREFECT_API_URL

from flows.announcements import PROMOTED, REFUSED

ZOMBIES = "modelmill: end runs that show no sign of life"
TROUBLE = "modelmill: tell when a run fails or crashes"
MODELS = "modelmill: tell when a model is promoted or refused"
SILENCE_S = 300
"""Ten heartbeats: a run that is silent for so long is taken for dead. Less would end living runs on a machine
that swaps or was suspended for a moment, and what dies on the stack's own machine is seen at once anyway."""
BLOCK = "modelmill-notifications"
"""Name of the webhook block that notifications go through."""

# The templates are Jinja, filled by the server. Slack, Mattermost and Discord-compatible receivers show
# `text`; the other keys are for programs.
RUN_PAYLOAD = """{
 "text": {{ ("modelmill: " ~ flow_run.name ~ " is " ~ flow_run.state.name ~ ". "
             ~ (flow_run.state.message or "") ~ " " ~ (flow_run | ui_url)) | tojson }},
 "event": {{ event.event | tojson }},
 "flow": {{ flow.name | tojson }},
 "run": {{ flow_run.name | tojson }},
 "state": {{ flow_run.state.name | tojson }},
 "message": {{ (flow_run.state.message or "") | tojson }},
 "url": {{ (flow_run | ui_url) | tojson }}
}"""
MODEL_PAYLOAD = """{
 "text": {{ ("modelmill: model " ~ event.payload["name"] ~ " version " ~ event.payload["version"]
             ~ (" is champion" if event.payload["decision"] == "promoted" else " does not become champion")
             ~ ". "
             ~ (event.payload["reasons"] | join("; "))) | tojson }},
 "event": {{ event.event | tojson }},
 "model": {{ event.payload["name"] | tojson }},
 "version": {{ event.payload["version"] | tojson }},
 "decision": {{ event.payload["decision"] | tojson }},
 "reasons": {{ event.payload["reasons"] | tojson }}
}"""


def zombies() -> AutomationCore:
    """A run whose process was killed sends no heartbeat any more: mark it Crashed, which frees its slot."""
    ended = {f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "Cancelled", "Crashed")}
    return AutomationCore(
        name=ZOMBIES,
        description=f"A run that was running and sent nothing for {SILENCE_S} s is marked Crashed.",
        tags=["modelmill"],
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *ended},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SILENCE_S),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"No sign of life for {SILENCE_S} s: its process is gone. Run it again to go on.",
            )
        ],
    )


def trouble(block: UUID) -> AutomationCore:
    """Post to the webhook when a run fails, crashes or exceeds its time."""
    states = ("Failed", "Crashed", "TimedOut")
    return AutomationCore(
        name=TROUBLE,
        description="Posts the run's name, state, message and address to the webhook.",
        tags=["modelmill"],
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{state}" for state in states},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[CallWebhook(block_document_id=block, payload=RUN_PAYLOAD)],
    )


def models(block: UUID) -> AutomationCore:
    """Post to the webhook when the gate promotes a model, or refuses to."""
    return AutomationCore(
        name=MODELS,
        description="Posts the model's name, version and the gate's reasons to the webhook.",
        tags=["modelmill"],
        trigger=EventTrigger(
            expect={PROMOTED, REFUSED},
            match=ResourceSpecification({"prefect.resource.id": ["modelmill.model.*"]}),
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[CallWebhook(block_document_id=block, payload=MODEL_PAYLOAD)],
    )


def make(client: SyncPrefectClient, webhook: str = "") -> list[str]:
    """Make or update the automations, those that post only where there is a webhook; gives their names."""
    wanted = [zombies()]
    if webhook:
        block = Webhook(method="POST", url=webhook, headers={"content-type": "application/json"})
        document = cast(UUID, block.save(BLOCK, overwrite=True))
        wanted += [trouble(document), models(document)]
    for automation in wanted:
        put(client, automation)
    return [automation.name for automation in wanted]


def put(client: SyncPrefectClient, automation: AutomationCore) -> None:
    """Create an automation, or bring those of its name to the same; whether it is enabled stays as it was."""
    found = client.read_automations_by_name(automation.name)
    if not found:
        client.create_automation(automation)
    for existing in found:
        client.update_automation(existing.id, automation.model_copy(update={"enabled": existing.enabled}))


def as_yaml() -> str:
    """The automation that needs no webhook, as a file for ``prefect automation create --from-file``."""
    head = "# Made by `python -m flows.automations --yaml`.\n"
    values = zombies().model_dump(mode="json", exclude_none=True)
    values["trigger"]["expect"] = sorted(values["trigger"]["expect"])
    return head + yaml.safe_dump(values, sort_keys=False, width=110)


def named_client() -> SyncPrefectClient:
    """A client of the server that PREFECT_API_URL names.

    Raises SystemExit where it names none: Prefect would start one for the moment, and no worker ever asks it.
    """
    if not PREFECT_API_URL.value():
        raise SystemExit("PREFECT_API_URL names no server: set it, such as to http://127.0.0.1:4200/api.")
    return get_client(sync_client=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the automations on the server that PREFECT_API_URL names."""
    parser = argparse.ArgumentParser(prog="python -m flows.automations", description=main.__doc__)
    parser.add_argument("--webhook", default="", help="post notifications to this address")
    parser.add_argument("--yaml", action="store_true", help="print deploy/automations/silent-runs.yaml")
    chosen = parser.parse_args(arguments)
    if chosen.yaml:
        print(as_yaml(), end="")
        return
    with named_client() as client:
        for name in make(client, chosen.webhook):
            print(name)


if __name__ == "__main__":
    main()
