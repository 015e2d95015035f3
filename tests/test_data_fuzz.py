"""Real archives with injuries, from their bytes to cleaned documents: nothing raises, hangs or spoils a row.

``FUZZ=1 MODELMILL_FUZZED=3000 pytest tests/test_data_fuzz.py -s`` injures as many archives in new ways, and
prints the seed with which ``MODELMILL_FUZZ_SEED`` does it again.
"""

import gzip
import os
import random
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest
import zstandard
from injuries import bytes_injured

from storage.columns import batch_of
from storage.schemas import DOCUMENTS, REJECTS
from tasks import clean, ingest
from tasks.text.cleaning import Cleaner, Document
from tasks.text.config import CleanConfig
from tasks.text.extract_config import ExtractConfig
from tasks.text.extract_errors import ExtractionError
from tasks.text.pages import extract_page
from tasks.web.payload import to_record
from tasks.web.records import Fault, ReadLimits
from tasks.web.warc import WarcRecord, read_warc

ARCHIVES = int(os.environ.get("MODELMILL_FUZZED", "120"))
LARGEST = 60_000
"""Bytes of the records that are injured: many small ones find more than few large ones."""
RECORDS = 4
LIMITS = ReadLimits(record_bytes=2**22, skip_bytes=2**22)
SECONDS = 20.0
"""A worker's time for one page, and more than enough for an archive of four."""
SOURCES = (
    "dolma-warc/sample-0000.warc.gz",
    "dolma-warc/sample-0001.warc.gz",
    "commoncrawl/whirlwind.warc.gz",
    "commoncrawl/whirlwind.warc.wet.gz",
    "handbook/handbook-zh-CN.warc.gz",
    "handbook/handbook-ja-JP.warc.gz",
    "wcxb/wcxb-dev-00000-of-00006.warc.gz",
)


@pytest.fixture(scope="module")
def records(real_data: Callable[[str], Path]) -> list[bytes]:
    """Whole records of real archives as they stand in an unpacked file."""
    found = []
    for name in SOURCES:
        whole = gzip.decompress(real_data(name).read_bytes())
        pieces = [b"WARC/1." + piece for piece in whole.split(b"\nWARC/1.")[1:]]
        found += [piece + b"\n" for piece in pieces if 400 < len(piece) < LARGEST][:25]
    assert len(found) > 100
    return found


# --- injuries -------------------------------------------------------------------------------------------


HEADERS = (
    (b"Content-Length: ", b"Content-Length: 9"),
    (b"Content-Length: ", b"Content-Length: -"),
    (b"Content-Length: ", b"Content-Length: 0x"),
    (b"Content-Length: ", b"X-Length: "),
    (b"WARC-Target-URI: http", b"WARC-Target-URI: \xff\x00http"),
    (b"WARC-Target-URI: ", b"WARC-Target-URJ: "),
    (b"WARC-Date: 2", b"WARC-Date: 9999999"),
    (b"WARC-Type: response", b"WARC-Type: nonsense"),
    (b"HTTP/1.1 200", b"HTTP/9.9 2OO"),
    (b"HTTP/1.", b"ICY "),
    (b"text/html", b"text/html; charset=klingon"),
    (b"charset=", b"charset=utf-7, "),
    (b"charset=utf-8", b"charset=utf-16"),
    (b"charset=UTF-8", b"charset=iso-2022-jp"),
    (b"Content-Type: text/html", b"Content-Encoding: br\r\nContent-Type: text/html"),
    (b"Content-Type: text/html", b"Content-Encoding: nonsense, gzip\r\nContent-Type: text/html"),
    (b"Content-Type: text/html", b"Transfer-Encoding: chunked\r\nContent-Type: text/html"),
)


def header_injured(record: bytes, chance: random.Random) -> bytes:
    """One to three header fields that say what is not so."""
    for before, after in chance.sample(HEADERS, chance.randint(1, 3)):
        record = record.replace(before, after, chance.randint(1, 2))
    return record


