"""Encoded documents, collected into shards of bounded size, group by group, in the order they come."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tasks.tokens.encode import Encoder, Ids
from tasks.tokens.sample import cut

SAMPLES = 8
"""Documents of each language in a shard that are checked against the reference."""


@dataclass(frozen=True, slots=True)
class Source:
    """A document to encode."""

    doc_id: str
    url: str
    language: str
    group: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """A document, encoded."""

    source: Source
    ids: Ids
    sha256: bytes
    bytes: int


@dataclass
class Cut:
    """The documents of one shard."""

    group: str
    documents: list[tuple[str, str, bytes]] = field(default_factory=list)
    """doc_id, url, sha256 of the text."""
    pieces: list[Ids] = field(default_factory=list)
    tokens: int = 0
    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """By language: documents, tokens, bytes, characters."""
    _samples: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, document: Document, sample_bytes: int) -> None:
        """Append a document; keep the beginning of its text if it falls into the sample."""
        source = document.source
        self.documents.append((source.doc_id, source.url, document.sha256))
        self.pieces.append(document.ids)
        self.tokens += len(document.ids)
        self.counts[source.language].update(
            documents=1, tokens=len(document.ids), bytes=document.bytes, characters=len(source.text)
        )
        kept, rank = self._samples[source.language], -int.from_bytes(document.sha256[:8], "big")
        if len(kept) < SAMPLES:
            heapq.heappush(kept, (rank, cut(source.text, sample_bytes // SAMPLES)))
        elif rank > kept[0][0]:
            heapq.heapreplace(kept, (rank, cut(source.text, sample_bytes // SAMPLES)))

    @property
    def ids(self) -> Ids:
        """All tokens, one document after another: uint16[tokens]."""
        return np.concatenate(self.pieces)

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Where each document begins, and the end of the last: int64[documents + 1]."""
        lengths = np.fromiter(map(len, self.pieces), np.int64, len(self.pieces))
        return np.concatenate([[0], np.cumsum(lengths)])

    @property
    def samples(self) -> list[str]:
        """Texts to check the encoder on: of each language the documents whose digests are smallest."""
        return [text for language in sorted(self._samples) for _, text in sorted(self._samples[language])]


class Cutter:
    """Fills shards up to a number of tokens; a document is never divided."""

    def __init__(self, max_tokens: int, sample_bytes: int) -> None:
        self.max_tokens, self.sample_bytes = max_tokens, sample_bytes
        self._open: dict[str, Cut] = {}

    def add(self, document: Document) -> Cut | None:
        """Take a document in; gives the shard that was full before it, if one was."""
        group = document.source.group
        current = self._open.get(group)
        full = None
        if current is not None and current.tokens + len(document.ids) > self.max_tokens:
            full, current = current, None
        if current is None:
            current = self._open[group] = Cut(group)
        current.add(document, self.sample_bytes)
        return full

    def rest(self) -> Iterator[Cut]:
        """What is left at the end, group by group."""
        for group in sorted(self._open):
            yield self._open[group]
        self._open.clear()


def encode_documents(encoder: Encoder, sources: Sequence[Source]) -> list[Document]:
    """Encode and fingerprint documents; for threads: most of it runs without the interpreter's lock."""
    encoded = encoder.encode([source.text for source in sources])
    starts = encoded.offsets.tolist()
    documents = []
    for index, source in enumerate(sources):
        raw = source.text.encode()
        ids = encoded.ids[starts[index] : starts[index + 1]]
        documents.append(Document(source, ids, hashlib.sha256(raw).digest(), len(raw)))
    return documents
