"""The deduplicate stage: cleaned parts in, a corpus out, every document kept or rejected with its reason."""

import hashlib
import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from storage.artifacts import Artifact, Recipe
from storage.documents import PartWriter, read_rows
from storage.schemas import DOCUMENTS, REJECTS, SIGNATURES
from storage.store import Draft, open_store
from tasks.deduplicate import deduplicate
from tasks.text.dedup import NothingLeftError, signature_row
from tasks.text.dedup_config import BoilerplateConfig, DeduplicateConfig, ReduceConfig

pytestmark = pytest.mark.usefixtures("home")


def document(url: str, text: str, *, language: str = "en", day: int = 1) -> dict[str, Any]:
    return {
        "doc_id": hashlib.sha256(f"{url}\n{text}".encode()).hexdigest(),
        "url": url,
        "domain": url.split("/")[2],
        "fetched_at": datetime(2025, 1, day, tzinfo=UTC),
        "source_file": "a.warc.gz",
        "source_offset": 0,
        "language": language,
        "language_score": 1.0,
        "text": text,
        "signals": {"words": 3.0},
    }


def cleaned(
    rows: Sequence[dict[str, Any]], name: str, signed: Sequence[dict[str, Any]] | None = None
) -> Artifact:
    """An artifact as cleaning leaves it; ``signed`` gives other documents' signatures to it."""

    def work(draft: Draft) -> dict[str, Any]:
        with PartWriter(draft.path / "kept.parquet", DOCUMENTS) as kept:
            kept.write_all(rows)
        with PartWriter(draft.path / "signatures.parquet", SIGNATURES) as signatures:
            for row in rows if signed is None else signed:
                signatures.write(signature_row(row["doc_id"], row["text"]))
        return {"documents": len(rows), "rejected": {"too_short": 4}}

    return open_store().make(Recipe(stage="clean", code={}, inputs={"name": name}), (), work)


def sentences(seed: int, count: int = 30) -> str:
    rng = random.Random(seed)
    return "\n".join(" ".join(f"w{rng.randrange(9999)}" for _ in range(8)) for _ in range(count))


def rows_of(artifact: Artifact, prefix: str) -> list[dict[str, Any]]:
    folder = open_store().open(artifact)
    return [row for path in sorted(folder.glob(f"{prefix}-*.parquet")) for row in read_rows(path)]


ROWS = ("file:///data.jsonl", "https://h.example/x")
MENU = "Home and news of the day\nAll products by name and price\nAbout this shop and its people"


def site(count: int = 12) -> list[dict[str, Any]]:
    return [
        document(f"https://shop.example/{i}", f"{MENU}\n\n{sentences(i)}\nExample:") for i in range(count)
    ]


def test_each_document_is_kept_or_rejected_for_a_reason_that_names_who_stays() -> None:
    first = document("https://a.example/1", sentences(1))
    same_text = document("https://b.example/1", sentences(1).upper() + "!", day=2)
    near = document("https://c.example/1", sentences(1).replace("w1", "x", 1), day=3)
    near["text"] = near["text"][:-8]
    other = document("https://d.example/1", sentences(2))
    corpus = deduplicate.run_now(
        [cleaned([first, other], "x"), cleaned([same_text, near], "y")], DeduplicateConfig()
    )
    kept, rejects = rows_of(corpus, "part"), {row["url"]: row for row in rows_of(corpus, "rejects")}
    stays = next(row for row in kept if row["url"] != other["url"])
    assert {row["url"] for row in kept} | set(rejects) == {r["url"] for r in (first, same_text, near, other)}
    assert {row["reason"] for row in rejects.values()} == {"exact_text", "near_duplicate"}
    assert {row["detail"] for row in rejects.values()} == {stays["doc_id"]}
    assert 0.75 <= rejects[near["url"]]["value"] <= 1
    assert rejects[near["url"]]["threshold"] == 0.75
    assert stays["signals"] == {"words": 3.0}
    assert corpus.stats["rejected"] == {"exact_text": 1, "near_duplicate": 1}
    assert corpus.stats["documents_in"] == 4


def test_a_part_in_is_a_part_out_with_signatures_of_the_texts_as_they_are() -> None:
    corpus = deduplicate.run_now([cleaned(site(), "x"), cleaned([], "y")], DeduplicateConfig())
    folder = open_store().open(corpus)
    for name, schema in (("part", DOCUMENTS), ("rejects", REJECTS), ("signatures", SIGNATURES)):
        for number in (0, 1):
            file = f"{name}-{number:05}.parquet"
            assert pq.read_schema(folder / file).equals(schema)
            assert corpus.part(file).rows == pq.read_metadata(folder / file).num_rows
    wanted = [signature_row(row["doc_id"], row["text"]) for row in rows_of(corpus, "part")]
    assert rows_of(corpus, "signatures") == wanted
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith(".")) == []


