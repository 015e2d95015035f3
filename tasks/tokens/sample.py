"""Which documents a tokenizer is trained on: a bounded, seeded sample with the languages' own shares."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Candidates:
    """Every document of a corpus, by what the choice needs of it."""

    doc_ids: list[str] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """Bytes of UTF-8."""

    def add(self, doc_ids: Sequence[str], languages: Sequence[str], sizes: Sequence[int]) -> None:
        """Append documents."""
        self.doc_ids += doc_ids
        self.languages += languages
        self.sizes += sizes


def choose(candidates: Candidates, budget: int, seed: int) -> dict[str, int]:
    """Bytes to take of each chosen document, by doc_id; all of everything where that fits ``budget``.

    Each language gets its share of the budget in bytes. Which documents it takes is decided by a hash of
    seed and doc_id, so that the choice does not depend on how the corpus is divided or ordered; the last one
    is taken in part, so that the budget is kept to the byte.
    """
    total = sum(candidates.sizes)
    by_language: defaultdict[str, list[tuple[bytes, str, int]]] = defaultdict(list)
    for doc_id, language, size in zip(
        candidates.doc_ids, candidates.languages, candidates.sizes, strict=True
    ):
        order = hashlib.sha256(f"{seed}:{doc_id}".encode()).digest()
        by_language[language].append((order, doc_id, size))
    chosen: dict[str, int] = {}
    for documents in by_language.values():
        size_of_all = sum(size for *_, size in documents)
        quota = size_of_all if total <= budget else budget * size_of_all // total
        for _, doc_id, size in sorted(documents):
            if quota <= 0:
                break
            chosen[doc_id] = min(size, quota)
            quota -= chosen[doc_id]
    return chosen


def cut(text: str, size: int) -> str:
    """The beginning of a text that takes at most ``size`` bytes of UTF-8, never half a character."""
    if len(text) * 4 <= size:
        return text
    return text[:size].encode()[:size].decode(errors="ignore")
