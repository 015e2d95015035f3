"""A model's champion, which changes only by compare-and-set, and the way back to the former one.

Whoever promotes says which champion was compared with, and is refused where another one has taken its place
since. Within one machine a kernel lock makes that exact. Between machines that share a tracking server, which
offers no such operation, a claim written to the registered model and read back before and after the change
leaves a window of one request, and a change that falls into it is noticed and reported as lost.

Each version remembers which champion it replaced, so that a rollback goes back version by version.
"""

from __future__ import annotations

import getpass
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from storage.descriptions import BY_HAND, describe_model, describe_version
from storage.home import home
from storage.locks import exclusive
from storage.mlflow_outage import answering
from storage.registry import CHAMPION, TAG, RegistryError, contents, resolve, version_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

CLAIM, HISTORY = TAG + "champion_claim", TAG + "champion_history"
REPLACED = TAG + "replaced"
HISTORY_KEPT = 12
GATE = "the gate"
"""Who promotes where nobody does it by hand."""


class ChampionChangedError(RegistryError):
    """Another version became champion since the comparison that a promotion rests on."""


@dataclass(frozen=True)
class Change:
    """A champion's change, as it is recorded."""

    name: str
    version: str
    replaced: str
    """The former champion's version, empty where there was none."""
    action: str
    """``promote`` or ``rollback``."""
    reason: str
    at: str
    by: str
    """``the gate``, or ``hand`` with a name in brackets."""


def by_hand(who: str = "") -> str:
    """How a change that a person makes is signed: by ``who``, else by the name of this process's user."""
    try:
        return f"hand ({who or getpass.getuser()})"
    except (OSError, KeyError, ImportError):  # in a container whose user has no name
        return "hand"


@contextmanager
def champion_lock(name: str) -> Iterator[None]:
    """Held while a champion is changed; dies with its process."""
    with exclusive(home() / "locks" / f"champion-{name}.lock"):
        yield


def promote(
    client: MlflowClient, name: str, version: str, *, expected: str, reason: str, by: str = GATE
) -> Change:
    """Make a version champion if the champion still is ``expected`` (a version, or empty for none).

    Raises ChampionChangedError where another one is champion by now, RegistryError where there is no such
    version or it is champion already.
    """
    version = str(resolve(client, f"models:/{name}/{version}").version)
    return _change(client, name, version, expected=expected, action="promote", reason=reason, by=by)


def promote_by_hand(client: MlflowClient, model: str, *, reason: str, who: str = "") -> Change:
    """Make ``models:/NAME/3`` or ``models:/NAME@candidate`` champion, whatever the gate said.

    Raises RegistryError where there is no such version, or it is champion already.
    """
    version = resolve(client, model)
    present = version_of(client, version.name, CHAMPION)
    expected = str(present.version) if present is not None else ""
    signed = by_hand(who)
    return promote(client, version.name, str(version.version), expected=expected, reason=reason, by=signed)


def rollback(client: MlflowClient, name: str, *, reason: str, who: str = "") -> Change:
    """Make the former champion champion again: the version that the present one replaced.

    Raises RegistryError where there is no champion, or none before it.
    """
    present = version_of(client, name, CHAMPION)
    if present is None:
        has = contents(client, name)
        raise RegistryError(f"models:/{name} has no champion to roll back from in the registry {has}")
    former = present.tags.get(REPLACED, "")
    if not former:
        raise RegistryError(
            f"models:/{name}/{present.version} is the first champion: there is none before it"
        )
    expected, signed = str(present.version), by_hand(who)
    return _change(client, name, former, expected=expected, action="rollback", reason=reason, by=signed)


def _change(
    client: MlflowClient, name: str, version: str, *, expected: str, action: str, reason: str, by: str
) -> Change:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    change = Change(name, version, expected, action, reason, now, by)
    with champion_lock(name), answering(client.tracking_uri):
        _expect(client, name, expected)
        if version == expected:  # it would become its own predecessor, and no rollback could leave it
            raise RegistryError(f"models:/{name}/{version} is champion already: nothing was changed")
        claim = f"{version} {uuid.uuid4().hex}"
        client.set_registered_model_tag(name, CLAIM, claim)
        _expect(client, name, expected)
        _expect_claim(client, name, claim)
        if action == "promote":  # before the alias: whoever is cut off here has left the way back
            client.set_model_version_tag(name, version, REPLACED, expected)
        client.set_registered_model_alias(name, CHAMPION, version)
        _expect_claim(client, name, claim)
        _record(client, change)
    return change


def _expect(client: MlflowClient, name: str, expected: str) -> None:
    present = version_of(client, name, CHAMPION)
    found = str(present.version) if present is not None else ""
    if found != expected:
        raise ChampionChangedError(
            f"models:/{name}: the champion is {found or 'none'}, not {expected or 'none'} as compared with; "
            f"compare with the present one"
        )


def _expect_claim(client: MlflowClient, name: str, claim: str) -> None:
    if client.get_registered_model(name).tags.get(CLAIM) != claim:
        raise ChampionChangedError(
            f"models:/{name}: another process changed the champion at the same moment; look at both versions"
        )


def _record(client: MlflowClient, change: Change) -> None:
    """Keep the last changes on the registered model, and have its page and the versions' tell of this one."""
    entry = {**asdict(change), "reason": change.reason[:500]}
    kept = [*history(client, change.name), entry][-HISTORY_KEPT:]
    client.set_registered_model_tag(change.name, HISTORY, json.dumps(kept, ensure_ascii=False))
    if change.by != GATE:
        client.set_model_version_tag(change.name, change.version, BY_HAND, _told(entry))
    elif BY_HAND in client.get_model_version(change.name, change.version).tags:
        client.delete_model_version_tag(change.name, change.version, BY_HAND)
    describe_version(client, change.name, change.version)
    if change.action == "rollback":
        told = f"rolled back by {change.by} on {change.at}: {entry['reason']}"
        client.set_model_version_tag(change.name, change.replaced, BY_HAND, told)
        describe_version(client, change.name, change.replaced)
    describe_model(client, change.name, _told(entry))


def describe(client: MlflowClient, name: str) -> None:
    """Have a registered model's page tell of its present champion."""
    with champion_lock(name):
        changes = history(client, name)
        describe_model(client, name, _told(changes[-1]) if changes else "")


def _told(entry: Mapping[str, str]) -> str:
    """A change as a sentence on the version that it made champion."""
    done = "promoted" if entry["action"] == "promote" else f"brought back in place of {entry['replaced']}"
    by = f" by {entry['by']}" if "by" in entry else ""
    return f"{done}{by} on {entry['at']}: {entry['reason']}"


def history(client: MlflowClient, name: str) -> list[dict[str, str]]:
    """The champion's last changes, oldest first: action, version, replaced, at, by, reason."""
    kept: list[dict[str, str]] = json.loads(client.get_registered_model(name).tags.get(HISTORY, "[]"))
    return kept
