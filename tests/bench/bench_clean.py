"""Cleaning beside datatrove: seconds by step on the same texts, and memory as the part grows.

    python tests/bench/bench_clean.py [--peer PYTHON] [--pages 400] [--documents 1500,30000]

PYTHON is the interpreter of a venv with datatrove[processing]==0.10.1, lxml_html_clean and spacy; without it
only our own figures are printed. The texts are real pages (MODELMILL_TEST_DATA, or ../shared/data/wcxb),
extracted here; without them, made-up ones. Everything runs on one core, one after the other, seconds of the
processor. datatrove's language filter is left out: it downloads its model when it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MODELMILL_TEST_DATA", ROOT.parent / "shared/data"))
REPEATS = 3
REAL = 1_500
"""Pages that larger parts repeat, altered."""


def main() -> None:
    """Print the tables."""
    options = _options()
    if options.as_peer:
        print(json.dumps(_datatrove(json.loads(Path(options.as_peer).read_text()))))
        return
    sys.path.insert(0, str(ROOT))
    if options.prepare:
        _prepare(options.prepare)
        print("{}")
        return
    if options.measure:
        print(json.dumps(_peak(options.measure)))
        return
    texts, extraction = _texts(options.pages)
    print(f"{len(texts):,} pages, {sum(map(len, texts)) / 1e6:.1f} M characters")
    _steps(texts, extraction, options.peer)
    _memory([int(count) for count in options.documents.split(",") if count])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--peer", default="")
    parser.add_argument("--pages", type=int, default=400)
    parser.add_argument("--documents", default="1500,30000", help="parts whose peak memory is measured")
    parser.add_argument("--as-peer", default="", help=argparse.SUPPRESS)
    parser.add_argument("--prepare", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--measure", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def _texts(pages: int) -> tuple[list[str], float]:
    """Texts, and the seconds that their extraction took (0 for made-up ones)."""
    files = sorted((DATA / "wcxb").glob("*.warc.gz"))
    if not files:
        rng = random.Random(0)
        return [_made_up(rng) for _ in range(pages)], 0.0
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    from tasks.text.extract import extract

    texts, seconds = [], 0.0
    for file in files:
        with file.open("rb") as stream:
            for record in ArchiveIterator(stream, record_types=WarcRecordType.response):
                body = record.reader.read()
                start = time.process_time()
                text = extract(body).text
                seconds += time.process_time() - start
                texts.append(text)
                if len(texts) == pages:
                    return texts, seconds
    return texts, seconds


def _made_up(rng: random.Random) -> str:
    words = [f"word{int(rng.paretovariate(0.6)) % 20_000}" for _ in range(rng.randrange(200, 3000))]
    return "\n".join(" ".join(words[at : at + 15]) + "." for at in range(0, len(words), 15))


def _altered(text: str, copy: int) -> str:
    """The text as it is for copy 0; else begun at another line, with the copy's number in each."""
    lines = text.split("\n")
    at = copy % len(lines)
    return "\n".join(f"{line} {copy}" if line and copy else line for line in lines[at:] + lines[:at])


