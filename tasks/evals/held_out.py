"""The held-out documents that are scored: which, cut where, and into which slices they fall."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.evals.config import HeldOutConfig

LENGTHS = ((1_000, "under 1 kB"), (4_000, "1 to 4 kB"), (16_000, "4 to 16 kB"))
LONGEST = "over 16 kB"


class EvaluationError(Exception):
    """Something that keeps a model from being evaluated: what, where and the mend."""


@dataclass(frozen=True)
class Document:
    """A held-out document as it is scored."""

    doc_id: str
    language: str
    domain: str
    text: str
    """Perhaps only its beginning; never empty."""
    length: str
    """Its length class, by the UTF-8 bytes of the text that is scored."""

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of the text that is scored."""
        return len(self.text.encode())


def choose(rows: Iterable[Mapping[str, Any]], config: HeldOutConfig) -> list[Document]:
    """Documents to score, by document id: a hash, so that the first ones are a fair sample.

    The choice depends on the documents and the configuration alone, not on the rows' order. Raises
    EvaluationError where no document has text.
    """
    chosen: list[Document] = []
    room = int(config.max_megabytes * 1e6)
    for row in sorted(rows, key=lambda row: str(row["doc_id"])):
        text = cut(_valid(str(row["text"])), min(config.max_document_kilobytes * 1000, room))
        if not text:
            continue
        size = len(text.encode())
        room -= size
        chosen.append(
            Document(
                doc_id=str(row["doc_id"]),
                language=str(row.get("language") or "unknown"),
                domain=str(row.get("domain") or "unknown"),
                text=text,
                length=length_class(size),
            )
        )
        if len(chosen) >= config.max_documents or room <= 0:
            break
    if not chosen:
        raise EvaluationError("there is no held-out text to score: hold out more documents (hold_out)")
    return chosen


def cut(text: str, size: int) -> str:
    """The beginning of a text that takes at most ``size`` bytes of UTF-8, never half a character."""
    encoded = text.encode()
    return text if len(encoded) <= size else encoded[:size].decode(errors="ignore")


def _valid(text: str) -> str:
    """Lone surrogates, which have no UTF-8, become the replacement character."""
    return text.encode(errors="surrogatepass").decode(errors="replace")


def length_class(size: int) -> str:
    """The length slice of a document of so many bytes."""
    return next((name for limit, name in LENGTHS if size < limit), LONGEST)


def slices(documents: list[Document], domains: int) -> dict[tuple[str, str], list[int]]:
    """Indices of the documents in each slice, named ("language" | "domain" | "length", value).

    Only the ``domains`` domains with the most text are slices. Languages come first, by name; then lengths
    from short to long; then domains, that with the most text first.
    """
    sizes: Counter[str] = Counter()
    for document in documents:
        sizes[document.domain] += document.bytes
    largest = [name for name, _ in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:domains]]
    found: dict[tuple[str, str], list[int]] = {}
    for index, document in enumerate(documents):
        found.setdefault(("language", document.language), []).append(index)
        found.setdefault(("length", document.length), []).append(index)
        if document.domain in largest:
            found.setdefault(("domain", document.domain), []).append(index)
    kinds = (
        ("language", sorted({document.language for document in documents})),
        ("length", [*(name for _limit, name in LENGTHS), LONGEST]),
        ("domain", largest),
    )
    return {
        (kind, name): found[kind, name] for kind, names in kinds for name in names if (kind, name) in found
    }
