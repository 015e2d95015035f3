"""Held-out documents: chosen by themselves, bounded, and never learned from, not even as a near copy."""

import hashlib
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.artifacts import Artifact, Recipe
from storage.documents import PartWriter, read_rows
from storage.schemas import DOCUMENTS, SIGNATURES
from storage.store import Draft, open_store
from tasks.hold_out import exclude, hold_out
from tasks.taking_down import rules_that_hit
from tasks.text.dedup import NothingLeftError, signature, signature_row
from tasks.text.dedup_config import HoldOutConfig
from tasks.text.dedup_held_out import Quotations, Selection, draw, near_duplicates_of

pytestmark = pytest.mark.usefixtures("home")


def words(seed: int, count: int = 120) -> str:
    rng = random.Random(seed)
    return " ".join(f"w{rng.randrange(5000)}" for _ in range(count))


def document(url: str, text: str, language: str = "en") -> dict[str, Any]:
    return {
        "doc_id": hashlib.sha256(f"{url}\n{text}".encode()).hexdigest(),
        "url": url,
        "domain": "a.example",
        "source_file": "a.warc.gz",
        "source_offset": 0,
        "language": language,
        "text": text,
        "signals": {},
    }


def corpus_of(parts: Sequence[Sequence[dict[str, Any]]]) -> Artifact:
    def work(draft: Draft) -> dict[str, Any]:
        for number, rows in enumerate(parts):
            with PartWriter(draft.path / f"part-{number:05}.parquet", DOCUMENTS) as kept:
                kept.write_all(rows)
            with PartWriter(draft.path / f"signatures-{number:05}.parquet", SIGNATURES) as signatures:
                signatures.write_all(signature_row(row["doc_id"], row["text"]) for row in rows)
        return {}

    ids = [[row["doc_id"] for row in rows] for rows in parts]
    return open_store().make(Recipe(stage="deduplicate", code={}, inputs={"ids": ids}), (), work)


def pages(count: int, language: str = "en", start: int = 0) -> list[dict[str, Any]]:
    return [document(f"u{language}{i}", words(i, 40), language) for i in range(start, start + count)]


def rows_of(artifact: Artifact, name: str) -> list[dict[str, Any]]:
    return list(read_rows(open_store().open(artifact) / name))


def chosen_of(ids: Sequence[str], config: HoldOutConfig) -> frozenset[str]:
    selection = Selection(config)
    for name in ids:
        selection.offer(name, "en", 1000)
    return selection.chosen()


NO_LEAST = HoldOutConfig(fraction=0.05, min_documents=0)


@settings(deadline=None, max_examples=50)
@given(st.sets(st.integers(0, 10**6), min_size=2, max_size=300), st.integers(0, 10))
def test_whether_a_document_is_held_out_depends_on_that_document_alone(numbers: set[int], seed: int) -> None:
    ids = [str(number) for number in numbers]
    everything = {name for name in ids if draw(name, NO_LEAST.salt) < NO_LEAST.fraction}
    random.Random(seed).shuffle(ids)
    assert chosen_of(ids, NO_LEAST) == (everything or {min(ids, key=lambda n: draw(n, NO_LEAST.salt))})


def test_the_share_is_as_asked_and_another_salt_holds_out_others() -> None:
    ids = [str(number) for number in range(20_000)]
    one = chosen_of(ids, NO_LEAST.model_copy(update={"max_bytes": 10**9}))
    other = chosen_of(ids, NO_LEAST.model_copy(update={"salt": "x", "max_bytes": 10**9}))
    assert 900 < len(one) < 1100
    assert len(one & other) < 100


@pytest.mark.parametrize(
    ("bound", "count"),
    [
        ({"max_documents": 7}, 7),
        ({"max_bytes": 5_500}, 5),
        ({"min_documents": 90}, 90),
        ({"min_documents": 900, "max_share": 0.1}, 100),
        ({"max_bytes": 1_000, "min_documents": 90}, 1),
    ],
)
def test_bounds_cut_or_extend_the_order_of_the_draws(bound: dict[str, Any], count: int) -> None:
    ids = [str(number) for number in range(1000)]
    config = NO_LEAST.model_copy(update=bound)
    order = sorted(ids, key=lambda name: draw(name, config.salt))
    assert chosen_of(ids, config) == set(order[:count])


