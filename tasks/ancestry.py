"""What an artifact was made from, and what that was made from, back to the sources."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from storage.artifacts import Artifact
from storage.store import Store

FROZEN = ("train_tokenizer", "hold_out")
"""Kinds that a lineage keeps: what they were made from may be of an earlier run."""


def ancestors(store: Store, roots: Iterable[Artifact], *, past_frozen: bool = True) -> list[Artifact]:
    """These artifacts and those that they were made from, each once, the nearest first.

    Without ``past_frozen``, what the tokenizer and the held-out set were made from is left out where the
    model's own text was not made from it too.
    """
    found: dict[tuple[str, str], Artifact] = {}
    queue = deque(roots)
    while queue:
        artifact = queue.popleft()
        if (artifact.kind, artifact.key) in found:
            continue
        found[artifact.kind, artifact.key] = artifact
        if past_frozen or artifact.kind not in FROZEN:
            parents = (store.find(parent.kind, parent.key) for parent in artifact.parents)
            queue += [parent for parent in parents if parent is not None]
    return list(found.values())
