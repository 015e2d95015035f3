"""Deduplication: what counts as the same, which one stays, and that parts and their order do not matter."""

import random
import tracemalloc
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.text.dedup import (
    BINS,
    SHINGLE,
    fingerprint,
    is_empty,
    signature,
    signature_row,
    signatures_from_bytes,
    similarity,
    text_digest,
)
from tasks.text.dedup_cluster import KINDS, Verdicts, cluster, components
from tasks.text.dedup_config import DeduplicateConfig, ReduceConfig
from tasks.text.dedup_ledger import Ledger, records_of
from tasks.text.dedup_units import BLOCK, shingles, units
from tasks.text.folding import fold

SIGNATURE_HEAD = [2112312036, 242427602, 1013807385, 2112312036]
HAN = [chr(c) for c in range(0x4E00, 0x5600)]


@dataclass(frozen=True)
class Page:
    doc_id: str
    url: str
    text: str
    fetched: int | None = None


def words(rng: random.Random, count: int, vocabulary: int = 5000) -> list[str]:
    return [f"w{rng.randrange(vocabulary)}" for _ in range(count)]


def jaccard(left: str, right: str) -> float:
    sets = [set(shingles(units(text).hashes, SHINGLE).tolist()) for text in (left, right)]
    return len(sets[0] & sets[1]) / max(1, len(sets[0] | sets[1]))


def planted(count: int, *, seed: int, chinese: bool = False) -> list[tuple[str, str]]:
    """Pairs of texts whose Jaccard similarity is from .8 to .9: one has some units changed."""
    rng = random.Random(seed)
    pairs: list[tuple[str, str]] = []
    while len(pairs) < count:
        base = rng.choices(HAN, k=400) if chinese else words(rng, rng.randrange(60, 600))
        changed = list(base)
        for _ in range(max(1, round(len(base) * rng.uniform(0.005, 0.025)))):
            changed[rng.randrange(len(base))] = rng.choice(HAN) if chinese else "other"
        joint = "" if chinese else " "
        pair = joint.join(base), joint.join(changed)
        if 0.8 <= jaccard(*pair) <= 0.9:
            pairs.append(pair)
    return pairs


@contextmanager
def ledger_of(
    folder: Path, parts: Sequence[Sequence[Page]], earlier: Sequence[Page] = ()
) -> Iterator[Ledger]:
    with Ledger(folder) as ledger:
        for part, is_earlier in [*((p, False) for p in parts), (earlier, True)]:
            rows = [signature_row(page.doc_id, page.text) for page in part]
            ledger.add(
                records_of(
                    [page.doc_id for page in part],
                    [page.url for page in part],
                    [row["text_sha256"] for row in rows],
                    [row["minhash"] for row in rows],
                    [row["length"] for row in rows],
                    [page.fetched for page in part],
                    earlier=is_earlier,
                )
            )
        yield ledger


def verdicts_of(
    folder: Path,
    parts: Sequence[Sequence[Page]],
    config: DeduplicateConfig | None = None,
    earlier: Sequence[Page] = (),
) -> dict[str, tuple[str, str]]:
    """doc_id of each document that goes → (reason, doc_id of the one that stays)."""
    pages = [page.doc_id for part in [*parts, earlier] for page in part]
    with ledger_of(folder, parts, earlier) as ledger:
        found = cluster(ledger, config or DeduplicateConfig())
    rows = zip(found.rows, found.kinds, found.survivors, strict=True)
    return {pages[row]: (KINDS[kind], pages[survivor]) for row, kind, survivor in rows}


def split(pages: Sequence[Page], parts: int, seed: int) -> list[list[Page]]:
    shuffled = random.Random(seed).sample(pages, len(pages))
    return [shuffled[i::parts] for i in range(parts)]


# --- units and signatures -------------------------------------------------------------------------------


def test_units_are_words_where_they_are_spaced_and_characters_where_not() -> None:
    found = units("Hello, WÖRLD! 我们用Python写程序。กขค ｆｕｌｌ")
    spans = [found.span(i, i) for i in range(len(found))]
    assert spans == ["hello", "wörld", *"我们用", "python", *"写程序", *"กขค", "full"]


def test_a_word_has_one_hash_wherever_it_stands() -> None:
    text = "x" * (BLOCK - 7) + " repeat repeat " + "y " * 10 + "repeat"
    found = units(text)
    hashes = {int(h) for i, h in enumerate(found.hashes) if found.span(i, i) == "repeat"}
    assert len(hashes) == 1


