"""Which blocks of a page belong to its main content, found by aligning them with a gold text.

A gold text is plain: nothing in it says where in the page it was. Short blocks ("Home", "4 comments") occur
in it by chance, so matching is by order: of all ways to lay blocks on the gold text without crossing, the one
that covers most words wins (a weighted longest increasing subsequence). Long blocks that the gold has
elsewhere or nearly are then added by their shingles.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

SHINGLE = 4
MOST_PLACES = 60
"""Places in the gold text that are tried for a block; more commonplace blocks are not evidence."""
ENOUGH = 0.5

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+")


def words_of(text: str) -> list[str]:
    """Lower-case words; in scripts without spaces every character is one."""
    return _WORD.findall(text.lower())


def label_blocks(texts: list[str], gold: str) -> NDArray[np.float32]:
    """For each of B blocks the share of its words that the gold text has, in 0 to 1."""
    lines = [words for line in gold.splitlines() if (words := words_of(line))]
    stream = [word for line in lines for word in line]
    starts = set(np.cumsum([0, *map(len, lines)]).tolist())
    blocks = [words_of(text) for text in texts]
    shares = np.zeros(len(blocks), np.float32)
    used = np.zeros(len(stream), bool)
    for block, place in _in_order(blocks, stream, starts):
        shares[block] = 1
        used[place : place + len(blocks[block])] = True
    _add_displaced(blocks, stream, used, shares)
    return shares


def _places(words: list[str], index: dict[str, list[int]], stream: list[str]) -> list[int]:
    rarest = min(range(len(words)), key=lambda i: len(index.get(words[i], ())))
    found = []
    for position in index.get(words[rarest], ()):
        start = position - rarest
        if start >= 0 and stream[start : start + len(words)] == words:
            found.append(start)
            if len(found) >= MOST_PLACES:
                break
    return found


def _in_order(blocks: list[list[str]], stream: list[str], line_starts: set[int]) -> list[tuple[int, int]]:
    """(block, place) pairs in order that cover most words of the gold text."""
    index: dict[str, list[int]] = defaultdict(list)
    for position, word in enumerate(stream):
        index[word].append(position)
    # The frontier: ends of coverings, increasing, with their weights, increasing.
    ends, weights, nodes = [0], [0.0], [-1]
    chain: list[tuple[int, int, int]] = []
    for block, words in enumerate(blocks):
        if not words:
            continue
        offers = []
        for place in _places(words, index, stream):
            on_line = place in line_starts and place + len(words) in line_starts
            weight = len(words) * (1.0 if on_line or len(words) >= SHINGLE else 0.3)
            before = bisect_right(ends, place) - 1
            offers.append((place, weights[before] + weight, nodes[before]))
        for place, weight, previous in offers:
            chain.append((block, place, previous))
            _advance(ends, weights, nodes, place + len(words), weight, len(chain) - 1)
    pairs = []
    node = nodes[-1]
    while node >= 0:
        block, place, node = chain[node]
        pairs.append((block, place))
    return pairs[::-1]


def _advance(
    ends: list[int], weights: list[float], nodes: list[int], end: int, weight: float, node: int
) -> None:
    """Put a covering into the frontier unless a better one ends no later."""
    at = bisect_right(ends, end)
    if weights[at - 1] >= weight:
        return
    stop = at
    while stop < len(ends) and weights[stop] <= weight:
        stop += 1
    if ends[at - 1] == end:
        at -= 1
    ends[at:stop], weights[at:stop], nodes[at:stop] = [end], [weight], [node]


def _add_displaced(
    blocks: list[list[str]], stream: list[str], used: NDArray[np.bool_], shares: NDArray[np.float32]
) -> None:
    """Label long blocks whose shingles the gold text has in a place that no block covers yet."""
    free: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for start in range(len(stream) - SHINGLE + 1):
        if not used[start : start + SHINGLE].any():
            free[tuple(stream[start : start + SHINGLE])].append(start)
    for block, words in enumerate(blocks):
        if shares[block] or len(words) < SHINGLE:
            continue
        covered = np.zeros(len(words), bool)
        taken: list[int] = []
        for start in range(len(words) - SHINGLE + 1):
            places = free.get(tuple(words[start : start + SHINGLE]))
            if places:
                covered[start : start + SHINGLE] = True
                taken.append(places[0])
        shares[block] = covered.mean()
        if shares[block] >= ENOUGH:
            for place in taken:
                key = tuple(stream[place : place + SHINGLE])
                free[key] = [other for other in free[key] if other != place]
