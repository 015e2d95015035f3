"""Commands that follow the data: ``lineage`` from a model back to its sources, ``why`` for one page."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

from flows import show
from flows.environment import prepare
from flows.references import find_artifact
from flows.tracing import Fate, ancestors, fates
from storage.artifacts import Artifact
from storage.errors import ArtifactMissingError
from storage.store import Store, open_store

BEFORE = (
    "An earlier run's text had it: only the tokenizer and the choice of held-out documents, which a lineage "
    "keeps, come from there. A new `lineage` in the configuration makes both anew."
)


def lineage_command(console: Console, model: str, *, url: str, domain: str, as_json: bool) -> None:
    """Print the tree of artifacts behind a model, or what became of a page or a domain on its way there.

    Raises TakedownError where the domain is no host.
    """
    prepare()
    from tasks.web.takedown import rule

    store, artifact = open_store(), find_artifact(model)
    if not (url or domain):
        if as_json:
            console.print_json(json.dumps(_tree(store, artifact)))
        else:
            console.print(show.lineage_tree(store, artifact))
        return
    column, value = ("url", url) if url else ("domain", rule("domain", domain).removeprefix("domain "))
    own = ancestors(store, [artifact], past_frozen=False)
    found = list(fates(store, own, column, value))  # type: ignore[arg-type]
    _print(console, found, value, as_json=as_json)
    if domain and not as_json:
        console.print(show.fate_counts(found), soft_wrap=True, highlight=False)
    mine = {(a.kind, a.key) for a in own}
    earlier = [a for a in ancestors(store, [artifact]) if (a.kind, a.key) not in mine]
    if not as_json and any(fate.outcome == "present" for fate in fates(store, earlier, column, value)):  # type: ignore[arg-type]
        console.print(BEFORE, highlight=False, soft_wrap=True)


def why_command(console: Console, url: str, name: str, *, as_json: bool) -> None:
    """Print what the last run says of a page; raises ArtifactMissingError where nothing ran yet."""
    prepare()
    from flows.runs import entries_of, run_notes

    store = open_store()
    note = next(run_notes(store, name or None), None)
    if note is None:
        raise ArtifactMissingError(f"no run of {name or 'any model'} is in the store {store.uri} yet")
    roots = [entry.artifact for entry in entries_of(store, note) if entry.artifact is not None]
    _print(
        console,
        list(fates(store, ancestors(store, roots, past_frozen=False), "url", url)),
        url,
        as_json=as_json,
    )


def _print(console: Console, found: list[Fate], value: str, *, as_json: bool) -> None:
    if as_json:
        console.print_json(json.dumps([fate.as_dict() for fate in found]))
    elif found:
        console.print(show.fate_table(found))
    else:
        console.print(f"No artifact knows {value}: no source had it, or it was never reached.")


def _tree(store: Store, artifact: Artifact) -> dict[str, Any]:
    parents = [store.find(parent.kind, parent.key) for parent in artifact.parents]
    own = artifact.model_dump(mode="json", exclude={"parents"})
    return {**own, "parents": [_tree(store, parent) for parent in parents if parent is not None]}
