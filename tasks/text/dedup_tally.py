"""What deduplication took away, counted by reason, language and domain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from tasks.text.boilerplate import Stripped

TOP_DOMAINS = 20


@dataclass
class Tally:
    """The stage's part of the funnel, fed with one document after the other."""

    documents_in: int = 0
    documents: int = 0
    characters_in: int = 0
    characters: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    languages_in: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    by_language: dict[str, Counter[str]] = field(default_factory=dict)
    by_domain: dict[str, Counter[str]] = field(default_factory=dict)
    """By domain: documents by reason; those that were kept under an empty name."""
    lines: int = 0
    line_characters: int = 0
    shortened: int = 0
    lines_by_domain: Counter[str] = field(default_factory=Counter)

    def came(self, row: Mapping[str, Any]) -> None:
        """Count a document that came in."""
        self.documents_in += 1
        self.characters_in += len(row["text"])
        self.languages_in[row["language"] or ""] += 1

    def went(self, row: Mapping[str, Any], reason: str) -> None:
        """Count a document that was rejected."""
        self.rejected[reason] += 1
        self.by_language.setdefault(row["language"] or "", Counter())[reason] += 1
        self.by_domain.setdefault(row["domain"], Counter())[reason] += 1

    def stayed(self, row: Mapping[str, Any], stripped: Stripped | None) -> None:
        """Count a document that stays, with its text as it is now and what was taken out of it."""
        self.documents += 1
        self.characters += len(row["text"])
        self.languages[row["language"] or ""] += 1
        self.by_domain.setdefault(row["domain"], Counter())[""] += 1
        if stripped is not None and stripped.lines:
            self.lines += stripped.lines
            self.line_characters += stripped.characters
            self.shortened += 1
            self.lines_by_domain[row["domain"]] += stripped.lines

    def add(self, other: Tally) -> None:
        """Count what another has counted."""
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if isinstance(mine, int):
                setattr(self, each.name, mine + theirs)
            elif isinstance(mine, Counter):
                mine.update(theirs)
            else:
                for name, counts in theirs.items():
                    mine.setdefault(name, Counter()).update(counts)

    def stats(self) -> dict[str, Any]:
        """The counts as JSON, most first; ties by name."""
        return {
            "documents_in": self.documents_in,
            "documents": self.documents,
            "characters_in": self.characters_in,
            "characters": self.characters,
            "rejected": _sorted(self.rejected),
            "languages_in": _sorted(self.languages_in),
            "languages": _sorted(self.languages),
            "rejected_by_language": {
                name: _sorted(self.by_language[name]) for name in sorted(self.by_language)
            },
            "domains": self._domains(),
            "repeated_lines": {
                "lines": self.lines,
                "characters": self.line_characters,
                "documents": self.shortened,
                "domains": dict(list(_sorted(self.lines_by_domain).items())[:TOP_DOMAINS]),
            },
        }

    def _domains(self) -> dict[str, Any]:
        """The domains that lost most documents."""
        lost = Counter({name: counts.total() - counts[""] for name, counts in self.by_domain.items()})
        worst = [name for name, count in _sorted(lost).items() if count][:TOP_DOMAINS]
        return {
            name: {
                "in": self.by_domain[name].total(),
                "kept": self.by_domain[name][""],
                "rejected": _sorted(Counter({k: n for k, n in self.by_domain[name].items() if k})),
            }
            for name in worst
        }


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