def test_each_language_has_its_share_and_the_artifact_says_so() -> None:
    corpus = corpus_of([pages(300), pages(100, "zh", 1000)])
    artifact = hold_out.run_now(corpus, HoldOutConfig(min_documents=15))
    languages = artifact.stats["languages"]
    assert languages["en"]["documents_in"] == 300
    assert languages["en"]["documents"] >= 15
    assert languages["zh"]["documents"] == 10
    rows = rows_of(artifact, "heldout.parquet")
    assert [row["doc_id"] for row in rows] == sorted(row["doc_id"] for row in rows)
    assert artifact.stats["documents"] == len(rows) == artifact.part("heldout.parquet").rows
    assert artifact.stats["bytes"] == sum(len(row["text"]) for row in rows)
    assert rows_of(artifact, "signatures.parquet") == [signature_row(r["doc_id"], r["text"]) for r in rows]


def test_the_held_out_set_is_the_same_from_any_parts() -> None:
    everything = pages(200)
    digests = {
        hold_out.run_now(corpus_of(parts), HoldOutConfig()).digest
        for parts in ([everything], [everything[:50], everything[50:]], [everything[::-1]])
    }
    assert len(digests) == 1


def test_rows_of_another_file_of_the_same_name_are_not_kept_from_training() -> None:
    rows = [document(f"file:///data.jsonl#{n}", words(n)) for n in range(50)]
    frozen = hold_out.run_now(corpus_of([rows]), HoldOutConfig())
    other = [document(row["url"], words(n, 30)) for n, row in enumerate(rows, 5000)]
    stats = exclude.run_now(corpus_of([other]), frozen, HoldOutConfig()).stats
    assert (stats["same_url"], stats["documents"]) == (0, stats["held_out"])


def test_the_held_out_and_what_repeats_them_is_listed_once_and_nothing_else() -> None:
    everything = pages(200)
    frozen = hold_out.run_now(corpus_of([everything]), HoldOutConfig())
    held = rows_of(frozen, "heldout.parquet")
    near = document("elsewhere", held[0]["text"] + " and a few more words")
    half = document("other", " ".join([held[1]["text"], words(777, 20)]))
    same = document(held[2]["url"], words(778))
    quote = document("long", " ".join([words(779, 300), held[3]["text"], words(780, 300)]))
    new = pages(50, start=5000)
    excluded = rows_of(
        exclude.run_now(
            corpus_of([everything[:120], [near, half, same, quote, *new]]), frozen, HoldOutConfig()
        ),
        "excluded.parquet",
    )
    listed = {row["doc_id"]: (row["reason"], row["detail"]) for row in excluded}
    assert [row["doc_id"] for row in excluded] == sorted(listed)
    assert listed[near["doc_id"]] == ("near_duplicate", held[0]["doc_id"])
    assert listed[half["doc_id"]] == ("near_duplicate", held[1]["doc_id"])
    assert listed[same["doc_id"]] == ("same_url", held[2]["doc_id"])
    assert listed[quote["doc_id"]] == ("quotation", held[3]["doc_id"])
    assert all(listed.pop(row["doc_id"]) == ("held_out", "") for row in held)
    assert len(listed) == 4
    addresses = {row["doc_id"]: row["url"] for row in excluded}
    assert all(addresses[row["doc_id"]] == row["url"] for row in [*held, near, half, same, quote])
    limits = {row["reason"]: row["threshold"] for row in excluded}
    assert limits["near_duplicate"] == HoldOutConfig().near_threshold
    assert limits["quotation"] == HoldOutConfig().contained


