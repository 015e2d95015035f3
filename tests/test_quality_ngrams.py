"""Repeated runs, against a count that takes the definition word for word."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.text.dedup_units import mix
from tasks.text.quality_ngrams import DUPLICATE_SIZES, TOP_SIZES, repetition


def by_definition(words: list[int], lengths: list[int]) -> dict[str, float]:
    found = {}
    total = sum(lengths)
    for size in TOP_SIZES:
        runs = [tuple(words[at : at + size]) for at in range(len(words) - size + 1)]
        counts = Counter(runs)
        most = max(counts.values(), default=0)
        longest = max(
            (sum(lengths[at : at + size]) for at, run in enumerate(runs) if counts[run] == most), default=0
        )
        found[f"top_{size}_gram"] = min(1.0, most * longest / total) if most > 1 else 0.0
    for size in DUPLICATE_SIZES:
        seen: set[tuple[int, ...]] = set()
        covered: set[int] = set()
        for at in range(len(words) - size + 1):
            run = tuple(words[at : at + size])
            if run in seen:
                covered |= set(range(at, at + size))
            seen.add(run)
        found[f"dup_{size}_gram"] = sum(lengths[at] for at in covered) / total if total else 0.0
    return found


def measured(words: list[int], lengths: list[int]) -> dict[str, float]:
    hashes = mix(np.array(words, np.uint64) + np.uint64(1))
    return repetition(hashes, np.array(lengths, np.int64))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=60), st.data())
def test_shares_are_those_of_the_definition(words: list[int], data: st.DataObject) -> None:
    width = {word: data.draw(st.integers(1, 9)) for word in set(words)}
    lengths = [width[word] for word in words]
    expected, found = by_definition(words, lengths), measured(words, lengths)
    assert found.keys() == expected.keys()
    assert all(abs(found[name] - expected[name]) < 1e-9 for name in expected), (found, expected)


def test_long_text_with_one_repeated_passage() -> None:
    random = np.random.default_rng(1)
    words = random.integers(0, 10**6, 5000).tolist()
    words[4000:4200] = words[1000:1200]
    expected = by_definition(words, [5] * 5000)
    assert measured(words, [5] * 5000) == expected
    assert expected["dup_10_gram"] == 200 / 5000


def test_runs_of_scripts_without_spaces_are_longer() -> None:
    words = [1, 2, 3, 4, 5, 6, 7, 8, 9] * 2
    hashes, lengths = mix(np.array(words, np.uint64)), np.ones(18, np.int64)
    assert repetition(hashes, lengths)["dup_5_gram"] == 0.5
    assert repetition(hashes, lengths, 2.0)["dup_5_gram"] == 0.0  # 10 characters, and 9 repeat


def test_nothing_and_next_to_nothing() -> None:
    assert set(measured([], []).values()) == {0.0}
    assert set(measured([7], [3]).values()) == {0.0}
