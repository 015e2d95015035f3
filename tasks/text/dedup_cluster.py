"""Which documents are duplicates, and which one of each cluster stays.

Three passes, each over the survivors of the one before: same URL, same text, near-duplicates. Each spills
keys into partitions, turns every partition into edges between records that really match, and joins the
edges of all partitions once. Near-duplicates share a band of their signatures:

| bands b | rows r | found at similarity .5 | .6 | .7 | .75 | .8 | .9 |
|---|---|---|---|---|---|---|---|
| 18 | 7 | .13 | .40 | .79 | .93 | .99 | 1.00 |

(1 - (1 - s**r)**b), and then their whole signatures must agree in ``near_threshold`` of the 128 values.

Every choice depends on the documents' contents alone, so the clusters are the same whatever the order, the
number and the size of the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tasks.text.dedup import band_keys, is_empty, similarity
from tasks.text.dedup_config import DeduplicateConfig
from tasks.text.dedup_ledger import Ledger, Spill
from tasks.text.dedup_units import mix

BANDS, ROWS = 18, 7
NEIGHBOURS = 64
"""Distinct signatures of one band with which each is compared: bounds the work where thousands of pages of
one template share a band. Copies with equal signatures do not count."""

Edges = NDArray[np.int64]
"""int64[n, 2]: pairs of record numbers."""
Kind = Literal["exact_url", "exact_text", "near_duplicate"]
KINDS: tuple[Kind, ...] = ("exact_url", "exact_text", "near_duplicate")


@dataclass(frozen=True)
class Verdicts:
    """The documents that go, sorted by number; all arrays are of one length."""

    rows: NDArray[np.int64]
    kinds: NDArray[np.int8]
    """Index into KINDS."""
    survivors: NDArray[np.int64]
    """Number of the document that stays in its place."""
    similarities: NDArray[np.float32]
    """Estimated to the document that stood for the cluster in that pass; 1 for exact duplicates."""
    clusters: dict[str, int]
    """Clusters found by kind."""
    largest: int
    """Documents in the largest cluster, the survivor included."""

    def between(self, start: int, stop: int) -> slice:
        """Where the verdicts on documents ``start`` to ``stop`` (not included) are."""
        first, last = np.searchsorted(self.rows, [start, stop])
        return slice(int(first), int(last))


def cluster(ledger: Ledger, config: DeduplicateConfig) -> Verdicts:
    """Find all duplicates among the ledger's documents.

    The survivor of a cluster is a document of an earlier run if there is one, else the longest, then the
    one fetched first, then the one with the smallest doc_id. Documents of earlier runs are never dropped.
    """
    passes: tuple[tuple[bool, Callable[[Ledger, NDArray[np.bool_], DeduplicateConfig], Edges]], ...] = (
        (config.exact_url, _same_url),
        (config.exact_text, _same_text),
        (config.near, _near),
    )
    gone = np.zeros(len(ledger), np.bool_)
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
    clusters: dict[str, int] = {}
    largest = min(1, len(ledger))
    for kind, (wanted, edges_of) in zip(KINDS, passes, strict=True):
        edges = edges_of(ledger, gone, config) if wanted else np.zeros((0, 2), np.int64)
        nodes, labels = components(edges)
        found.append(_losers(ledger, nodes, labels))
        gone[found[-1][0]] = True
        sizes = np.bincount(labels, minlength=1)
        clusters[kind] = int((sizes > 0).sum())
        largest = max(largest, int(sizes.max()))
    return _verdicts(found, clusters, largest)


def components(edges: Edges) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Connected components: the nodes that have an edge, sorted, and for each the label of its component.

    Labels are hooked onto the smallest neighbour's and then shortened, until nothing changes: a handful of
    rounds over arrays in place of a union-find's loop.
    """
    nodes, flat = np.unique(edges, return_inverse=True)
    left, right = flat.reshape(-1, 2).T
    labels = np.arange(len(nodes))
    while True:
        lowest = np.minimum(labels[left], labels[right])
        hooked = labels.copy()
        np.minimum.at(hooked, labels[left], lowest)
        np.minimum.at(hooked, labels[right], lowest)
        while (hooked != hooked[hooked]).any():
            hooked = hooked[hooked]
        if (hooked == labels).all():
            return nodes, labels
        labels = hooked


def _same_url(ledger: Ledger, gone: NDArray[np.bool_], config: DeduplicateConfig) -> Edges:
    return _join(_exact(ledger, gone, config, "url"))


def _same_text(ledger: Ledger, gone: NDArray[np.bool_], config: DeduplicateConfig) -> Edges:
    return _join(_exact(ledger, gone, config, "text"))


def _exact(ledger: Ledger, gone: NDArray[np.bool_], config: DeduplicateConfig, field: str) -> Iterator[Edges]:
    spill = Spill(ledger.folder, len(ledger), config.reduce.partition_records)
    for start, records in ledger.scan():
        rows = np.flatnonzero(~gone[start : start + len(records)])
        spill.add(mix(records[field][rows, 0]), rows + start)
    for _keys, rows in spill.repeated():
        values = ledger.pick(rows, [field])[field]
        same = np.all(values[1:] == values[:-1], axis=1)
        yield np.stack([rows[:-1][same], rows[1:][same]], axis=1)


