"""Lines that repeat from page to page of one domain, counted on disk and then taken out.

Menus, footers, licence texts and inherited reference entries stand on many pages of a site and would be
learned by heart. A line goes where three things hold: enough pages of its domain have it, the repeated lines
that stand together are long enough to be a passage (a lone "Example:" is how pages are built, not what they
repeat), and another page keeps a copy.

Of letters and digits an ideograph counts as three, so that a Chinese notice goes as its English translation
does. Lines are compared with their spaces unified. Counting spills 16 bytes a line to disk; in memory are
only the lines that repeat, 24 bytes each.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from tasks.text.dedup_config import BoilerplateConfig
from tasks.text.dedup_ledger import Spill
from tasks.text.dedup_units import letters

EXAMPLES = 1000
"""How many of the most repeated lines are shown in full."""
RICHER = 3
"""Letters that an ideograph or kana counts as."""
_IDEOGRAPHS = re.compile("[\u3005-\u3007\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


@dataclass(frozen=True)
class Stripped:
    """A text without the lines that its domain repeats."""

    text: str
    lines: int
    """Lines removed; blank ones do not count."""
    characters: int
    """Characters removed, spaces and line ends left out."""
    removed: tuple[str, ...] = ()
    """The lines themselves."""

    @property
    def letters_left(self) -> int:
        """Letters and digits of what is left, ideographs as RICHER."""
        return letters(self.text) + _richer(self.text)


class LineCounter:
    """Counts on how many pages of its domain each line stands; fed with one text after the other."""

    def __init__(self, folder: Path, expected_lines: int, partition_records: int) -> None:
        self._spill = Spill(folder, expected_lines, partition_records)
        self._pages: dict[str, int] = {}

    def add(self, domain: str, doc_id: str, text: str) -> None:
        """Count a page's lines; documents without a domain have no site to share lines with."""
        if not domain:
            return
        self._pages[domain] = self._pages.get(domain, 0) + 1
        # Not np.unique: its plain form imports numpy.ma, which takes as long as a hundred pages here.
        keys = _line_keys(domain, list(dict.fromkeys(line for line in _normal_lines(text) if line)))
        self._spill.add(keys, np.full(len(keys), _doc_key(doc_id)).view(np.int64))

    def repeated(self, config: BoilerplateConfig) -> RepeatedLines:
        """The lines that stand on at least ``config.min_pages`` pages; the counter is used up."""
        found = [
            _count(keys, rows.view(np.uint64), config.min_pages) for keys, rows in self._spill.repeated()
        ]
        keys, pages, keepers = (np.concatenate(column) for column in zip(*found, strict=True))
        order = np.argsort(keys)
        return RepeatedLines(keys[order], pages[order], keepers[order], self._pages, config)


class RepeatedLines:
    """The lines that repeat within their domains, and how to take them out of a text."""

    def __init__(
        self,
        keys: NDArray[np.uint64],
        pages: NDArray[np.int64],
        keepers: NDArray[np.uint64],
        domain_pages: dict[str, int],
        config: BoilerplateConfig,
    ) -> None:
        self._keys, self._pages, self._keepers = keys, pages, keepers
        self._domain_pages = domain_pages
        self._config = config
        most = np.lexsort((keys, -pages))[:EXAMPLES]
        self._examples: dict[int, tuple[int, str, str]] = {}
        self._wanted = set(keys[most].tolist())

    def __len__(self) -> int:
        return len(self._keys)

    def strip(self, domain: str, doc_id: str, text: str) -> Stripped:
        """Remove the passages that other pages of the domain have as well."""
        if self._domain_pages.get(domain, 0) < self._config.min_pages or not len(self._keys):
            return Stripped(text, 0, 0)
        normal = _normal_lines(text)
        keys = _line_keys(domain, normal)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        repeats = (self._keys[at] == keys) & self._go_from(domain, doc_id, at)
        going = _long_runs(normal, repeats.tolist(), self._config.min_run_characters)
        removed = [i for i in sorted(going) if normal[i]]
        for i in removed:
            if int(keys[i]) in self._wanted:
                self._examples[int(keys[i])] = (int(self._pages[at[i]]), domain, normal[i])
        return Stripped(
            _without(text.split("\n"), going) if going else text,
            len(removed),
            sum(len(normal[i]) - normal[i].count(" ") for i in removed),
            tuple(normal[i] for i in removed),
        )

    def examples(self) -> list[tuple[int, str, str]]:
        """Pages, domain and line of the most repeated lines that were removed, most pages first."""
        return sorted(self._examples.values(), key=lambda example: (-example[0], *example[1:]))

    def _go_from(self, domain: str, doc_id: str, at: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Of these repeated lines, which are on enough pages of the domain and kept by another page."""
        share = math.ceil(self._config.min_share * self._domain_pages.get(domain, 0))
        go = self._pages[at] >= max(self._config.min_pages, share)
        return go & (self._keepers[at] != _doc_key(doc_id)) if self._config.keep_first else go


def _normal_lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.split("\n")]


def _line_keys(domain: str, lines: Sequence[str]) -> NDArray[np.uint64]:
    seed = xxhash.xxh3_64_intdigest(domain.encode("utf-8", "surrogatepass"))
    digest = xxhash.xxh3_64_intdigest
    return np.array([digest(line.encode("utf-8", "surrogatepass"), seed) for line in lines], np.uint64)


def _doc_key(doc_id: str) -> np.uint64:
    """The doc_id's first 16 hex digits as a number, so that numbers order as ids do."""
    return np.uint64(int(doc_id[:16], 16))


def _count(
    keys: NDArray[np.uint64], documents: NDArray[np.uint64], least: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.uint64]]:
    """Of one partition, sorted by key: the keys of enough pages, their pages, and who keeps the line."""
    lines, first, pages = np.unique(keys, return_index=True, return_counts=True)
    keepers = np.minimum.reduceat(documents, first) if len(first) else documents[:0]
    enough = pages >= least
    return lines[enough], pages[enough], keepers[enough]


def _richer(text: str) -> int:
    """What a text's ideographs count beside one letter each."""
    return 0 if text.isascii() else (RICHER - 1) * len(_IDEOGRAPHS.findall(text))


def _long_runs(normal: Sequence[str], repeats: Sequence[bool], least: int) -> set[int]:
    """Numbers of the lines in runs of repeated lines with at least ``least`` letters and digits, so weighed.

    Blank lines neither break a run nor begin or end one.
    """
    going: set[int] = set()
    run: list[int] = []
    blanks: list[int] = []
    letters = 0
    for number, line in enumerate([*normal, "end"]):
        if number < len(normal) and not line:
            blanks.append(number)
        elif number < len(normal) and repeats[number]:
            run += [*(blanks if run else ()), number]
            blanks = []
            letters += sum(map(str.isalnum, line)) + _richer(line)
        else:
            if letters >= least:
                going.update(run)
            run, blanks, letters = [], [], 0
    return going


def _without(lines: Sequence[str], going: set[int]) -> str:
    """The other lines; where a passage went, the blank lines around it become one."""
    kept: list[str] = []
    gap = False
    for number, line in enumerate(lines):
        if number in going:
            gap = True
        elif line.strip() or not (gap and (not kept or not kept[-1].strip())):
            kept.append(line)
            gap = gap and not line.strip()
    return "\n".join(kept).strip("\n")
