"""WARC reading: whole files as fastwarc reads them, broken ones at the cost of the broken record alone."""

import gzip
import random
import time
import tracemalloc
import zlib
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import brotli
import pytest
import zstandard
from fastwarc.warc import ArchiveIterator
from hypothesis import given, settings
from hypothesis import strategies as st
from injuries import bytes_injured

from tasks.web.payload import to_record
from tasks.web.records import Fault, ReadLimits, Record
from tasks.web.warc import WarcRecord, parse_headers, read_warc, units
from tasks.web.warc_write import NOT_MODIFIED, WarcWriter, sha1_digest

LIMITS = ReadLimits(record_bytes=2**20, skip_bytes=2**20)
NOON = datetime(2025, 1, 2, 12, 0, tzinfo=UTC)


def warc_record(
    number: int, body: bytes = b"", head: str = "Content-Type: text/html", kind: str = "response"
) -> bytes:
    """One response record as bytes, with an address that says which it is."""
    page = body or f"<html><body><p>Page {number} has something to say.</p></body></html>".encode()
    block = f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + page
    fields = f"WARC/1.1\r\nWARC-Type: {kind}\r\nWARC-Target-URI: http://site.example/{number}\r\n"
    fields += f"WARC-Date: 2025-01-02T12:00:00Z\r\nContent-Length: {len(block)}\r\n\r\n"
    return fields.encode() + block + b"\r\n\r\n"


def read_bytes(folder: Path, data: bytes, limits: ReadLimits = LIMITS) -> list[Record | Fault]:
    path = folder / "file.warc"
    path.write_bytes(data)
    found = (to_record(r, "f", limits) if isinstance(r, WarcRecord) else r for r in read_warc(path, limits))
    return [record for record in found if record is not None]


def said(found: list[Record | Fault]) -> list[str]:
    """``0 1 ! 3`` as a list: a record's number, or the reason of a fault."""
    return [r.url.rpartition("/")[2] if isinstance(r, Record) else r.reason for r in found]


@pytest.fixture(params=["plain", "gzip", "zstd", "one gzip stream"])
def packed(request: pytest.FixtureRequest):
    """How records become a file."""

    def pack(records: list[bytes]) -> bytes:
        if request.param == "gzip":
            return b"".join(gzip.compress(record) for record in records)
        if request.param == "zstd":
            return b"".join(zstandard.compress(record) for record in records)
        whole = b"".join(records)
        return gzip.compress(whole) if request.param == "one gzip stream" else whole

    return pack


def test_reads_every_record_however_it_is_packed(tmp_path, packed):
    found = read_bytes(tmp_path, packed([warc_record(i) for i in range(5)]))
    assert said(found) == ["0", "1", "2", "3", "4"]
    assert all(record.fetched_at == NOON and record.content_type == "text/html" for record in found)


@pytest.mark.parametrize("version", [b"0.17", b"0.18", b"1.0"])
def test_reads_every_version(tmp_path, packed, version):
    records = [warc_record(i).replace(b"WARC/1.1\r\n", b"WARC/%s\n" % version) for i in range(3)]
    assert said(read_bytes(tmp_path, packed(records))) == ["0", "1", "2"]


def broken_header(record: bytes) -> bytes:
    return record.replace(b"WARC/1.1", b"WRAC/1.1")


def longer(record: bytes) -> bytes:
    return record.replace(b"Content-Length: ", b"Content-Length: 9")


def shorter(record: bytes) -> bytes:
    return record.replace(b"Content-Length: 1", b"Content-Length: ")


def no_length(record: bytes) -> bytes:
    return record.replace(b"Content-Length", b"Content-Breadth")


def negative(record: bytes) -> bytes:
    return record.replace(b"Content-Length: ", b"Content-Length: -")


