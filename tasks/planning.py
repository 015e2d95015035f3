"""What a run would do, before it does it: the same calls, answered from the store.

While a plan is being made, a stage that is called looks its artifact up instead of making it. Where the
store does not have it, the call returns :class:`Pending`, and stages that need it are only known to run
unless it comes out as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

from storage.artifacts import Artifact, Recipe
from storage.store import Store

Verdict = Literal["cached", "run", "depends"]


@dataclass(frozen=True)
class Pending:
    """Stands for an artifact that a run would make."""

    stage: str


@dataclass(frozen=True)
class Step:
    """One stage (or part) of a plan: what would happen, and why."""

    stage: str
    label: str
    verdict: Verdict
    reasons: tuple[str, ...]
    artifact: Artifact | None = None


@dataclass
class Plan:
    """The steps of a run that has not started, compared with the run before it."""

    store: Store
    earlier: Mapping[tuple[str, str], Recipe]
    """Recipe by stage and label, of the last run of the same pipeline."""
    keys: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Key of the configuration by stage and argument, so that people read the key that they can set."""
    steps: list[Step] = field(default_factory=list)
    purposes: dict[tuple[str, str], str] = field(default_factory=dict)
    """By stage and label, what a step is there for, where a run does not always have it."""

    def look_up(self, stage: str, label: str, recipe: Recipe) -> Artifact | Pending:
        """The artifact if the store has it whole; else say why the stage would run."""
        purpose = tuple(filter(None, [self.purposes.get((stage, label))]))
        artifact = self.store.find(stage, recipe.key)
        if artifact is not None:
            self.steps.append(Step(stage, label, "cached", purpose, artifact))
            return artifact
        before = self.earlier.get((stage, label))
        reasons = () if purpose and before is None else self._reasons(stage, before, recipe)
        self.steps.append(Step(stage, label, "run", (*purpose, *reasons)))
        return Pending(stage)

    def wait_for(self, stage: str, label: str, pending: list[Pending]) -> Pending:
        """A stage whose inputs are not made yet."""
        names = " and ".join(dict.fromkeys(p.stage for p in pending))
        reason = f"waits for {names}; cached if that comes out as before"
        self.steps.append(Step(stage, label, "depends", (reason,)))
        return Pending(stage)

    def _reasons(self, stage: str, before: Recipe | None, now: Recipe) -> tuple[str, ...]:
        if before is None:
            return ("never ran with this configuration",)
        if before == now:
            return ("its artifact is gone from the store, or not whole",)
        if before.inputs.keys().isdisjoint(now.inputs):
            return (f"made from {', '.join(now.inputs)}, the one before from {', '.join(before.inputs)}",)
        return tuple(dict.fromkeys(differences(before, now, self.keys.get(stage, {}))))


def differences(before: Recipe, now: Recipe, keys: Mapping[str, str]) -> Iterator[str]:
    """What changed between two recipes of a stage: code modules, config fields, inputs, by name.

    ``keys`` says of an argument under which key of the configuration it stands; a line may come twice.
    """
    for name in sorted(before.code.keys() | now.code.keys()):
        if before.code.get(name) != now.code.get(name):
            verb = "changed" if name in before.code and name in now.code else "added or removed"
            yield f"code module {name} {verb}"
    old, new = _flat(before.inputs), _flat(now.inputs)
    for path in sorted(old.keys() | new.keys()):
        was, is_now = old.get(path), new.get(path)
        if was != is_now:
            yield _describe(path, was, is_now, keys)


def _describe(path: str, was: Any, is_now: Any, keys: Mapping[str, str]) -> str:
    argument, dot, rest = path.partition(".")
    name = f"config {keys[argument]}{dot}{rest}" if argument in keys else f"input {path}"
    one_is_absent = path.endswith(".artifact") and None in (was, is_now)
    if one_is_absent or path.endswith((".digest", ".fingerprint")):
        return f"{name.rpartition('.')[0]} has other content"
    return f"{name}: {was!r} → {is_now!r}"


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Leaves of nested dicts and lists, by dotted path."""
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = {str(i): item for i, item in enumerate(value)}.items()
    else:
        return {path: value}
    flat: dict[str, Any] = {}
    for name, item in items:
        flat |= _flat(item, f"{path}.{name}" if path else str(name))
    return flat


def pending_in(arguments: Mapping[str, Any]) -> list[Pending]:
    """The arguments (or items of list arguments) that are not made yet."""
    found: list[Pending] = []
    for value in arguments.values():
        items = value if isinstance(value, list | tuple) else [value]
        found += [item for item in items if isinstance(item, Pending)]
    return found


_plan: ContextVar[Plan | None] = ContextVar("plan", default=None)


def active_plan() -> Plan | None:
    """The plan that is being made, if one is."""
    return _plan.get()


@contextmanager
def planning(plan: Plan) -> Iterator[Plan]:
    """Answer every stage call in the block from the store, and note it in ``plan``."""
    token = _plan.set(plan)
    try:
        yield plan
    finally:
        _plan.reset(token)