def body_replaced(record: bytes, chance: random.Random) -> bytes:
    """A record whose page is no page; its length is right, so that the page is read."""
    head, separator, rest = record.partition(b"\r\n\r\n")
    http, again, body = rest.partition(b"\r\n\r\n")
    body = chance.choice(
        [
            b"%PDF-1.7\n" + chance.randbytes(4000),
            bytes(20_000),
            b"<html><body><p>" + b"word " * 30_000,
            b"<html><body>" + b"<div>" * 30_000 + body,
            gzip.compress(body)[:-9],
            zlib.compress(body),
            body.decode("utf-8", "replace").encode("utf-16"),
            body.decode("utf-8", "replace").encode("gb18030"),
            body[::-1],
            "".join(chance.choices("的 一\n是。a1<&>\u3042\u0e01\u0627", k=5000)).encode(),
        ]
    )
    block = http + again + body
    fields = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    return b"\r\n".join([*fields, b"Content-Length: %d" % len(block)]) + separator + block + b"\r\n\r\n"


def injured_archive(records: list[bytes], chance: random.Random) -> bytes:
    """A few real records, injured before they are packed, after, or both."""
    chosen = chance.sample(records, RECORDS)
    for _ in range(chance.randint(0, 3)):
        number = chance.randrange(RECORDS)
        injure = chance.choice([bytes_injured, bytes_injured, header_injured, body_replaced])
        chosen[number] = injure(chosen[number], chance)
    whole = b"".join(chosen)
    match chance.randrange(5):
        case 0:
            packed = whole
        case 1:
            packed = b"".join(zstandard.compress(record) for record in chosen)
        case 2:
            packed = gzip.compress(whole, 1)
        case _:
            packed = b"".join(gzip.compress(record, 1) for record in chosen)
    return bytes_injured(packed, chance) if chance.random() < 0.5 else packed


# --- the way from bytes to documents ----------------------------------------------------------------------


def rows_of(
    path: Path, judges: Iterator[Cleaner], modes: Iterator[ExtractConfig], seen: Counter[str]
) -> list[dict]:
    """Rows of DOCUMENTS and REJECTS (with a ``stage``) of everything in an archive."""
    rows = []
    for read in read_warc(path, LIMITS):
        record = to_record(read, path.name, LIMITS) if isinstance(read, WarcRecord) else read
        if record is None:
            continue
        if isinstance(record, Fault):
            seen[record.reason] += 1
            rows.append(ingest.reject(record))
            continue
        try:
            found = extract_page(record, next(modes))
        except ExtractionError as error:
            seen[error.reason] += 1
            rows.append(ingest.reject(Fault(record.url, record.offset, error.reason, str(error))))
            continue
        row = ingest.document(record, found)
        judged = next(judges)(
            Document(row["doc_id"], row["url"], row["domain"], row["text"], row["stated_language"])
        )
        seen[judged.reason or "kept"] += 1
        rows.append(clean.reject(row, judged) if judged.reason else clean.kept_row(row, judged))
    return rows


def test_injured_real_archives_become_rows_whatever_the_injury(records: list[bytes], tmp_path: Path) -> None:
    seed = os.environ.get("MODELMILL_FUZZ_SEED") or (str(time.time_ns()) if os.environ.get("FUZZ") else "1")
    judges = cycle(
        [
            Cleaner(CleanConfig.model_validate({"language": {"keep": ["zh", "en"], "addresses": "ignore"}})),
            Cleaner(
                CleanConfig.model_validate({rules: {"enabled": False} for rules in ("gopher", "repetition")})
            ),
        ]
    )
    modes = cycle([ExtractConfig(mode=mode) for mode in ("best", "best", "best", "fast", "quality")])
    seen: Counter[str] = Counter()
    path = tmp_path / "x.warc"
    for number in range(ARCHIVES):
        path.write_bytes(injured_archive(records, random.Random(f"{seed}-{number}")))
        started = time.process_time()
        try:
            rows = rows_of(path, judges, modes, seen)
            for schema, wanted in ((DOCUMENTS, False), (REJECTS, True)):
                batch_of([row for row in rows if ("stage" in row) == wanted], schema).validate(full=True)
        except Exception as error:
            error.add_note(f"archive {number} of seed {seed}")
            raise
        assert time.process_time() - started < SECONDS, f"archive {number} of seed {seed}"
    print(f"\nseed {seed}: {ARCHIVES} archives, {seen.total()} records: {dict(seen.most_common())}")
    assert seen["kept"] > ARCHIVES / 2, "most records of most archives are whole"
    assert len(seen) > 15, "injuries of many kinds"
