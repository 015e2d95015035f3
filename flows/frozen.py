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
from tasks.planning import active_plan
from tasks.settings import StageConfig
from tasks.stage import Stage


def frozen(stage: Stage[Any], scope: str, config: StageConfig, make: Callable[[], Artifact]) -> Artifact:
    """The artifact kept for ``stage`` under ``scope`` and this config; made and kept if there is none whole.

    ``scope`` names the lineage (a model's name and its sources, or a name that the user gave). Of two runs
    that make one at once, both take that of the run which has kept its own first.
    """
    if (artifact := kept(stage, scope, config)) is not None:
        return stage.reuse(artifact)
    artifact = make()
    if active_plan() is not None:  # which has only a stand-in
        return artifact
    note, place = {"stage": stage.name, "key": artifact.key, "scope": scope}, _place(stage, scope, config)
    first = open_store().write_note(place, note, only_if_absent=True)
    if first["key"] != artifact.key:
        if (theirs := open_store().find(stage.name, first["key"])) is not None:
            return stage.reuse(theirs)
        open_store().write_note(place, note)  # theirs is gone from the store
    return artifact


def kept(stage: Stage[Any], scope: str, config: StageConfig) -> Artifact | None:
    """The artifact that an earlier run of the lineage has kept, if it is in the store yet."""
    note = open_store().read_note(_place(stage, scope, config))
    return None if note is None else open_store().find(stage.name, note["key"])


def _place(stage: Stage[Any], scope: str, config: StageConfig) -> str:
    return f"refs/{stage.name}-{digest_json([scope, canonical(config, stage.name)])[:16]}"
