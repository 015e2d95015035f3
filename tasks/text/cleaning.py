"""One document's way through cleaning: address, language, lines, rules, masking, decontamination, signature.

A document is dropped by the first rule that it breaks; what it broke, the value and the limit go with it.
The order is that of cost and of meaning: rules judge the text that would be kept, without the lines that
were taken out but before masking, so that placeholders count for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.text import pii
from tasks.text.addresses import AddressFilter, language_in
from tasks.text.bad_words import BadWords
from tasks.text.config import CleanConfig
from tasks.text.decontaminate import Index
from tasks.text.dedup import signature_row
from tasks.text.dedup_units import units
from tasks.text.language import check_model
from tasks.text.language_filter import judge, without_foreign
from tasks.text.lines import clean_lines
from tasks.text.model_scores import load_scorer
from tasks.text.quality import all_failed
from tasks.text.quality_profiles import rules_language
from tasks.text.quality_signals import measure

FOREIGN = "foreign_language"
"""The rule under which lines in other languages are counted."""


@dataclass(frozen=True, slots=True)
class Document:
    """What cleaning needs of a document."""

    doc_id: str
    url: str
    domain: str
    text: str
    stated_language: str = ""
    """The BCP 47 tag that its page states; empty where it states none."""


@dataclass(slots=True)
class Result:
    """What became of one document; ``reason`` is empty if it is kept."""

    language: str = ""
    rules: str = ""
    """The language whose rules judged it."""
    language_score: float = 0.0
    text: str = ""
    signals: dict[str, float] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    """Lines taken out, by rule."""
    pii: dict[str, int] = field(default_factory=dict)
    """What was masked, by kind."""
    signature: dict[str, Any] = field(default_factory=dict)
    """The row of SIGNATURES, of the text as it is kept."""
    reason: str = ""
    value: float | None = None
    threshold: float | None = None
    detail: str = ""


class Cleaner:
    """Cleans documents, one at a time; made from its configuration alone, so that workers make their own."""

    def __init__(self, config: CleanConfig) -> None:
        """Read the files that the configuration names; their own errors say what is wrong with them."""
        self._config = config
        self._addresses = AddressFilter(config.url)
        self._index = Index.build(config.decontaminate.files) if config.decontaminate.paths else None
        self._score = load_scorer(config.score) if config.score.model.paths else None
        self._bad_words = BadWords(config.c4.bad_words.files) if config.c4.bad_words.paths else None
        models = config.language.fasttext_model.files
        self._language_model: Path | None = models[0] if models else None
        if self._language_model and config.language.method == "fasttext":
            check_model(self._language_model)

    def __reduce__(self) -> tuple[type[Cleaner], tuple[CleanConfig]]:
        return Cleaner, (self._config,)

    def __call__(self, document: Document) -> Result:
        """What becomes of a document."""
        result = Result(text=document.text)
        result.reason, result.detail = self._addresses.why_blocked(document.url, document.domain)
        if not result.reason:
            self._judge(document, result)
        return result

    def _judge(self, document: Document, result: Result) -> None:
        result.rules = rules = self._identify(document, result)
        if result.reason:
            return
        result.text, removed = clean_lines(result.text, rules, self._config.lines)
        result.lines |= removed
        split = units(result.text)
        result.signals = measure(result.text, rules, split)
        if self._bad_words is not None:
            result.signals["bad_words"] = float(self._bad_words.count(split, rules))
        if self._score is not None:
            result.signals["model_score"] = self._score(result.text, split)
        if failed := all_failed(result.signals, rules, self._config):
            first, others = failed[0], failed[1:]
            result.reason, result.value, result.threshold = first.reason, first.value, first.threshold
            result.detail = ", ".join(f"{other.reason} {other.value:.4g}" for other in others)
            return
        if not result.text:
            result.reason = "empty"
            return
        unmasked = result.text
        result.text, result.pii = pii.mask(result.text, self._config.pii)
        found = split if result.text is unmasked or result.text == unmasked else None
        if self._index is not None and (hit := self._index.hit(result.text, found)) is not None:
            result.reason, result.detail = "contaminated", str(hit)
            return
        result.signature = signature_row(document.doc_id, result.text, found)

    def _identify(self, document: Document, result: Result) -> str:
        """Set the language, drop what is in none of the kept ones; gives the language whose rules apply."""
        wanted = self._config.language
        judged = judge(result.text, document.stated_language, wanted, self._language_model)
        result.language, result.language_score = judged.found[0]
        if not wanted.keep:
            return rules_language(judged.found)
        named = language_in(document.url) if wanted.addresses == "refuse" else ""
        if named and named not in wanted.keep:
            result.reason, result.detail = "language_of_address", named
            return rules_language(judged.found)
        if judged.share < wanted.min_share:
            result.reason, result.value, result.threshold = "language", judged.share, wanted.min_share
            result.detail = ", ".join(f"{code} {part:.2f}" for code, part in judged.found)
            if document.stated_language:
                result.detail += f"; the page states {document.stated_language}"
        elif wanted.foreign_lines == "remove":
            result.text, gone = without_foreign(result.text, judged, wanted)
            if gone:
                result.lines[FOREIGN] = len(gone)
        kept = [item for item in judged.found if item[0] in wanted.keep]
        return rules_language(kept or judged.found)
