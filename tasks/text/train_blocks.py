"""Train the classifier of blocks from pages with gold texts, and tell how good it is on sites it never saw.

    python -m tasks.text.train_blocks --pages DIR --gold FILE.parquet [--cross-validate] [--write]

DIR holds WARC files; FILE has the columns url, page_type and main_content. Pages are dealt into folds by
registered domain. Nothing that describes a page to what is trained later has learned from its fold: its words
are weighed by models that were fitted without it, and the second trees see what trees trained without it said
of it. Cross-validation does all of this without a fold, and judges the result on it. About 20 minutes on one
core for 1,500 pages; the result depends on nothing but the pages and the libraries' versions.
"""

from __future__ import annotations

import argparse
import re
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from tasks.text.block_context import context_features, doubtful
from tasks.text.block_extract import FLOOR, join_blocks, judge_blocks
from tasks.text.block_features import Features, Hints, block_features
from tasks.text.block_labels import ENOUGH, label_blocks, words_of
from tasks.text.block_measures import Array
from tasks.text.block_model import WEIGHTS, BlockModel, Trees, choose
from tasks.text.block_tokens import Words
from tasks.text.blocks import Blocks, read_blocks
from tasks.text.charset import decode
from tasks.text.markup import split_utf8
from tasks.text.metadata import read_metadata
from tasks.text.statements import read_statements
from tasks.text.train_trees import SECOND, SETTINGS, export, fit_trees, sample
from tasks.text.train_words import SMALLEST_WEIGHT, WordTable, fit_words, word_tables

FOLDS = 5
HEAVIEST = 0.3
"""Bound on a block's weight: its words as a share of the gold's, so that each page counts about the same."""
FEWEST_GOLD_WORDS = 80

_SECOND_LEVEL = re.compile(r"\.(?:co|com|org|ac|gov|net|edu)\.[a-z]{2}$")


@dataclass(slots=True)
class Example:
    """A page with its gold text."""

    kind: str
    fold: int
    gold: str
    blocks: Blocks
    hints: Hints
    shares: NDArray[np.float32]
    """For each block the share of its words that the gold has."""
    weights: NDArray[np.float32]


def word_f1(text: str, gold: str) -> float:
    """F1 of the multisets of lower-cased ``\\w+`` words; two empty texts agree fully."""
    found, wanted = (Counter(re.findall(r"\w+", each.lower())) for each in (text, gold))
    if not wanted or not found:
        return float(wanted == found)
    common = (found & wanted).total()
    return 2 * common / (found.total() + wanted.total())


def fold_of(url: str, dealing: int = 0) -> int:
    """The fold of a page: the same for all pages of a registered domain, and another in another dealing."""
    host = urlsplit(url).hostname or url
    parts = 3 if _SECOND_LEVEL.search(host) else 2
    domain = ".".join(host.split(".")[-parts:])
    return zlib.crc32(f"{domain}{dealing or ''}".encode()) % FOLDS