def test_different_words_have_different_hashes() -> None:
    rng = random.Random(1)
    vocabulary = {"".join(rng.choices("abcdefgh", k=rng.randrange(1, 9))) for _ in range(50_000)}
    assert len(set(units(" ".join(vocabulary)).hashes.tolist())) == len(vocabulary)


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(), max_size=300))
def test_any_text_has_fingerprints_and_spans_that_lie_in_it(text: str) -> None:
    found = units(text)
    assert (found.starts < found.ends).all()
    assert len(found) == 0 or found.ends[-1] <= len(found.folded)
    print_ = fingerprint(text)
    assert print_.minhash.shape == (BINS,)
    assert len(print_.text_sha256) == 32


def test_case_punctuation_spaces_and_width_do_not_change_the_text_digest() -> None:
    assert text_digest("The  Quick (brown) Fox.") == text_digest("the quick brown fox")
    assert text_digest("ＡＢＣ，中文！") == text_digest("abc 中文")
    assert text_digest("the quick brown fox") != text_digest("the brown quick fox")
    assert text_digest("!!!") != text_digest("???")


def test_signatures_do_not_change_from_version_to_version() -> None:
    values = signature("The quick brown fox jumps over the lazy dog; 敏捷的棕色狐狸跳过懒狗。")
    assert values[:4].tolist() == SIGNATURE_HEAD
    assert values.dtype == np.uint32


def test_the_estimate_is_close_to_the_true_similarity() -> None:
    pairs = planted(60, seed=3) + planted(30, seed=4, chinese=True)
    errors = [float(similarity(signature(a), signature(b))) - jaccard(a, b) for a, b in pairs]
    assert abs(np.mean(errors)) < 0.015
    assert np.std(errors) < 0.05


@pytest.mark.parametrize("text", ["", " \n\t", "…—。！"])
def test_a_text_without_letters_has_an_empty_signature(text: str) -> None:
    assert is_empty(signature(text)[None]).all()


def test_a_signature_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="another version"):
        signatures_from_bytes([b"\0" * 64])


# --- clusters -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chinese", [False, True])
def test_planted_near_duplicates_are_found_and_others_are_not(tmp_path: Path, chinese: bool) -> None:
    pairs = planted(250, seed=7, chinese=chinese)
    pages = [
        Page(f"{i}-{side}", f"u{i}{side}", text) for i, p in enumerate(pairs) for side, text in enumerate(p)
    ]
    gone = verdicts_of(tmp_path, [pages])
    found = {doc.partition("-")[0] for doc in gone}
    assert len(found) / len(pairs) >= 0.87
    assert all(doc.partition("-")[0] == stays.partition("-")[0] for doc, (_, stays) in gone.items())


def corpus(seed: int = 11) -> list[Page]:
    """Pages with copies, near copies, one URL twice, and a family of one template."""
    rng = random.Random(seed)
    pages = [Page(f"a{i:03}", f"u{i}", " ".join(words(rng, 120)), i) for i in range(60)]
    for i, page in enumerate(pages[:20]):
        tokens = page.text.split()
        tokens[rng.randrange(120)] = "changed"
        pages.append(Page(f"near{i:03}", f"near{i}", " ".join(tokens), i))
        pages.append(Page(f"copy{i:03}", f"copy{i}", page.text.upper() + "!", rng.choice([None, i, i + 1])))
        pages.append(Page(f"again{i:03}", page.url, " ".join(words(rng, 90)), i))
    template = words(rng, 300)
    family = [Page(f"t{i:03}", f"t{i}", " ".join([*template, f"number{i}"]), i % 7) for i in range(150)]
    return pages + family


def test_clusters_are_the_same_from_one_two_and_five_parts_in_any_order(tmp_path: Path) -> None:
    pages = corpus()
    runs = [
        verdicts_of(tmp_path / f"{parts}-{seed}-{records}", split(pages, parts, seed), config)
        for parts, seed in ((1, 0), (2, 1), (5, 2), (5, 3))
        for records in (1000, 200_000)
        for config in [DeduplicateConfig(reduce=ReduceConfig(partition_records=records))]
    ]
    assert all(run == runs[0] for run in runs[1:])
    assert {reason for reason, _ in runs[0].values()} == set(KINDS)
    assert len(runs[0]) >= 20 * 3 + 149


