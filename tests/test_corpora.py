"""Corpora that add up over runs: what each is compared with, and that what has not changed stays cached."""

import hashlib
from typing import Any

import pytest

from flows.config import CorpusConfig
from flows.corpora import earlier_corpora
from flows.runs import remember
from storage.artifacts import Artifact, Recipe
from storage.documents import PartWriter, read_rows
from storage.schemas import DOCUMENTS, SIGNATURES
from storage.store import Draft, open_store
from tasks.deduplicate import deduplicate
from tasks.journal import Entry, Journal
from tasks.text.dedup import signature_row
from tasks.text.dedup_config import DeduplicateConfig

pytestmark = pytest.mark.usefixtures("home")

ADDING = CorpusConfig(
    name="news", sources=["*.warc.gz"], deduplicate=DeduplicateConfig(earlier_runs="add", near=False)
)
REPLACING = ADDING.model_copy(update={"deduplicate": DeduplicateConfig(near=False)})


def cleaned(pages: str, *, rules: str = "papers", forgotten: str = "") -> Artifact:
    """A part as cleaning leaves it, one page a letter, made from a source of that content.

    Pages that are ``forgotten`` were taken down before it.
    """

    def write(draft: Draft) -> dict[str, Any]:
        with (
            PartWriter(draft.path / "kept.parquet", DOCUMENTS) as kept,
            PartWriter(draft.path / "signatures.parquet", SIGNATURES) as signatures,
        ):
            for letter in sorted(set(pages) - set(forgotten)):
                url, text = f"https://site.example/{letter}", f"The page {letter} speaks of {letter * 5}."
                doc_id = hashlib.sha256(f"{url}\n{text}".encode()).hexdigest()
                about = {"source_file": "a.jsonl", "source_offset": 0, "language": "en", "signals": {}}
                kept.write({"doc_id": doc_id, "url": url, "domain": "site.example", "text": text, **about})
                signatures.write(signature_row(doc_id, text))
        return {}

    store = open_store()
    source = store.make(
        Recipe(stage="ingest", code={}, inputs={"source": pages, "mode": rules}), (), lambda _: {}
    )
    if forgotten:
        inputs = {"documents": pages, "rules": [forgotten]}
        recipe = Recipe(stage="take_down", code={}, inputs=inputs)
        source = store.make(recipe, (source.as_parent(),), lambda _: {})
    recipe = Recipe(stage="clean", code={}, inputs={"documents": source.key, "rules": rules})
    return store.make(recipe, (source.as_parent(),), write)


def run(config: CorpusConfig, *parts: Artifact) -> tuple[Artifact, str]:
    """What a run makes of its parts, noted as runs are, and the pages that its corpus holds."""
    journal = Journal()
    with remember(config.name, config.scope, config, journal):
        earlier = earlier_corpora(config, list(parts))
        corpus = deduplicate.run_now(list(parts), config.deduplicate, earlier)
        journal.entries.append(Entry("deduplicate", "", "completed", 0.0, corpus))
    folder = open_store().open(corpus)
    rows = [row for path in sorted(folder.glob("part-*.parquet")) for row in read_rows(path)]
    return corpus, "".join(sorted(row["url"][-1] for row in rows))


def test_a_corpus_holds_only_what_those_before_it_lack() -> None:
    assert run(ADDING, cleaned("abc"))[1] == "abc"
    assert run(ADDING, cleaned("abc"), cleaned("cde"))[1] == "de"
    corpus, pages = run(ADDING, cleaned("adfg"))
    assert pages == "fg"
    assert corpus.stats["rejected"] == {"exact_url_of_earlier_run": 2}


def test_unless_asked_for_each_corpus_takes_the_formers_place() -> None:
    run(REPLACING, cleaned("abc"))
    assert run(REPLACING, cleaned("abc"), cleaned("cde"))[1] == "abcde"


def test_unchanged_sources_give_the_corpus_that_is_there() -> None:
    first, _ = run(ADDING, cleaned("abc"))
    second, _ = run(ADDING, cleaned("abcd"))
    assert run(ADDING, cleaned("abc"))[0].key == first.key
    assert run(ADDING, cleaned("abcd"))[0].key == second.key


def test_other_rules_do_not_make_a_run_its_own_predecessor() -> None:
    run(ADDING, cleaned("abc"))
    run(ADDING, cleaned("bcd"))
    assert run(ADDING, cleaned("bcd", rules="own"))[1] == "d"
    assert run(ADDING, cleaned("abc", rules="own"))[1] == "abc"


def test_other_lineages_do_not_count() -> None:
    run(ADDING, cleaned("abc"))
    other = ADDING.model_copy(update={"lineage": "other"})
    assert run(other, cleaned("abcd"))[1] == "abcd"
    assert run(ADDING.model_copy(update={"name": "papers"}), cleaned("abcd"))[1] == "abcd"


def test_what_was_taken_down_or_came_back_keeps_its_corpus_in_its_place() -> None:
    first, _ = run(ADDING, cleaned("abc"))
    run(ADDING, cleaned("abc"), cleaned("de"))
    assert run(ADDING, cleaned("abc", forgotten="b"))[1] == "ac"
    assert run(ADDING, cleaned("abc"))[0].key == first.key, "withdrawn, it is the corpus that it was"
