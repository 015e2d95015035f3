"""Kneser-Ney baselines: real distributions, and the same figures as counting by hand."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.evals.ngram import KneserNey


def by_hand(tokens: list[int], context: tuple[int, ...], token: int, vocab: int, order: int) -> float:
    """The same model with dictionaries and the formulas' letters, order by order from the lowest."""
    grams = Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))
    levels = [grams]
    for _ in range(order - 1):
        levels.append(Counter(gram[1:] for gram in levels[-1]))
    probability = 1 / vocab
    for k, counts in enumerate(reversed(levels)):
        history = context[len(context) - k :] if k else ()
        n = Counter(counts.values())
        d = n[1] / (n[1] + 2 * n[2]) if n[1] and n[2] else 0.5
        following = {gram[-1]: c for gram, c in counts.items() if gram[:-1] == history}
        total = sum(following.values())
        if not total:
            continue
        gamma = d * len(following) / total
        count = following.get(token, 0)
        share = max(count - d, 0) / total
        probability = share + gamma * probability
    return probability


def stream(length: int, vocab: int, seed: int) -> np.ndarray:
    weights = 1 / np.arange(1, vocab + 1)
    return np.random.default_rng(seed).choice(vocab, size=length, p=weights / weights.sum()).astype(np.uint16)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_equals_the_formulas_counted_by_hand(order: int) -> None:
    vocab, tokens = 30, stream(600, 30, seed=order)
    model = KneserNey.count(tokens, order, vocab)
    asked = np.random.default_rng(9).integers(0, vocab, size=(60, order))
    found = model.probabilities(asked[:, :-1], asked[:, -1])
    expected = [
        by_hand(tokens.tolist(), tuple(row[:-1].tolist()), int(row[-1]), vocab, order) for row in asked
    ]
    assert found == pytest.approx(expected, rel=1e-12)


@given(
    tokens=st.lists(st.integers(0, 11), min_size=3, max_size=120),
    order=st.integers(1, 3),
    context=st.lists(st.integers(0, 11), min_size=2, max_size=2),
)
@settings(max_examples=60, deadline=None)
def test_probabilities_sum_to_one_after_any_context(
    tokens: list[int], order: int, context: list[int]
) -> None:
    model = KneserNey.count(np.array(tokens, dtype=np.uint16), order, 12)
    contexts = np.tile(np.array(context[2 - (order - 1) :], dtype=np.int64), (12, 1)).reshape(12, order - 1)
    probabilities = model.probabilities(contexts, np.arange(12))
    assert probabilities.min() > 0
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)


def test_an_unseen_context_falls_back_on_the_newer_token() -> None:
    tokens = np.array([1, 2, 3, 1, 2, 4, 5, 2, 3] * 20)
    model = KneserNey.count(tokens, 3, 8)
    unseen = model.probabilities(np.array([[7, 2]] * 8), np.arange(8))
    other = model.probabilities(np.array([[6, 2]] * 8), np.arange(8))
    assert unseen.tolist() == other.tolist(), "only the newer token, 2, can matter"
    assert unseen[3] > unseen[5], "3 follows 2, 5 never does"


def test_a_lower_order_counts_kinds_of_company_not_occurrences() -> None:
    """'Francisco' is frequent and follows only 'San': after an unseen context it must not be likely."""
    san, francisco, glass = 1, 2, 3
    tokens = [san, francisco] * 50
    for i in range(4, 24):
        tokens += [i, glass]
    model = KneserNey.count(np.array(tokens), 2, 40)
    after_unseen = model.probabilities(np.array([[39], [39]]), np.array([francisco, glass]))
    assert after_unseen[0] < after_unseen[1] / 5


def test_orders_rank_as_they_should_on_text_with_structure() -> None:
    rng = np.random.default_rng(3)
    phrases = rng.integers(1, 200, size=(50, 6))
    tokens = phrases[rng.integers(0, 50, size=4000)].ravel()
    bits = [
        KneserNey.count(tokens[:20_000], order, 200).bits(tokens[20_000:], 0).mean() for order in (1, 2, 3)
    ]
    assert bits[0] > bits[1] > bits[2]
    assert bits[0] < math.log2(200)


def test_a_large_vocabulary_fits_three_orders() -> None:
    tokens = stream(20_000, 65_536, seed=5)
    model = KneserNey.count(tokens, 3, 65_536)
    assert np.isfinite(model.bits(tokens[:100], 65_535)).all()


@pytest.mark.parametrize(
    ("tokens", "order", "vocab", "says"),
    [
        ([1, 2, 3], 4, 10, "1 to 3"),
        ([1], 2, 10, "too few"),
        ([1, 12], 2, 10, "outside the vocabulary"),
        ([1, 2, 3], 3, 3_000_000, "do not fit"),
    ],
)
def test_refuses_what_it_cannot_count(tokens: list[int], order: int, vocab: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        KneserNey.count(np.array(tokens), order, vocab)