def test_the_longest_stays_then_the_first_fetched_then_the_smallest_id(tmp_path: Path) -> None:
    text = " ".join(words(random.Random(5), 200))
    pages = [
        Page("d", "1", text, 5),
        Page("c", "2", text, 3),
        Page("b", "3", text, 3),
        Page("a", "4", text, None),
    ]
    assert verdicts_of(tmp_path / "x", [pages]) == dict.fromkeys("acd", ("exact_text", "b"))
    longer = Page("z", "5", text + "\n\n...", None)
    assert {stays for _, stays in verdicts_of(tmp_path / "y", [[*pages, longer]]).values()} == {"z"}


def test_a_reject_names_the_document_that_is_really_kept(tmp_path: Path) -> None:
    tokens = words(random.Random(5), 300)
    pages = [
        Page("a", "same", " ".join(tokens[:-1])),
        Page("b", "same", "something wholly different and short"),
        Page("c", "other", " ".join(tokens)),
    ]
    assert verdicts_of(tmp_path, [pages]) == {"b": ("exact_url", "c"), "a": ("near_duplicate", "c")}


def test_documents_of_an_earlier_run_win_and_are_never_dropped(tmp_path: Path) -> None:
    tokens = words(random.Random(5), 300)
    earlier = [
        Page("e1", "same", "old words"),
        Page("e2", "same", "other old words"),
        Page("e3", "x", " ".join(tokens)),
    ]
    now = [Page("a", "same", "new words"), Page("b", "y", " ".join([*tokens, "longer", "than", "before"]))]
    gone = verdicts_of(tmp_path, [now], earlier=earlier)
    assert gone == {"a": ("exact_url", "e2"), "b": ("near_duplicate", "e3")}


def test_documents_without_a_url_are_not_one_document(tmp_path: Path) -> None:
    rng = random.Random(2)
    assert verdicts_of(tmp_path, [[Page(name, "", " ".join(words(rng, 80))) for name in "abc"]]) == {}


def test_each_kind_can_be_turned_off(tmp_path: Path) -> None:
    off = DeduplicateConfig(exact_url=False, exact_text=False, near=False)
    assert verdicts_of(tmp_path, [corpus()], off) == {}


@pytest.mark.parametrize("pages", [[], [Page("a", "u", "")], [Page("a", "u", "one")]])
def test_few_or_empty_documents_are_no_duplicates(tmp_path: Path, pages: list[Page]) -> None:
    assert verdicts_of(tmp_path, [pages]) == {}


def test_texts_without_letters_are_not_each_others_near_duplicates(tmp_path: Path) -> None:
    assert verdicts_of(tmp_path, [[Page("a", "1", "!!"), Page("b", "2", "??")]]) == {}


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60))
def test_components_are_those_of_a_plain_union_find(edges: list[tuple[int, int]]) -> None:
    parent = list(range(31))

    def root(node: int) -> int:
        while parent[node] != node:
            node = parent[node]
        return node

    for left, right in edges:
        parent[root(left)] = root(right)
    nodes, labels = components(np.array(edges, np.int64).reshape(-1, 2))
    for i, left in enumerate(nodes):
        for j, right in enumerate(nodes):
            assert (labels[i] == labels[j]) == (root(int(left)) == root(int(right)))


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    """Ten times the documents, none of them near another: the peak grows by less than 2 MB."""
    peaks = [_peak(tmp_path / str(count), count) for count in (2_000, 20_000)]
    assert peaks[1] - peaks[0] < 2 * 2**20


def _peak(folder: Path, count: int) -> int:
    config = DeduplicateConfig(reduce=ReduceConfig(partition_records=20_000))
    rng = np.random.default_rng(0)
    with Ledger(folder) as ledger:
        for start in range(0, count, 500):
            names = [f"{start + i:064x}" for i in range(500)]
            noise = [rng.bytes(32) for _ in names]
            hashes = [rng.bytes(BINS * 4) for _ in names]
            ledger.add(records_of(names, names, noise, hashes, [1] * 500, [None] * 500, earlier=False))
        tracemalloc.start()
        found: Verdicts = cluster(ledger, config)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert len(found.rows) == 0
    return peak


@given(
    st.text(
        alphabet=st.characters(codec="utf-32-le") | st.sampled_from("aÉ…\u00a0½ﬁＡ\u0301İßΣ가ᅡ\u3099か"),
        max_size=40,
    )
)
def test_folding_by_table_is_unicodes_folding(text: str) -> None:
    wanted = unicodedata.normalize("NFKC", text).casefold()
    assert fold(text).tolist() == [ord(letter) for letter in wanted]
