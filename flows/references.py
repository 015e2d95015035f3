"""From a name that people write to the artifact that it means."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from flows.runs import run_notes
from storage.artifacts import KEY_LENGTH, Artifact
from storage.errors import ArtifactMissingError
from storage.store import Store, open_store

PLACES_NAMED = 5
"""Artifacts that are named at most to who named none."""


def find_artifact(name: str) -> Artifact:
    """The artifact behind ``models:/NAME@alias``, ``models:/NAME/3`` or ``KIND/KEY`` (or a key's start).

    A name alone means that model's champion, NAME/3 its version where there is no such kind.

    Raises ArtifactMissingError where the store has none, or several that begin so; RegistryError where MLflow
    has no such version.
    """
    store, name = open_store(), name.strip()
    if name.startswith("models:/") or "/" not in name:
        from storage.registry import version_artifact

        kind, key = version_artifact(name)
    else:
        kind, _, key = name.partition("/")
    if len(key) == KEY_LENGTH and (whole := store.find(kind, key)) is not None:
        return whole  # without a look at all the others, each a request where the store is a bucket
    present = list(store.artifacts(kind))
    found = [artifact for artifact in present if key and artifact.key.startswith(key)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ArtifactMissingError(f"{kind}/{key} may mean {_places(found)}: give more of the key.")
    if not present and key.isdecimal():  # NAME/3, as commands on models take it
        from storage.registry import RegistryError

        with suppress(RegistryError):
            return find_artifact(f"models:/{name}")
    kinds = ", ".join(sorted({f"{artifact.kind}/…" for artifact in store.artifacts()}))
    there = _places(present) or kinds or "nothing yet"
    raise ArtifactMissingError(f"{kind}/{key} is not in the store {store.uri}; it has: {there}")


def _places(artifacts: list[Artifact]) -> str:
    """The latest of these, for people."""
    latest = [f"{artifact.kind}/{artifact.key}" for artifact in reversed(artifacts)]
    more = len(latest) - PLACES_NAMED
    return ", ".join(latest[:PLACES_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def named_or_latest(reference: str, stage: str, name: str) -> Artifact:
    """The artifact of ``stage`` that ``reference`` names or, where it is empty, the latest of a model's runs.

    Raises ArtifactMissingError where there is none, or the reference is another stage's.
    """
    store, reference = open_store(), reference.strip()
    if reference:
        kind = reference.partition("/")[0] if "/" in reference else ""
        found = find_artifact(reference) if kind in ("", "models:", stage) else None
        if found is None or found.kind != stage:
            raise ArtifactMissingError(
                f"{reference} is an artifact of {found.kind if found else kind}; wanted is one of {stage}, "
                f"as {stage}/KEY, or nothing for that of the latest run of {name}"
            )
        store.use(found.kind, found.key)
        return found
    for note in run_notes(store, name):
        for entry in _entries(note, stage):
            if (artifact := store.use(stage, entry["key"])) is not None:
                return artifact
    raise ArtifactMissingError(
        f"no run of {name} has left an artifact of {stage} in the store {store.uri} yet; check the name, or "
        "run the flow that makes it first"
    )


def scope_of(artifact: Artifact, name: str) -> str:
    """The lineage in which a run made or found an artifact; the model's name where no run's note tells."""
    for note in run_notes(open_store()):
        if any(entry["key"] == artifact.key for entry in _entries(note, artifact.kind)):
            return str(note["scope"])
    return name


def parent(artifact: Artifact, stage: str) -> Artifact:
    """The artifact of ``stage`` from which another was made.

    Raises ArtifactMissingError where it is gone from the store.
    """
    store: Store = open_store()
    for reference in artifact.parents:
        if reference.kind == stage and (found := store.use(stage, reference.key)) is not None:
            return found
    raise ArtifactMissingError(
        f"the {stage} artifact behind {artifact.kind}/{artifact.key} is gone from the store {store.uri}: "
        "run the pipeline again"
    )


def _entries(note: dict[str, Any], stage: str) -> list[dict[str, Any]]:
    return [entry for entry in note["entries"] if entry["stage"] == stage and "key" in entry]
