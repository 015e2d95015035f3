"""Commands that follow the data: ``lineage`` from a model back to its sources, ``why`` for one page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from textwrap import indent
from typing import Any

from rich.console import Console

from flows import show
from flows.environment import prepare
from flows.references import find_artifact
from flows.tracing import Fate, addresses_like, fates
from storage.artifacts import Artifact
from storage.errors import ArtifactMissingError
from storage.store import Store, open_store
from tasks.ancestry import ancestors

BEFORE = (
    "An earlier run's text had it: only the tokenizer and the choice of held-out documents, which a lineage "
    "keeps, come from there. A new `lineage` in the configuration makes both anew."
)

ROWS = 1000
"""Rows of a domain's table whose columns are laid out together."""


def lineage_command(console: Console, model: str, *, url: str, domain: str, as_json: bool) -> None:
    """Print the tree of artifacts behind a model, or what became of a page or a domain on its way there.

    Raises TakedownError where the domain is no host, or a page is asked for too.
    """
    prepare()
    from tasks.web.takedown import TakedownError, rule

    if url and domain:
        raise TakedownError("give --url or --domain, not both")
    store, artifact = open_store(), find_artifact(model)
    if not (url or domain):
        if as_json:
            console.print_json(json.dumps(_tree(store, artifact)))
        else:
            console.print(show.lineage_tree(store, artifact))
        return
    column, value = ("url", url) if url else ("domain", rule("domain", domain).removeprefix("domain "))
    own = _by_age(ancestors(store, [artifact], past_frozen=False))
    found = fates(store, own, column, value)  # type: ignore[arg-type]
    if as_json:
        _print_json(console, found)
        return
    counts = show.fate_counts(_printed(console, found))
    if not counts:
        say_unknown(console, store, own, value, is_url=bool(url))
    elif domain:
        console.print(counts, soft_wrap=True, highlight=False)
    mine = {(a.kind, a.key) for a in own}
    earlier = [a for a in ancestors(store, [artifact]) if (a.kind, a.key) not in mine]
    if any(fate.outcome == "present" for fate in fates(store, earlier, column, value)):  # type: ignore[arg-type]
        console.print(BEFORE, highlight=False, soft_wrap=True)


def why_command(console: Console, url: str, name: str, *, as_json: bool) -> None:
    """Print what the last run says of a page; raises ArtifactMissingError where nothing ran yet."""
    prepare()
    store = open_store()
    artifacts = last_run(store, name)
    if artifacts is None:
        raise ArtifactMissingError(f"no run of {name or 'any model'} is in the store {store.uri} yet")
    found = list(fates(store, artifacts, "url", url))
    if as_json:
        _print_json(console, found)
    elif found:
        console.print(show.fate_table(found))
    else:
        say_unknown(console, store, artifacts, url, is_url=True)


def last_run(store: Store, name: str = "") -> list[Artifact] | None:
    """What the last run (of a model's name) made or found, and what that was made from, oldest first.

    None where nothing ran yet.
    """
    from flows.runs import entries_of, run_notes

    note = next(run_notes(store, name or None), None)
    if note is None:
        return None
    roots = [entry.artifact for entry in entries_of(store, note)]
    return _by_age(ancestors(store, [root for root in roots if root is not None], past_frozen=False))


def _by_age(artifacts: list[Artifact]) -> list[Artifact]:
    """Oldest first: the order of the stages."""
    return sorted(artifacts, key=lambda artifact: artifact.created)


def say_unknown(
    console: Console, store: Store, artifacts: list[Artifact], value: str, *, is_url: bool
) -> None:
    """Say that no artifact knows a page or a domain and, of a page, which addresses are like it."""
    from tasks.web.takedown import is_whole

    if not is_url or is_whole(value):
        _say(console, f"No artifact knows {value}: no source had it, or it was never reached.")
    else:
        _say(console, f"{value} is no whole address, such as https://example.org/page, and no artifact's.")
    if is_url and (like := addresses_like(store, artifacts, value)):
        _say(console, "\n".join(["Addresses that begin or end so:", *(f"  {url}" for url in like)]))


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _printed(console: Console, found: Iterator[Fate]) -> Iterator[Fate]:
    """The fates as they come, each batch of them printed: a domain may have more than memory holds."""
    goes_on = False
    while batch := list(islice(found, ROWS)):
        console.print(show.fate_table(batch, goes_on=goes_on))
        goes_on = True
        yield from batch


def _print_json(console: Console, found: Iterable[Fate]) -> None:
    """A JSON array of fates, written as they come."""
    before = "["
    for fate in found:
        item = indent(json.dumps(fate.as_dict(), indent=2, ensure_ascii=False), "  ")
        console.out(f"{before}\n{item}", end="", highlight=False)
        before = ","
    console.out("[]" if before == "[" else "\n]", highlight=False)


def _tree(store: Store, root: Artifact) -> dict[str, Any]:
    """An artifact with its parents, whole where it comes first and by its name elsewhere.

    A corpus that adds to earlier ones is made from all of them, and each of these from those before it.
    """
    seen: set[tuple[str, str]] = set()

    def grow(artifact: Artifact) -> dict[str, Any]:
        if (artifact.kind, artifact.key) in seen:
            return artifact.as_parent().model_dump()
        seen.add((artifact.kind, artifact.key))
        own = artifact.model_dump(mode="json", exclude={"parents"})
        parents = (store.find(parent.kind, parent.key) for parent in artifact.parents)
        return {**own, "parents": [grow(parent) for parent in parents if parent is not None]}

    return grow(root)
