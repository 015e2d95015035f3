"""What the versions of a registry were made from: the artifacts that their tags name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from storage.home import tracking_uri
from storage.mlflow_database import SQLITE
from storage.mlflow_outage import answering
from storage.registry import TAG, connect

ARTIFACT_TAGS = ("model_artifact", "report_artifact", "shards_artifact")


@dataclass(frozen=True)
class Registered:
    """A version, the token shards that it was trained on, and the report of its evaluation."""

    model: str
    """``models:/NAME/VERSION``."""
    aliases: tuple[str, ...]
    shards: tuple[str, str]
    """Kind and key, as of the report."""
    report: tuple[str, str]


def registered_versions() -> Iterator[Registered]:
    """Every version of every model of the registry that says what it was trained on."""

    @cache  # a search for versions leaves their aliases out
    def aliases(name: str) -> dict[str, str]:
        return dict(connect().get_registered_model(name).aliases)

    for version in _versions():
        shards, report = _artifact(version, "shards_artifact"), _artifact(version, "report_artifact")
        if shards and report:
            number, known = str(version.version), aliases(version.name)
            names = tuple(sorted(name for name in known if str(known[name]) == number))
            yield Registered(f"models:/{version.name}/{number}", names, shards, report)


def registered_artifacts() -> Iterator[tuple[str, str]]:
    """Kind and key of every artifact that a registered version needs, in every model of the registry."""
    for version in _versions():
        yield from filter(None, (_artifact(version, tag) for tag in ARTIFACT_TAGS))


def _artifact(version: Any, tag: str) -> tuple[str, str] | None:
    """Kind and key of the artifact that a version's tag names."""
    kind, _, key = version.tags.get(TAG + tag, "").partition("/")
    return (kind, key) if key else None


def _versions() -> Iterator[Any]:
    """The registry's versions, page by page; none where the database here was never made."""
    uri = tracking_uri()
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists():
        return
    client, page = connect(), ""
    while True:
        with answering(client.tracking_uri):
            versions = client.search_model_versions("", max_results=1000, page_token=page or None)
        yield from versions
        page = versions.token
        if not page:
            return
