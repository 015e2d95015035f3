"""The list of what must not be used any more, kept in the store so that every run on it honours it.

Nothing is ever deleted from it: putting a rule on the list and withdrawing it are entries of a log, a note
each, and a rule is in force where its last entry put it there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from storage.store import Store

FOLDER = "takedowns"


@dataclass(frozen=True)
class Entry:
    """What was done with a rule (see :mod:`tasks.web.takedown`), when (ISO 8601, UTC) and why."""

    rule: str
    reason: str
    at: str
    withdrawn: bool = False


def take_down(store: Store, rule: str, reason: str) -> bool:
    """Put a rule on the list; False where it was there already."""
    return _append(store, rule, reason, withdrawn=False)


def withdraw(store: Store, rule: str, reason: str) -> bool:
    """Take a rule off the list, which keeps the record of both; False where it was not in force."""
    return _append(store, rule, reason, withdrawn=True)


def log(store: Store) -> list[Entry]:
    """Everything that was ever done to the list, oldest first."""
    return sorted((entry for entries in _by_rule(store).values() for entry in entries), key=lambda e: e.at)


def in_force(store: Store) -> list[Entry]:
    """The rules on the list, each by the entry that put it there, oldest first."""
    last = (entries[-1] for entries in _by_rule(store).values())
    return sorted((entry for entry in last if not entry.withdrawn), key=lambda entry: entry.at)


def taken_down(store: Store) -> list[str]:
    """The rules on the list, sorted."""
    return sorted(entry.rule for entry in in_force(store))


def requests(store: Store, rules: Iterable[str]) -> dict[str, str]:
    """Each rule with when it was put on the list and why, to read; alone where it is off it by now."""
    found = {entry.rule: f"{entry.rule}, on the takedown list since {entry.at} ({entry.reason})"
             for entry in in_force(store)}  # fmt: skip
    return {rule: found.get(rule, rule) for rule in rules}


def _append(store: Store, rule: str, reason: str, *, withdrawn: bool) -> bool:
    """Write a rule's next entry, unless its last one says the same already."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    entry = asdict(Entry(rule, reason, at, withdrawn))
    first = f"{FOLDER}/{hashlib.sha256(rule.encode()).hexdigest()[:32]}"
    while True:  # until nobody else has written in between
        own = [name for name in store.list_notes(FOLDER) if name.startswith(first)]
        last = store.read_note(own[-1]) if own else None
        if withdrawn == (last is None or last.get("withdrawn", False)):
            return False
        number = int(own[-1].removeprefix(first).lstrip("-") or 0) + 1 if own else 0
        place = f"{first}-{number:06}" if number else first
        if store.write_note(place, entry, only_if_absent=True) == entry:
            return True


def _by_rule(store: Store) -> dict[str, list[Entry]]:
    """Each rule's entries in the order in which they were made, which is that of their notes' names."""
    found: dict[str, list[Entry]] = {}
    for name in store.list_notes(FOLDER):
        if (note := store.read_note(name)) is not None:
            withdrawn = bool(note.get("withdrawn", False))
            entry = Entry(str(note["rule"]), str(note["reason"]), str(note["at"]), withdrawn)
            found.setdefault(entry.rule, []).append(entry)
    return found