def _near(ledger: Ledger, gone: NDArray[np.bool_], config: DeduplicateConfig) -> Edges:
    spill = Spill(ledger.folder, len(ledger) * BANDS, config.reduce.partition_records)
    for start, records in ledger.scan(rows=1024):
        rows = np.flatnonzero(~gone[start : start + len(records)] & ~is_empty(records["minhash"]))
        keys = band_keys(records["minhash"][rows], BANDS, ROWS)
        spill.add(keys.ravel(), np.repeat(rows + start, BANDS))
    buckets = (_near_edges(ledger, *pairs, config.near_threshold) for pairs in spill.repeated())
    return _join(edges for partition in buckets for edges in partition)


def _near_edges(
    ledger: Ledger, keys: NDArray[np.uint64], rows: NDArray[np.int64], threshold: float
) -> Iterator[Edges]:
    """A partition's edges: copies to each other, the rest to those that stand next in their band.

    Within a band documents stand in an order of their contents, so that parts do not matter.
    """
    numbers, where = np.unique(rows, return_inverse=True)
    records = ledger.pick(numbers, ["doc_id", "digest", "minhash"])
    order = np.lexsort((records["doc_id"][where], records["digest"][where], keys))
    keys, where = keys[order], where[order]
    digests = records["digest"][where]
    copies = np.flatnonzero((keys[1:] == keys[:-1]) & (digests[1:] == digests[:-1])) + 1
    yield numbers[np.stack([where[copies - 1], where[copies]], axis=1)]
    keys, where = np.delete(keys, copies), np.delete(where, copies)
    minhashes = records["minhash"]
    for distance in range(1, NEIGHBOURS + 1):
        pairs = np.flatnonzero(keys[distance:] == keys[:-distance])
        for chunk in np.array_split(pairs, len(pairs) // 4096 + 1):
            left, right = where[chunk], where[chunk + distance]
            fits = similarity(minhashes[left], minhashes[right]) >= np.float32(threshold)
            yield numbers[np.stack([left[fits], right[fits]], axis=1)]
        if not len(pairs):
            break


def _join(parts: Iterator[Edges]) -> Edges:
    """All edges, thinned as they come to one an added node, so that the list stays short."""
    kept = np.zeros((0, 2), np.int64)
    waiting: list[Edges] = []
    size = 0
    for edges in parts:
        waiting.append(edges)
        size += len(edges)
        if size > max(1 << 18, len(kept)):
            kept, waiting, size = _forest(np.concatenate([kept, *waiting])), [], 0
    return _forest(np.concatenate([kept, *waiting]))


def _forest(edges: Edges) -> Edges:
    nodes, labels = components(edges)
    forest: Edges = np.stack([nodes, nodes[labels]], axis=1)[nodes != nodes[labels]]
    return forest


def _losers(
    ledger: Ledger, nodes: NDArray[np.int64], labels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Those who go, who stays for each, and how similar they are."""
    records = ledger.pick(nodes, ["doc_id", "length", "fetched", "earlier"])
    order = np.lexsort(
        (nodes, records["doc_id"], records["fetched"], -records["length"], -records["earlier"], labels)
    )
    nodes, labels, records = nodes[order], labels[order], records[order]
    _, first, cluster_of = np.unique(labels, return_index=True, return_inverse=True)
    best = first[cluster_of]
    goes = (best != np.arange(len(nodes))) & (records["earlier"] == 0)
    losers, survivors = nodes[goes], nodes[best[goes]]
    return losers, survivors, _similarities(ledger, losers, survivors)


def _similarities(ledger: Ledger, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float32]:
    found = np.zeros(len(left), np.float32)
    for chunk in np.array_split(np.arange(len(left)), len(left) // 4096 + 1):
        sides = (ledger.pick(rows[chunk], ["minhash"])["minhash"] for rows in (left, right))
        found[chunk] = similarity(*sides)
    return found


def _verdicts(
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]],
    clusters: dict[str, int],
    largest: int,
) -> Verdicts:
    rows, survivors, similarities = (np.concatenate(column) for column in zip(*found, strict=True))
    kinds = np.repeat(np.arange(len(found), dtype=np.int8), [len(part[0]) for part in found])
    order = np.argsort(rows, kind="stable")
    rows, survivors = rows[order], survivors[order]
    while len(rows):  # a survivor of one pass may have gone in a later one
        at = np.minimum(np.searchsorted(rows, survivors), len(rows) - 1)
        moved = rows[at] == survivors
        if not moved.any():
            break
        survivors = np.where(moved, survivors[at], survivors)
    return Verdicts(rows, kinds[order], survivors, similarities[order], clusters, largest)