def test_what_was_taken_down_since_the_corpus_was_made_is_not_trained_on() -> None:
    everything = pages(200)
    corpus = corpus_of([everything[:100], everything[100:]])
    frozen = hold_out.run_now(corpus, HoldOutConfig())
    held = {row["doc_id"] for row in rows_of(frozen, "heldout.parquet")}
    free = [row for row in everything if row["doc_id"] not in held]
    rules = [f"url {free[0]['url']}", f"url {free[-1]['url']}"]
    assert rules_that_hit(open_store(), corpus, ["domain b.example", *rules]) == rules
    artifact = exclude.run_now(corpus, frozen, HoldOutConfig(), rules)
    listed = {row["url"]: row for row in rows_of(artifact, "excluded.parquet")}
    assert artifact.stats["taken_down"] == 2
    assert artifact.stats["held_out"] == len(held) == len(listed) - 2
    assert listed[free[0]["url"]]["detail"] == f"on the takedown list: {rules[0]}"


def test_excluding_from_the_first_corpus_lists_the_held_out_alone() -> None:
    corpus = corpus_of([pages(200)])
    frozen = hold_out.run_now(corpus, HoldOutConfig())
    artifact = exclude.run_now(corpus, frozen, HoldOutConfig())
    assert artifact.stats == {
        "documents": frozen.stats["documents"],
        "held_out": frozen.stats["documents"],
        "taken_down": 0,
        "same_url": 0,
        "near_duplicate": 0,
        "quotation": 0,
    }


def test_documents_without_a_url_are_not_the_same_page() -> None:
    everything = [document("", words(i, 40)) for i in range(200)]
    corpus = corpus_of([everything])
    frozen = hold_out.run_now(corpus, HoldOutConfig())
    excluded = exclude.run_now(corpus, frozen, HoldOutConfig())
    assert excluded.stats["documents"] == frozen.stats["documents"] == 20


def test_leaks_are_found_from_the_threshold_upwards() -> None:
    rng = random.Random(1)
    originals = [words(seed, 200).split() for seed in range(200)]
    changed = [[rng.choice([w, *[w] * 30, "x"]) for w in text] for text in originals]
    own = [str(i) for i in range(200)], np.stack([signature(" ".join(text)) for text in originals])
    others = [f"near{i}" for i in range(200)], np.stack([signature(" ".join(text)) for text in changed])
    strangers = [f"new{i}" for i in range(200)], np.stack([signature(words(10_000 + i)) for i in range(200)])
    leaks = {leak.doc_id: leak.of for leak in near_duplicates_of(own, [others, own, strangers], 0.5)}
    assert len(leaks) > 190
    assert all(of == name.removeprefix("near") for name, of in leaks.items())


def test_a_quotation_is_measured_by_the_share_of_the_quoted_document() -> None:
    quoted = [words(seed, 200) for seed in range(20)]
    index = Quotations((str(i), text) for i, text in enumerate(quoted))
    half = " ".join(quoted[7].split()[:104])
    leak = index.quoted("x", f"{words(500, 2000)} {half} {words(501, 2000)}", 0.5)
    assert leak is not None
    assert leak.of == "7"
    assert leak.similarity == pytest.approx(100 / 196, abs=0.02)
    assert index.quoted("x", f"{words(500)} {' '.join(quoted[7].split()[:90])}", 0.5) is None
    assert index.quoted("x", "", 0.5) is None
    assert Quotations([("a", "too short")]).quoted("x", "too short", 0.5) is None


def test_texts_without_letters_leak_nothing() -> None:
    empty = ["a", "b"], np.stack([signature("!!"), signature("??")])
    assert list(near_duplicates_of(empty, [(["c"], signature("...")[None])], 0.5)) == []
    assert list(near_duplicates_of(empty, [([], np.zeros((0, 128), np.uint32))], 0.5)) == []


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_documents_are_said(count: int) -> None:
    with pytest.raises(NothingLeftError, match=rf"has {count} document"):
        hold_out.run_now(corpus_of([pages(count)]), HoldOutConfig())