@pytest.mark.parametrize(
    ("damage", "reasons"),
    [
        (broken_header, {"not_a_record"}),
        (longer, {"truncated", "wrong_length"}),
        (shorter, {"wrong_length"}),
        (no_length, {"bad_length"}),
        (negative, {"bad_length"}),
        (lambda r: r.replace(b"HTTP/1.1 200 OK", b"SMTP/1.1 200 OK"), {"bad_http"}),
        (lambda r: r.replace(b"HTTP/1.1 200", b"HTTP/1.1 404"), {"http_status"}),
        (lambda r: r.replace(b"WARC-Target-URI", b"WARC-Target-ORI"), {"no_url"}),
    ],
)
def test_a_broken_record_costs_itself_alone(tmp_path, packed, damage, reasons):
    records = [warc_record(i, b"<html>" + bytes([65 + i]) * 100) for i in range(5)]
    records[2] = damage(records[2])
    found = said(read_bytes(tmp_path, packed(records)))
    assert [name for name in found if name.isdigit()] == ["0", "1", "3", "4"]
    assert len(found) == 5
    assert set(found) & reasons


@pytest.mark.parametrize("packed", ["gzip", "zstd"], indirect=True)
def test_flipped_bytes_in_a_member_cost_that_record(tmp_path, packed):
    records = [warc_record(i, b"<html>" + random.Random(i).randbytes(400).hex().encode()) for i in range(5)]
    members = [bytearray(packed([record])) for record in records]
    members[2][60:70] = b"\xff" * 10
    found = said(read_bytes(tmp_path, b"".join(members)))
    assert [name for name in found if name.isdigit() and name != "2"] == ["0", "1", "3", "4"]
    assert len(found) == 5, "zstd without a checksum may not notice, gzip does"


def test_garbage_between_members_costs_nothing_else(tmp_path):
    members = [gzip.compress(warc_record(i)) for i in range(4)]
    found = said(read_bytes(tmp_path, members[0] + b"\x1f\x8b\x08garbage" * 20 + b"".join(members[1:])))
    assert [name for name in found if name.isdigit()] == ["0", "1", "2", "3"]


def test_an_uncompressed_file_is_one_however_much_of_its_content_is_compressed(tmp_path):
    body = b"".join(gzip.compress(b"<p>%d</p>" % i) for i in range(20))
    records = [warc_record(i, body, "Content-Type: text/html\r\nContent-Encoding: gzip") for i in range(3)]
    assert said(read_bytes(tmp_path, b"".join(records))) == ["0", "1", "2"]


