"""The list of what must not be used any more, kept in the store so that every run on it honours it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from storage.store import Store

FOLDER = "takedowns"


def take_down(store: Store, rule: str, reason: str) -> bool:
    """Put a rule (see :mod:`tasks.web.takedown`) on the list; False where it was there already."""
    place = f"{FOLDER}/{hashlib.sha256(rule.encode()).hexdigest()[:32]}"
    if store.read_note(place) is not None:
        return False
    at = datetime.now(UTC).isoformat(timespec="seconds")
    store.write_note(place, {"rule": rule, "reason": reason, "at": at}, only_if_absent=True)
    return True


def taken_down(store: Store) -> list[str]:
    """The rules on the list, sorted."""
    notes = (store.read_note(name) for name in store.list_notes(FOLDER))
    return sorted(str(note["rule"]) for note in notes if note is not None)