def read_pages(folder: Path) -> Iterator[tuple[str, bytes, str]]:
    """(address, bytes, header's charset) of every response in a folder's WARC files."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    for path in sorted(folder.glob("*.warc.gz")):
        with path.open("rb") as file:
            for record in ArchiveIterator(file, record_types=WarcRecordType.response, parse_http=True):
                address = record.headers.get("WARC-Target-URI") or ""
                yield address, record.reader.read(), record.http_charset or ""


def read_gold(path: Path) -> dict[str, tuple[str, str]]:
    """(page type, main content) by address; pages without a gold text or an address are left out."""
    from pyarrow import parquet

    rows = parquet.read_table(path, columns=["url", "page_type", "main_content"]).to_pylist()
    return {
        row["url"]: (row["page_type"], row["main_content"])
        for row in rows
        if row["url"] and row["main_content"] is not None
    }


def read_example(url: str, html: bytes, charset: str, kind: str, gold: str, dealing: int = 0) -> Example:
    """Cut a page into blocks and label them."""
    markup = split_utf8(decode(html, charset)[0].encode("utf-8", "replace"))
    stated = read_statements(markup)
    hints = Hints(read_metadata(markup, stated, url).title, stated.kinds(), stated.bodies())
    blocks = read_blocks(markup.page)
    words = np.array([len(words_of(each)) for each in blocks.texts], np.float32)
    weights = np.minimum((words + 2) / max(len(words_of(gold)), FEWEST_GOLD_WORDS), HEAVIEST)
    shares = label_blocks(blocks.texts, gold)
    return Example(kind, fold_of(url, dealing), gold, blocks, hints, shares, weights.astype(np.float32))


class Trainer:
    """All examples, their words, and what was fitted on which folds."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = [each for each in examples if each.blocks.texts]
        self.without_blocks = [each for each in examples if not each.blocks.texts]
        self.tables: dict[str, WordTable] = word_tables([each.blocks for each in self.examples])
        self.belongs = np.concatenate([each.shares for each in self.examples]) >= ENOUGH
        self.weights = np.concatenate([each.weights for each in self.examples])
        self.sampled = sample(self.weights)
        sizes = [len(each.blocks.texts) for each in self.examples]
        self.starts = np.cumsum([0, *sizes])
        self.folds = np.repeat([each.fold for each in self.examples], sizes)
        self._words: dict[frozenset[int], Words] = {}
        self._first: dict[frozenset[int], Trees] = {}

    def words_without(self, left_out: frozenset[int]) -> Words:
        """The word models fitted on all other folds."""
        if left_out not in self._words:
            rows = ~np.isin(self.folds, list(left_out))
            self._words[left_out] = fit_words(self.tables, rows, self.belongs, self.weights)
        return self._words[left_out]

    def first_without(self, left_out: frozenset[int]) -> Trees:
        """The first trees trained on all other folds."""
        if left_out not in self._first:
            names: list[str] = []
            rows, tables = [], []
            for each, start in self._without(left_out):
                measured = self._measured(each, left_out | {each.fold})
                taken = np.flatnonzero(self.sampled[start : start + len(each.blocks.texts)])
                names = measured.names
                rows.append(start + taken)
                tables.append(measured.table.T[taken])
            self._first[left_out] = self._fit(rows, tables, names, SETTINGS)
        return self._first[left_out]

    def second_without(self, left_out: frozenset[int]) -> Trees:
        """The second trees trained on all other folds, and on what first trees say that saw neither."""
        names: list[str] = []
        rows, tables = [], []
        for each, start in self._without(left_out):
            unseen = left_out | {each.fold}
            measured = self._measured(each, unseen)
            likely = self.first_without(unseen).probabilities(measured.table)
            again = doubtful(likely)
            again = again[self.sampled[start + again] > 0]
            names, table = context_features(each.blocks, measured, likely, again)
            rows.append(start + again)
            tables.append(table.T)
        return self._fit(rows, tables, names, SECOND)

    def _without(self, left_out: frozenset[int]) -> Iterator[tuple[Example, int]]:
        for each, start in zip(self.examples, self.starts.tolist(), strict=False):
            if each.fold not in left_out:
                yield each, start

    def _measured(self, example: Example, unseen: frozenset[int]) -> Features:
        return block_features(example.blocks, example.hints, self.words_without(unseen))

    def _fit(
        self,
        rows: list[NDArray[np.intp]],
        tables: list[Array],
        names: list[str],
        settings: Mapping[str, Any],
    ) -> Trees:
        rows_R = np.concatenate(rows)
        return fit_trees(np.concatenate(tables), self.belongs[rows_R], self.sampled[rows_R], names, settings)

    def fit(self, judged: int | None) -> BlockModel:
        """The model trained on all folds, or on all but the one to be judged."""
        left_out = frozenset[int]() if judged is None else frozenset({judged})
        if judged is None:
            everything = np.ones(len(self.folds), bool)
            words = fit_words(self.tables, everything, self.belongs, self.weights, SMALLEST_WEIGHT)
        else:
            words = self.words_without(left_out)
        return BlockModel(words, self.first_without(left_out), self.second_without(left_out))

    def judge(self, model: BlockModel, examples: Sequence[Example]) -> list[tuple[str, float]]:
        """(page type, F1) of each example."""
        return [(each.kind, word_f1(extract_with(model, each), each.gold)) for each in examples]

    def cross_validate(self) -> list[tuple[str, float]]:
        """(page type, F1) of every page, each judged by a model that saw no page of its domain."""
        found = [(each.kind, word_f1("", each.gold)) for each in self.without_blocks]
        for fold in range(FOLDS):
            scores = self.judge(self.fit(fold), [each for each in self.examples if each.fold == fold])
            say(f"fold {fold}: {np.mean([score for _, score in scores]):.4f} on {len(scores)} pages")
            found.extend(scores)
        return found


def extract_with(model: BlockModel, example: Example) -> str:
    """An example's text as a model extracts it."""
    measured = block_features(example.blocks, example.hints, model.words)
    kept = choose(judge_blocks(model, example.blocks, measured), measured.lengths, FLOOR)
    return join_blocks(example.blocks, kept)


def say(line: str) -> None:
    """Print a line at once: the steps take minutes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def table(title: str, scores: list[tuple[str, float]]) -> str:
    """One line: the mean of all pages, then by page type, most frequent first."""
    by_kind: dict[str, list[float]] = defaultdict(list)
    for kind, score in scores:
        by_kind[kind].append(score)
    parts = [
        f"{kind} {np.mean(values):.3f}"
        for kind, values in sorted(by_kind.items(), key=lambda item: -len(item[1]))
    ]
    return f"{title}: {np.mean([score for _, score in scores]):.4f} ({', '.join(parts)})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, judge and write as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", type=Path, required=True, help="folder with .warc.gz files")
    parser.add_argument(
        "--gold", type=Path, required=True, help="Parquet file with url, page_type, main_content"
    )
    parser.add_argument("--cross-validate", action="store_true", help="judge on domains not trained on")
    parser.add_argument("--dealing", type=int, default=0, help="another number deals the folds otherwise")
    parser.add_argument(
        "--write", type=Path, nargs="?", const=WEIGHTS, help=f"write the model ({WEIGHTS.name})"
    )
    chosen = parser.parse_args(arguments)
    gold = read_gold(chosen.gold)
    examples = [
        read_example(url, html, charset, *gold[url], chosen.dealing)
        for url, html, charset in read_pages(chosen.pages)
        if url in gold
    ]
    say(f"{len(examples)} pages, {sum(len(each.blocks.texts) for each in examples):,} blocks")
    trainer = Trainer(examples)
    if chosen.cross_validate:
        say(table("cross-validated", trainer.cross_validate()))
    if chosen.write:
        model = trainer.fit(None)
        say(table("in sample", trainer.judge(model, trainer.examples)))
        say(f"{chosen.write}: WEIGHTS_SHA256 = {export(model, chosen.write)!r}")


if __name__ == "__main__":
    main()