@pytest.mark.parametrize("packed", ["gzip", "zstd"], indirect=True)
def test_a_long_member_that_is_cut_costs_nothing_after_it(tmp_path, packed):
    pages = [b"<html>" + b"<p>A paragraph like many others.</p>" * (9000 if i == 2 else 1) for i in range(60)]
    members = [packed([warc_record(i, page)]) for i, page in enumerate(pages)]
    members[2] = members[2][: len(members[2]) // 2]
    found = said(read_bytes(tmp_path, b"".join(members)))
    assert [name for name in found if name.isdigit()] == [str(i) for i in range(60) if i != 2]
    assert len(found) == 60


@pytest.mark.parametrize("cut", [0.3, 0.55, 0.9, 0.99])
def test_a_cut_file_gives_what_was_before_the_cut_and_says_so(tmp_path, packed, cut):
    records = [warc_record(i, b"<html>" + random.Random(i).randbytes(600).hex().encode()) for i in range(10)]
    data = packed(records)
    found = said(read_bytes(tmp_path, data[: int(len(data) * cut) - 7]))
    numbers = [name for name in found if name.isdigit()]
    assert numbers == [str(i) for i in range(len(numbers))]
    assert len(numbers) >= int(10 * cut) - 1
    assert found[-1] == "truncated"


def test_a_gigabyte_of_zeros_in_a_small_member_is_left_in_a_moment(tmp_path):
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = squeeze.compress(warc_record(1)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    megabyte = squeeze.compress(bytes(2**20)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    bomb = head + megabyte * 1024
    started = time.monotonic()
    found = said(read_bytes(tmp_path, gzip.compress(warc_record(0)) + bomb + gzip.compress(warc_record(2))))
    assert [name for name in found if name.isdigit()] == ["0", "1", "2"]
    assert time.monotonic() - started < 60


def test_no_bomb_takes_memory(tmp_path):
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    megabyte = b"x" * 2**20
    head = warc_record(1).replace(b"Content-Length: 1", b"Content-Length: 99999999")
    in_header = squeeze.compress(b"WARC/1.1\r\n" + megabyte) + squeeze.flush(zlib.Z_FULL_FLUSH)
    again = squeeze.compress(megabyte) + squeeze.flush(zlib.Z_FULL_FLUSH)
    bodies = gzip.compress(head + megabyte * 100)
    tracemalloc.start()
    found = said(read_bytes(tmp_path, in_header + again * 200 + bodies + gzip.compress(warc_record(2))))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found[-1] == "2"
    assert {"bad_header", "too_large"} <= set(found)
    assert peak < 8 * 2**20


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd"])
def test_a_bomb_in_the_content_encoding_is_a_fault(tmp_path, encoding):
    zeros = bytes(50 * 2**20)
    pack = {"gzip": gzip.compress, "br": lambda b: brotli.compress(b, quality=1), "deflate": zlib.compress}
    body = zstandard.compress(zeros) if encoding == "zstd" else pack[encoding](zeros)
    head = f"Content-Type: text/html\r\nContent-Encoding: {encoding}"
    records = [warc_record(0), warc_record(1, body, head), warc_record(2)]
    assert said(read_bytes(tmp_path, b"".join(records))) == ["0", "too_large", "2"]


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "identity", "gzip, br"])
def test_content_encodings_and_chunks_are_undone(tmp_path, encoding):
    page = "<html><body>Grüße, 世界</body></html>".encode()
    body = page
    for step in encoding.split(", "):
        if step != "identity":
            pack = {"gzip": gzip.compress, "br": brotli.compress, "deflate": zlib.compress}
            body = zstandard.compress(body) if step == "zstd" else pack[step](body)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    head = f"Content-Type: text/html; charset=UTF-8\r\nContent-Encoding: {encoding}\r\n"
    records = [
        warc_record(0, chunked, head + "Transfer-Encoding: chunked"),
        warc_record(1, page, head + "Transfer-Encoding: chunked"),  # decoded by the crawler, headers left
    ]
    found = read_bytes(tmp_path, b"".join(records))
    assert [(r.content, r.charset) for r in found] == [(page, "utf-8"), (page, "utf-8")]


@pytest.mark.parametrize(
    ("chunks", "content"),
    [
        (b"6\r\n<html>\r\n5;a=b\r\nworld\r\n0\r\nA-Field: x\r\n\r\n", b"<html>world"),
        (b"6\n<html>\n5\nworld\n0\n\n", b"<html>world"),
        (b"6\r\n<html>\r\n5\r\nworld\r\n0\r\n", b"<html>world"),
        (b"6\r\n<html>\r\n5\r\nworld\r\n", b"<html>world"),
        (b"6\r\n<html>\r\n5\r\nworld\r", b"<html>world"),
        (b"6\r\n<html>\r\n5\r\nwor", b"<html>wor"),
        (b"6\r\n<html>\r\n5\r", b"<html>"),
        (b"6\r\n<html>\r\n5 ;a=", b"<html>"),
    ],
)
def test_of_chunks_that_were_cut_off_there_is_what_came(tmp_path, chunks, content):
    head = "Content-Type: text/html\r\nTransfer-Encoding: chunked"
    (found,) = read_bytes(tmp_path, warc_record(0, chunks, head))
    assert found.content == content
    assert found.cut_short == (b"0\r\n" not in chunks and b"0\n" not in chunks)


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip", "zstd", "UTF-8", "none", "gzip, utf-8"])
def test_a_content_encoding_that_is_not_there_costs_nothing(tmp_path, encoding):
    bodies = [b"<!-- decoded by the crawler --><html>x</html>", "一篇没有标记的文章。".encode()]
    records = [
        warc_record(i, body, f"Content-Type: text/{kind}\r\nContent-Encoding: {encoding}")
        for i, (body, kind) in enumerate(zip(bodies, ["html", "plain"], strict=True))
    ]
    assert [record.content for record in read_bytes(tmp_path, b"".join(records))] == bodies
    broken = random.Random(1).randbytes(3000)
    head = "Content-Type: text/html\r\nContent-Encoding: x-none"
    assert said(read_bytes(tmp_path, warc_record(0, broken, head))) == ["bad_encoding"]


PACK = {
    "gzip": gzip.compress,
    "br": brotli.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
    "identity": bytes,
}


@pytest.mark.parametrize("encoding", PACK)
def test_of_a_body_that_was_cut_off_there_is_what_came_and_it_is_told_from_whole_ones(tmp_path, encoding):
    page = b"<html>" + b"".join(b"<p>Paragraph %d of some length.</p>" % i for i in range(12_000))
    body = PACK[encoding](page)
    head = f"Content-Type: text/html\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}"
    cut, whole = read_bytes(
        tmp_path, warc_record(0, body[: len(body) * 3 // 4], head) + warc_record(1, body, head)
    )
    assert page.startswith(cut.content)
    assert len(cut.content) > len(page) / 2
    assert (cut.cut_short, whole.cut_short, whole.content) == (True, False, page)


def test_a_page_that_its_crawler_stored_in_part_is_cut_short(tmp_path):
    record = warc_record(0).replace(b"WARC-Date", b"WARC-Truncated: length\r\nWARC-Date")
    assert [page.cut_short for page in read_bytes(tmp_path, record + warc_record(1))] == [True, False]


def test_a_broken_size_of_a_chunk_is_named(tmp_path):
    head = "Content-Type: text/html\r\nTransfer-Encoding: chunked"
    records = warc_record(0, b"6\r\n<html>\r\nxyz\r\nworld\r\n0\r\n\r\n", head) + warc_record(1)
    assert said(read_bytes(tmp_path, records)) == ["bad_encoding", "1"]


def test_what_is_no_page_says_so(tmp_path):
    records = [
        warc_record(0, b"%PDF-1.7 ..."),
        warc_record(1, b"\x89PNG\0\0\0", "Content-Type: image/png"),
        warc_record(2, b"   \r\n"),
        warc_record(3, b"<html>no type said</html>", "Server: x"),
        warc_record(4, b"just text", "Content-Type: text/plain"),
    ]
    assert said(read_bytes(tmp_path, b"".join(records))) == ["not_html", "not_html", "empty", "3", "4"]


@pytest.mark.parametrize(
    "stated",
    [
        "text/html, text/html",
        "text/html charset=utf-8",
        "TEXT/HTML;CHARSET=utf-8",
        "html",
        "*/*",
        "text/xml",
        "text/plain",
    ],
)
def test_a_page_is_one_however_its_type_is_stated(tmp_path, stated):
    page = b"<!DOCTYPE html><html><head><meta name=a content='\0'></head><p>Text</html>"
    (record,) = read_bytes(tmp_path, warc_record(0, page, f"Content-Type: {stated}"))
    assert (record.content, record.content_type) == (page, "text/html")


def test_bytes_after_a_gzip_body_cost_nothing(tmp_path):
    head = "Content-Type: text/html\r\nContent-Encoding: gzip"
    bodies = [gzip.compress(b"<p>one</p>") + b"\r\n", gzip.compress(b"<p>o") + gzip.compress(b"ne</p>")]
    found = read_bytes(tmp_path, b"".join(warc_record(i, body, head) for i, body in enumerate(bodies)))
    assert [record.content for record in found] == [b"<p>one</p>"] * 2


def test_utf16_without_a_mark_is_no_binary_file(tmp_path):
    page = "<html><p>那天夜里河水涨了起来，到了早晨，低处的草地已经全被淹没。".encode("utf-16-le") * 9
    assert said(read_bytes(tmp_path, warc_record(0, page))) == ["0"]


def test_what_was_not_fetched_by_http_is_no_page_and_not_broken(tmp_path):
    dns = warc_record(0).replace(b"http://site.example/0", b"dns:site.example     ")
    assert said(read_bytes(tmp_path, dns)) == ["record_type"]


def test_a_record_over_the_bound_is_passed_over(tmp_path, packed):
    page = b"<html>" + random.Random(0).randbytes(2**20).hex().encode()
    records = [warc_record(0), warc_record(1, page), warc_record(2)]
    assert said(read_bytes(tmp_path, packed(records))) == ["0", "too_large", "2"]


def test_wet_records_are_text(tmp_path):
    text = "标题\n第一段。".encode()
    head = b"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://h/\r\n"
    record = head + b"Content-Length: %d\r\n\r\n%s\r\n\r\n"
    (found,) = read_bytes(tmp_path, record % (len(text), text))
    assert isinstance(found, Record)
    assert (found.text, found.content, found.url) == ("标题\n第一段。", None, "http://h/")


def test_what_something_was_converted_to_is_text_only_if_it_is(tmp_path):
    def converted(number: int, block: bytes, stated: str, kind: str = "conversion", url: str = "") -> bytes:
        url = url or f"http://h/{number}"
        head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nContent-Type: {stated}\r\n"
        return head.encode() + b"Content-Length: %d\r\n\r\n%s\r\n\r\n" % (len(block), block)

    records = [
        converted(0, b"plain", "text/plain"),
        converted(1, b"\x89PNG\r\n\0\0", "image/png"),
        converted(2, b"<html>a page</html>", "text/html"),
        converted(3, b"Menu Home Text", "text/plain", "resource", "urn:text:http://h/3"),
        converted(4, b"Menu Home Text", "text/plain", "resource", "urn:textFinal:http://h/3"),
    ]
    found = read_bytes(tmp_path, b"".join(records))
    assert said(found) == ["0", "not_html", "2", "record_type", "record_type"]
    assert (found[0].text, found[2].content) == ("plain", b"<html>a page</html>")


@pytest.mark.parametrize(
    "date", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00", "2009-03-65T08:00:00Z"]
)
def test_a_date_that_is_none_costs_itself_alone(tmp_path, date):
    (record,) = read_bytes(tmp_path, warc_record(0).replace(b"2025-01-02T12:00:00Z", date.encode()))
    assert (record.url, record.fetched_at) == ("http://site.example/0", None)


def test_a_zstd_file_may_bring_its_dictionary(tmp_path):
    samples = [warc_record(i) for i in range(200)]
    trained = zstandard.train_dictionary(4096, samples)
    squeeze = zstandard.ZstdCompressor(dict_data=trained)
    raw = trained.as_bytes()
    first = (0x184D2A5D).to_bytes(4, "little") + len(raw).to_bytes(4, "little") + raw
    data = first + b"".join(squeeze.compress(record) for record in samples[:4])
    assert said(read_bytes(tmp_path, data)) == ["0", "1", "2", "3"]
    path = tmp_path / "file.warc"
    parts = [record for start, end in units(path, 100) for record in read_warc(path, LIMITS, start, end)]
    assert parts == list(read_warc(path, LIMITS))


@pytest.mark.parametrize("unit_bytes", [1, 700, 5000])
def test_units_together_give_what_the_whole_gives(tmp_path, packed, unit_bytes):
    path = tmp_path / "x.warc"
    path.write_bytes(packed([warc_record(i, b"<html>" + bytes([65 + i]) * 300 * i) for i in range(20)]))
    whole = list(read_warc(path, LIMITS))
    parts = [
        record for start, end in units(path, unit_bytes) for record in read_warc(path, LIMITS, start, end)
    ]
    assert parts == whole
    assert len(whole) == 20


def test_headers_of_every_kind():
    block = b"HTTP/1.1 200 OK\nA: 1\r\n  and 2\nB : x:y\r\nnonsense\r\nA: 3\r\nC: caf\xe9\r\n\r\n"
    assert parse_headers(block) == {"a": "1 and 2", "b": "x:y", "c": "café"}


def test_what_we_write_fastwarc_reads_and_verifies(tmp_path):
    path = tmp_path / "out.warc.gz"
    body = gzip.compress(b"<html>hello</html>", mtime=0)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Encoding: gzip\r\n\r\n"
    with WarcWriter(path, software="test", date=NOON) as writer:
        offset = writer.response("http://h/a", NOON, head, body)
        writer.revisit(
            "http://h/b",
            NOON,
            b"HTTP/1.1 304 Not Modified\r\n\r\n",
            profile=NOT_MODIFIED,
            payload_digest=sha1_digest(body),
            first_date=NOON,
        )
    records = list(ArchiveIterator(str(path), verify_digests=True))
    kinds = [record.headers["WARC-Type"] for record in ArchiveIterator(str(path))]
    assert kinds == ["warcinfo", "response", "revisit"]
    assert len(records) == 3, "a record whose digest is wrong is left out"
    ours = list(read_warc(path, LIMITS))
    assert [r.offset for r in ours if isinstance(r, WarcRecord) and r.type == "response"] == [offset]
    page = to_record(ours[1], "f", LIMITS)
    assert isinstance(page, Record)
    assert page.content == b"<html>hello</html>"
    assert isinstance(to_record(ours[2], "f", LIMITS), Fault)


@pytest.mark.parametrize("name", ["wcxb/wcxb-dev-00003-of-00006.warc.gz", "dolma-warc/sample-0000.warc.gz"])
def test_real_files_read_as_fastwarc_reads_them(real_data, name):
    path = real_data(name)
    theirs = [
        (record.stream_pos, record.headers.get("WARC-Target-URI"), record.reader.read())
        for record in ArchiveIterator(str(path), parse_http=False)
    ]
    ours = [
        (record.offset, record.headers.get("warc-target-uri"), record.block)
        for record in read_warc(path, ReadLimits())
        if isinstance(record, WarcRecord)
    ]
    assert ours == theirs


# --- whatever the bytes -----------------------------------------------------------------------------------


def check_reads(folder: Path, data: bytes) -> int:
    """Reading never raises, never loops and holds its bounds; how many records came out."""
    found = read_bytes(folder, data)
    for record in found:
        if isinstance(record, Record):
            assert record.url
            assert len(record.content or b"") <= LIMITS.record_bytes
        else:
            assert record.reason.isidentifier()
    return sum(isinstance(record, Record) for record in found)


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=400), at=st.integers(0, 3), pack=st.sampled_from(["plain", "gzip", "zstd"]))
def test_any_bytes_between_records_cost_at_most_their_neighbours(tmp_path_factory, data, at, pack):
    squeeze = {"plain": bytes, "gzip": gzip.compress, "zstd": zstandard.compress}[pack]
    pieces = [squeeze(warc_record(i)) for i in range(4)]
    pieces.insert(at, data)
    assert check_reads(tmp_path_factory.getbasetemp(), b"".join(pieces)) >= 2


def test_starts_of_records_without_end_are_read_in_proportion(tmp_path):
    started = time.process_time()
    found = read_bytes(tmp_path, warc_record(0) + b"WARC/1.0\r\n" * 30_000 + b"\r\n\r\n" + warc_record(1))
    assert time.process_time() - started < 8, "half a minute if the rest is searched from each of them"
    assert {"0", "1"} <= set(said(found))


def test_records_that_claim_to_be_longer_than_they_are_are_read_in_proportion(tmp_path):
    liar = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: 9999999\r\n\r\nbody\r\n\r\n"
    started = time.process_time()
    found = read_bytes(tmp_path, liar * 100_000 + warc_record(1), replace(LIMITS, record_bytes=2**24))
    assert time.process_time() - started < 8, "ten times as long if each of them copies what follows"
    assert Counter(said(found)) == {"truncated": 100_000, "1": 1}


@pytest.mark.parametrize(
    ("squeeze", "unit"),
    [
        (gzip.compress, b"\x1f\x8b\x08"),
        (gzip.compress, b"\x1f\x8b\x08\x08"),  # the rest of the file as a name
        (gzip.compress, b"\x1f\x8b\x08" + bytes(7) + b"\0\0\0\xff\xff" * 9),  # blocks without content
        (zstandard.compress, b"\x28\xb5\x2f\xfd"),
        (zstandard.compress, b"\x28\xb5\x2f\xfd" + bytes(56)),
    ],
)
def test_bytes_full_of_what_looks_like_frames_are_read_in_proportion(tmp_path, squeeze, unit):
    records = [squeeze(warc_record(i)) for i in range(3)]
    data = records[0] + unit * (3 * 2**20 // len(unit)) + bytes(2**20) + records[1] + records[2]
    started = time.process_time()
    found = Counter(said(read_bytes(tmp_path, data)))
    assert time.process_time() - started < 4, "hours if each of them is read to the file's end"
    assert [found.pop(str(i)) for i in range(3)] == [1, 1, 1]
    assert set(found) <= {"bad_compression", "truncated", "false_starts"}


@pytest.mark.parametrize("packed", ["gzip", "zstd"], indirect=True)
def test_thousands_of_broken_records_are_read_in_proportion(tmp_path, packed):
    members = [bytearray(packed([warc_record(i)])) for i in range(20_000)]
    for member in members[:-1]:
        del member[-12:]
    started = time.process_time()
    found = said(read_bytes(tmp_path, b"".join(members)))
    assert time.process_time() - started < 8, "half a minute if a megabyte is read for each"
    assert found[-1] == "19999"
    assert "false_starts" not in found


def test_members_within_members_are_read_in_proportion(tmp_path):
    start = b"\x1f\x8b\x08" + bytes(7)
    content = b"WARC/1.0\r\nContent-Length: 9999\r\n\r\n" + start
    size = len(content)
    stored = b"\0" + size.to_bytes(2, "little") + (0xFFFF - size).to_bytes(2, "little") + content
    last = gzip.compress(warc_record(1))
    started = time.process_time()
    found = said(read_bytes(tmp_path, start + stored * 100_000 + last, replace(LIMITS, record_bytes=2**24)))
    assert time.process_time() - started < 30, "hours if each of them is read to the end of the outermost"
    assert found[-1] == "1"


@pytest.mark.parametrize("magic", [b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08"])
def test_damage_that_looks_like_another_compression_costs_one_record(tmp_path, magic):
    assert check_reads(tmp_path, magic + b"".join(warc_record(i) for i in range(4))) == 3


MUTATIONS = 1200


@pytest.mark.parametrize("pack", ["plain", "gzip", "zstd"])
def test_thousands_of_mutated_warcs(tmp_path, pack):
    chance = random.Random(pack)
    page = b"<html><body>" + "<p>Ein Absatz — 一段。</p>".encode() * 10
    heads = ["Content-Type: text/html", "Content-Type: text/html; charset=gbk\r\nContent-Encoding: gzip"]
    records = [warc_record(i, gzip.compress(page) if i % 2 else page, heads[i % 2]) for i in range(8)]
    squeeze = {"plain": bytes, "gzip": gzip.compress, "zstd": zstandard.compress}[pack]
    data = b"".join(squeeze(record) for record in records)
    kept = sum(check_reads(tmp_path, bytes_injured(data, chance)) for _ in range(MUTATIONS))
    assert kept > MUTATIONS * 2, "most records of a file with a few injuries are whole"


def test_mutated_real_warcs(tmp_path, real_data):
    chance = random.Random(7)
    data = real_data("dolma-warc/sample-0001.warc.gz").read_bytes()
    for _ in range(60):
        check_reads(tmp_path, bytes_injured(data, chance))
