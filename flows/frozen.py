"""Artifacts that stay as they were first made, so that runs can be compared.

A tokenizer that changed with every crawl would change every id, and a held-out set that changed would
compare models on different questions. The first artifact of a lineage is kept under a name, and later runs
take it as it is; another name (or another setting of the stage) is a decision to begin anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from storage.artifacts import Artifact, digest_json
from storage.store import open_store
from tasks.fingerprint import canonical
from tasks.settings import StageConfig
from tasks.stage import Stage


def frozen(stage: Stage[Any], scope: str, config: StageConfig, make: Callable[[], Artifact]) -> Artifact:
    """The artifact kept for ``stage`` under ``scope`` and this config; made and kept if there is none whole.

    ``scope`` names the lineage (a model's name and its sources, or a name that the user gave).
    """
    if (artifact := kept(stage, scope, config)) is not None:
        return stage.reuse(artifact)
    artifact = make()
    if isinstance(artifact, Artifact):  # a plan has only a stand-in
        note = {"stage": stage.name, "key": artifact.key, "scope": scope}
        open_store().write_note(_place(stage, scope, config), note)
    return artifact


def kept(stage: Stage[Any], scope: str, config: StageConfig) -> Artifact | None:
    """The artifact that an earlier run of the lineage has kept, if it is in the store yet."""
    note = open_store().read_note(_place(stage, scope, config))
    return None if note is None else open_store().find(stage.name, note["key"])


def _place(stage: Stage[Any], scope: str, config: StageConfig) -> str:
    return f"refs/{stage.name}-{digest_json([scope, canonical(config, stage.name)])[:16]}"