def test_lines_that_a_domain_repeats_stay_on_one_page_and_short_lone_ones_stay() -> None:
    corpus = deduplicate.run_now([cleaned(site(), "x")], DeduplicateConfig())
    texts = [row["text"] for row in rows_of(corpus, "part")]
    assert sum(MENU in text for text in texts) == 1
    assert sum("About this shop" in text for text in texts) == 1
    assert all(text.endswith("\nExample:") for text in texts)
    shown = list(read_rows(open_store().open(corpus) / "repeated.parquet"))
    assert shown == [
        {"domain": "shop.example", "pages": 12, "line": line} for line in sorted(MENU.splitlines())
    ]
    assert corpus.stats["repeated_lines"]["lines"] == 11 * 3
    assert corpus.stats["repeated_lines"]["domains"] == {"shop.example": 33}
    assert corpus.stats["characters_in"] - corpus.stats["characters"] == 11 * (len(MENU) + 2)


def test_a_page_of_repeated_lines_alone_is_rejected() -> None:
    pages = [*site(), document("https://shop.example/menu", f"{MENU}\n\nSomething else: 12345")]
    off = DeduplicateConfig(boilerplate=BoilerplateConfig(keep_first=False))
    corpus = deduplicate.run_now([cleaned(pages, "x")], off)
    (reject,) = rows_of(corpus, "rejects")
    assert (reject["url"], reject["reason"]) == ("https://shop.example/menu", "repeated_lines")
    assert (reject["value"], reject["threshold"]) == (18, 100)
    assert "3 lines repeat on other pages of shop.example" in reject["detail"]


def test_other_domains_may_have_the_same_lines() -> None:
    pages = [document(f"https://s{i}.example/", f"{MENU}\n\n{sentences(i)}") for i in range(12)]
    corpus = deduplicate.run_now([cleaned(pages, "x")], DeduplicateConfig())
    assert corpus.stats["repeated_lines"]["lines"] == 0


def test_documents_of_an_earlier_corpus_are_not_repeated() -> None:
    first = deduplicate.run_now([cleaned(site(), "x")], DeduplicateConfig())
    again = document("https://mirror.example/0", rows_of(first, "part")[0]["text"], day=9)
    now = [again, document("https://new.example/", sentences(99))]
    second = deduplicate.run_now([cleaned(now, "y")], DeduplicateConfig(), [first])
    assert [row["url"] for row in rows_of(second, "part")] == ["https://new.example/"]
    (reject,) = rows_of(second, "rejects")
    assert reject["reason"] == "exact_text_of_earlier_run"
    assert reject["detail"] == rows_of(first, "part")[0]["doc_id"]


def test_rows_of_another_file_of_the_same_name_are_no_duplicates() -> None:
    named = [document(f"{address}#{n}", sentences(n)) for address in ROWS for n in range(2)]
    others = [document(f"{address}#{n}", sentences(n + 9)) for address in ROWS for n in range(2)]
    first = deduplicate.run_now([cleaned(named[:2], "x")], DeduplicateConfig())
    second = deduplicate.run_now([cleaned(others[:2], "y")], DeduplicateConfig(), [first])
    assert second.stats["documents"] == 2
    first = deduplicate.run_now([cleaned(named[2:], "x2")], DeduplicateConfig())
    with pytest.raises(NothingLeftError, match="exact_url_of_earlier_run"):
        deduplicate.run_now([cleaned(others[2:], "y2")], DeduplicateConfig(), [first])


def test_the_corpus_is_the_same_to_the_byte_whenever_and_by_how_many_threads_it_is_made(
    monkeypatch: Any, tmp_path: Path
) -> None:
    made = []
    for home, threads in (("one", 1), ("two", 1), ("three", 4)):
        monkeypatch.setenv("MODELMILL_HOME", str(tmp_path / home))
        parts = [cleaned(site()[:6], "x"), cleaned([*site()[6:], *site()[:3]], "y"), cleaned(site(20), "z")]
        config = DeduplicateConfig(reduce=ReduceConfig(threads=threads))
        artifact = deduplicate.run_now(parts, config)
        made.append((artifact.digest, json.dumps(artifact.stats)))
    assert len(set(made)) == 1
    assert artifact.stats["documents_in"] == sum(
        artifact.stats["rejected"].values(), artifact.stats["documents"]
    )


def test_nothing_left_says_what_went_and_why() -> None:
    with pytest.raises(NothingLeftError, match=r"0 came out of cleaning(.|\n)* 8  too_short"):
        deduplicate.run_now([cleaned([], "x"), cleaned([], "y")], DeduplicateConfig())


def test_signatures_of_other_documents_are_refused() -> None:
    with pytest.raises(ValueError, match="does not follow the rows"):
        deduplicate.run_now([cleaned(site(), "x", signed=site()[::-1])], DeduplicateConfig())
