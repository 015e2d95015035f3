"""Extraction beside trafilatura and resiliparse: word F1 by page type, and pages a second of the processor.

    python tests/bench/bench_extract.py [--every 3] [--peers trafilatura,trafilatura_fast,resiliparse]

Pages and gold texts: MODELMILL_TEST_DATA/wcxb (or ../shared/data/wcxb). F1 is of the multisets of lower-cased
words (``\\w+``), the mean over pages; pages without a gold text are left out. All extractors take the same
pages one after the other, page by page, so that a busy machine slows all of them alike. The shipped weights
were trained on these pages: for unseen sites see ``python -m tasks.text.train_blocks --cross-validate``.
Chinese is measured by characters on MODELMILL_TEST_DATA/handbook, against the body less its navigation.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MODELMILL_TEST_DATA", ROOT.parent / "shared/data"))
sys.path.insert(0, str(ROOT))

from tasks.text.block_labels import words_of  # noqa: E402
from tasks.text.extract import extract  # noqa: E402
from tasks.text.extract_errors import ExtractionError  # noqa: E402
from tasks.text.train_blocks import read_gold, read_pages, table, word_f1  # noqa: E402

Extractor = Callable[[bytes, str], str]
NAVIGATION = '//ul[contains(@class, "docnav")] | //p[@id="title"] | //script | //style'


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=3, help="take one page of so many")
    parser.add_argument("--peers", default="trafilatura,trafilatura_fast,resiliparse")
    options = parser.parse_args()
    extractors = {f"modelmill {mode}": ours(mode) for mode in ("fast", "best", "quality")}
    extractors |= {name: PEERS[name]() for name in options.peers.split(",") if name}
    english(extractors, options.every)
    chinese({name: extractors[name] for name in extractors if name != "modelmill quality"})


def ours(mode: str) -> Extractor:
    """One of our modes; a page that is refused has no text."""

    def run(html: bytes, charset: str) -> str:
        try:
            return extract(html, charset=charset, mode=mode).text  # type: ignore[arg-type]
        except ExtractionError:
            return ""

    return run


def trafilatura(fast: bool = False) -> Extractor:
    """Trafilatura with its defaults, or without its fallbacks."""
    logging.disable(logging.CRITICAL)
    import trafilatura as peer

    return lambda html, charset: peer.extract(html, fast=fast) or ""


def resiliparse() -> Extractor:
    """Resiliparse's main content, decoded as its documentation shows."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding
    from resiliparse.parse.html import HTMLTree

    def run(html: bytes, charset: str) -> str:
        tree = HTMLTree.parse(bytes_to_str(html, detect_encoding(html)))
        return str(extract_plain_text(tree, main_content=True, alt_texts=False, list_bullets=False))

    return run


PEERS: dict[str, Callable[[], Extractor]] = {
    "trafilatura": trafilatura,
    "trafilatura_fast": lambda: trafilatura(fast=True),
    "resiliparse": resiliparse,
}


def timed(extractors: dict[str, Extractor], pages: Iterator[tuple[bytes, str]]) -> Iterator[dict[str, str]]:
    """Each page's text by each extractor; prints pages a second of processor time at the end."""
    spent: Counter[str] = Counter()
    count = 0
    for count, (html, charset) in enumerate(pages):
        texts = {}
        for name, run in extractors.items():
            start = time.process_time()
            texts[name] = run(html, charset)
            if count:  # the first page pays for imports
                spent[name] += time.process_time() - start
        yield texts
    slowest = max(spent.values())
    for name, seconds in spent.items():
        print(f"{name:20} {count / seconds:7.1f} pages/s {slowest / seconds:6.1f} times the slowest")


def english(extractors: dict[str, Extractor], every: int) -> None:
    """F1 by page type on the gold pages."""
    gold = read_gold(DATA / "wcxb/wcxb-dev-gold.parquet")
    chosen = [page for page in read_pages(DATA / "wcxb") if page[0] in gold][::every]
    scores: dict[str, list[tuple[str, float]]] = defaultdict(list)
    texts = timed(extractors, ((html, charset) for _, html, charset in chosen))
    for (url, _, _), found in zip(chosen, texts, strict=True):
        kind, wanted = gold[url]
        for name, text in found.items():
            scores[name].append((kind, word_f1(text, wanted)))
    print(f"{len(chosen)} pages")
    for name, each in scores.items():
        print(table(name, each))


def chinese(extractors: dict[str, Extractor]) -> None:
    """Recall and precision of characters on a Chinese book."""
    from lxml import etree

    recalls: dict[str, list[float]] = defaultdict(list)
    precisions: dict[str, list[float]] = defaultdict(list)
    for _, html, charset in _book("zh-CN"):
        tree = etree.fromstring(html, etree.HTMLParser(encoding="utf-8"))
        for node in tree.xpath(NAVIGATION):
            node.getparent().remove(node)
        wanted = Counter(words_of(" ".join(tree.find("body").itertext())))
        for name, run in extractors.items():
            found = Counter(words_of(run(html, charset)))
            common = (found & wanted).total()
            recalls[name].append(common / max(1, wanted.total()))
            precisions[name].append(common / max(1, found.total()))
    for name in extractors:
        recall, precision = (sum(each[name]) / len(each[name]) for each in (recalls, precisions))
        print(f"Chinese, {name:20} recall {recall:.3f}, precision {precision:.3f}")


def _book(language: str) -> Iterator[tuple[str, bytes, str]]:
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    with (DATA / f"handbook/handbook-{language}.warc.gz").open("rb") as file:
        for record in ArchiveIterator(file, record_types=WarcRecordType.response, parse_http=True):
            yield record.headers.get("WARC-Target-URI") or "", record.reader.read(), record.http_charset or ""


if __name__ == "__main__":
    main()