def _best(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def _ours(texts: Sequence[str]) -> dict[str, float]:
    from tasks.text import pii
    from tasks.text.cleaning import Cleaner, Document
    from tasks.text.config import CleanConfig
    from tasks.text.dedup import signature_row
    from tasks.text.dedup_units import units
    from tasks.text.language import shares
    from tasks.text.lines import clean_lines
    from tasks.text.quality import all_failed, measure

    config = CleanConfig()
    cleaner = Cleaner(config)
    documents = [Document("0" * 64, "https://h.example/", "h.example", text) for text in texts]
    split = [units(text) for text in texts]
    signals = [measure(text, "en", found) for text, found in zip(texts, split, strict=True)]
    cleaner(documents[0])
    return {
        "language": _best(lambda: [shares(text) for text in texts]),
        "lines (C4)": _best(lambda: [clean_lines(text, "en", config.lines) for text in texts]),
        "words": _best(lambda: [units(text) for text in texts]),
        "signals": _best(lambda: [measure(t, "en", u) for t, u in zip(texts, split, strict=True)]),
        "rules": _best(lambda: [all_failed(found, "en", config) for found in signals]),
        "personal data": _best(lambda: [pii.mask(text, config.pii) for text in texts]),
        "signature": _best(lambda: [signature_row("", t, u) for t, u in zip(texts, split, strict=True)]),
        "everything": _best(lambda: [cleaner(document) for document in documents]),
    }


def _steps(texts: Sequence[str], extraction: float, python: str) -> None:
    ours = _ours(texts)
    print("\nmodelmill, ms a page")
    for name, seconds in ours.items():
        print(f"  {name:15} {seconds / len(texts) * 1e3:7.3f}")
    if extraction:
        print(f"  extraction      {extraction / len(texts) * 1e3:7.3f}   (beside it, in fast mode)")
    if not python:
        print("\n(no --peer: datatrove was not measured)")
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "texts.json"
        file.write_text(json.dumps(list(texts)))
        command = [python, __file__, "--as-peer", str(file)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    theirs: dict[str, float] = json.loads(out.strip().splitlines()[-1])
    print("\ndatatrove 0.10.1, ms a page")
    for name, seconds in theirs.items():
        print(f"  {name:15} {seconds / len(texts) * 1e3:7.3f}")
    total = sum(theirs.values())
    print(f"  {'everything':15} {total / len(texts) * 1e3:7.3f}")
    print(f"\nmodelmill is {total / ours['everything']:.1f} times as fast")


def _datatrove(texts: list[str]) -> dict[str, float]:
    """Seconds of each step; runs in the peer's own interpreter."""
    from datatrove.data import Document  # type: ignore[import-not-found]
    from datatrove.pipeline.dedup.minhash import (  # type: ignore[import-not-found]
        MinhashConfig,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.filters import (  # type: ignore[import-not-found]
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )
    from datatrove.pipeline.formatters import PIIFormatter  # type: ignore[import-not-found]

    def seconds(step: Callable[[Any], object]) -> float:
        documents = [Document(text=text, id=str(n)) for n, text in enumerate(texts)]
        step(Document(text="Warm up. It takes a sentence or two.", id="w"))
        start = time.process_time()
        for document in documents:
            if document.text:
                step(document)
        return time.process_time() - start

    minhash = MinhashDedupSignature("unused", config=MinhashConfig())

    def sign(document: Any) -> object:
        shingles = minhash.get_shingles(document.text)
        return minhash.get_signature(shingles) if len(shingles) else None

    masks = PIIFormatter()
    return {
        "Gopher repetition": seconds(GopherRepetitionFilter().filter),
        "Gopher quality": seconds(GopherQualityFilter().filter),
        "C4": seconds(C4QualityFilter(filter_no_terminal_punct=False).filter),
        "FineWeb": seconds(FineWebQualityFilter().filter),
        "personal data": seconds(lambda document: masks.format(document.text)),
        "signature": seconds(sign),
    }


def _memory(counts: Sequence[int]) -> None:
    print("\npeak memory of the stage, MiB (this process, and its worker)")
    for count in counts:
        with tempfile.TemporaryDirectory() as home:
            environment = {**os.environ, "MODELMILL_HOME": home}
            found: dict[str, float] = {}
            for step in ("--prepare", "--measure"):
                command = [sys.executable, __file__, step, str(count)]
                done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
                found = json.loads(done.stdout.strip().splitlines()[-1])
        print(
            f"  {count:8,} documents  {found['stage']:7.1f}  {found['worker']:7.1f}   "
            f"{found['rate']:6.0f} documents a second"
        )


def _prepare(count: int) -> None:
    """Make a part of so many documents in the store."""
    from storage.artifacts import Recipe
    from storage.documents import PartWriter
    from storage.schemas import DOCUMENTS
    from storage.store import Draft, open_store

    texts, _ = _texts(min(count, REAL))

    def work(draft: Draft) -> dict[str, Any]:
        with PartWriter(draft.path / "documents.parquet", DOCUMENTS) as part:
            for number in range(count):
                host = f"h{number % 997}.example"
                about = {"doc_id": f"{number:064x}", "url": f"https://{host}/{number}", "domain": host}
                text = _altered(texts[number % len(texts)], number // len(texts))
                part.write({**about, "source_file": "", "source_offset": 0, "text": text})
        return {}

    open_store().make(Recipe(stage="ingest", code={}, inputs={"n": count}), (), work)


def _peak(count: int) -> dict[str, float]:
    import psutil

    from storage.store import open_store
    from tasks.clean import clean
    from tasks.text.config import CleanConfig

    (documents,) = open_store().artifacts("ingest")
    start = time.perf_counter()
    clean.run_now(documents, CleanConfig())
    seconds = time.perf_counter() - start
    (worker,) = psutil.Process().children()
    return {"stage": _most(os.getpid()), "worker": _most(worker.pid), "rate": count / seconds}


def _most(pid: int) -> float:
    """A process's largest resident size in MiB; getrusage would tell of a child what its parent had, too."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split(None, 1)[0]) / 1024


if __name__ == "__main__":
    main()
