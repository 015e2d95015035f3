"""Sources as strings: what they name, what they say where they name nothing, and reading rows and files."""

import gzip
import json
import os
import shutil
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.web import readers
from tasks.web.buckets import BucketError, copy_object
from tasks.web.config import CrawlConfig, IngestConfig
from tasks.web.download import DownloadError, GoneError, download
from tasks.web.fingerprints import Fingerprints
from tasks.web.freshness import is_fresh
from tasks.web.readers import kind_of, read_records, read_source, work_units
from tasks.web.records import Fault, Record
from tasks.web.rows import DatasetError, parse_dataset, read_dataset
from tasks.web.sources import SourceError, resolve, resolve_all

CHINESE = "那天夜里河水涨了起来，到了早晨，低处的草地已经全被淹没。"
CONFIG = IngestConfig()
LOCAL = CrawlConfig(allow_hosts=("127.0.0.1",), host_delay_seconds=0, backoff_seconds=0.01, retries=1)
NEAR = IngestConfig(crawl=LOCAL)


@pytest.fixture
def folder(tmp_path):
    """One file of every kind that can be read."""
    line = json.dumps({"text": "Ein Satz.", "url": "http://h/1"}).encode()
    (tmp_path / "a.jsonl").write_bytes(line)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(line))
    (tmp_path / "c.jsonl.zst").write_bytes(zstandard.compress(line))
    pq.write_table(pa.table({"text": ["一段文字。"], "url": ["http://h/2"]}), tmp_path / "d.parquet")
    (tmp_path / "site").mkdir()
    (tmp_path / "site/x.html").write_text("<p>Hello.</p>")
    (tmp_path / "site/y.htm").write_text("<p>Hello again.</p>")
    return tmp_path


def texts(path: Path, kind: str, config: IngestConfig = CONFIG) -> list[str | None]:
    return [getattr(record, "text", None) for record in read_records(path, kind, config)]


def test_kinds_by_name():
    names = ["x.warc.gz", "x.WARC", "CC-0.warc.wet.gz", "x.jsonl.zst", "x.parquet", "x.html", "x.txt", "gz"]
    assert [kind_of(name) for name in names] == ["warc", "warc", "wet", "jsonl", "parquet", "html", "", ""]


def test_a_glob_a_file_and_a_folder(folder):
    assert [ref.name for ref in resolve(f"{folder}/*.jsonl*", CONFIG)] == [
        "a.jsonl",
        "b.jsonl.gz",
        "c.jsonl.zst",
    ]
    (one,) = resolve(str(folder / "d.parquet"), CONFIG)
    assert (one.kind, one.uri, len(one.fingerprint)) == ("parquet", str(folder / "d.parquet"), 64)
    (site,) = resolve(str(folder / "site"), CONFIG)
    assert (site.kind, site.name) == ("html", "site")
    assert [ref.kind for ref in resolve(str(folder), CONFIG)] == [
        "jsonl",
        "jsonl",
        "jsonl",
        "parquet",
        "html",
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no/such/file.warc.gz", r"there is no file or folder 'no/such/file.warc.gz' \(looked from"),
        ("*.nothing", r"the glob '\*.nothing' matches no file"),
        ("ftp://host/file", "no source has the scheme 'ftp://'"),
        ("", "an empty source"),
        ("https://host/page", "to crawl a site, write 'crawl:https://host/page'"),
        ("crawl:ftp://host/", "'ftp://host/' is no http"),
        ("pydoc:no_such_package", "no package 'no_such_package'"),
        ("hf://", "'hf://' names nothing; a source is"),
        ("s3://", "'s3://' names nothing; a source is"),
        ("crawl:", "'crawl:' names nothing; a source is"),
        ("crawl: ,", "'crawl: ,' names nothing; a source is"),
        ("pydoc:", "'pydoc:' names nothing; a source is"),
        ("hf://?split=train", "names no dataset"),
        ("hf://a/b?splt=train", "option 'splt'; known are config, split"),
        ("cc://!", "is no crawl id"),
        ("cc://CC-MAIN-2024-22?files=none", "files is 'none'"),
        ("cc://CC-MAIN-2024-22?kind=wat", "kind is 'wat'"),
    ],
)
def test_a_source_that_names_nothing_says_what_to_write(source, message):
    with pytest.raises(SourceError, match=message):
        resolve(source, CONFIG)


def test_files_of_no_known_kind_and_empty_ones(tmp_path):
    (tmp_path / "a.bin").write_text("x")
    (tmp_path / "b.warc").write_text("")
    for source, message in [
        (f"{tmp_path}/*.bin", r"matches \(1\) none is of a kind that can be read"),
        (f"{tmp_path}/a.bin", "of no kind that can be read"),
        (f"{tmp_path}/b.warc", r"is empty \(0 bytes\)"),
    ]:
        with pytest.raises(SourceError, match=message):
            resolve(source, CONFIG)


def test_a_file_whose_rows_all_are_unreadable_is_refused_with_the_mend(tmp_path):
    pq.write_table(pa.table({"content": ["一段文字。"], "id": [1]}), tmp_path / "a.parquet")
    (tmp_path / "b.json").write_text('\ufeff \n[\n {"text": "one"},\n {"text": "two"}\n]')
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress('[{"text": "one"}]'.encode("utf-16")))
    for name, message in [
        ("a.parquet", r"no column 'text' but 'content', 'id'; name .* ingest\.text_field"),
        ("b.json", r"one JSON array and no JSON Lines; write a row a line, .*jq"),
        ("c.jsonl.gz", "one JSON array and no JSON Lines"),
    ]:
        with pytest.raises(SourceError, match=message):
            resolve(str(tmp_path / name), CONFIG)
    for config in (IngestConfig(text_field="content"), IngestConfig(html_field="content")):
        assert len(resolve(str(tmp_path / "a.parquet"), config)) == 1


@pytest.mark.parametrize("packing", [bytes, gzip.compress, zstandard.compress])
@pytest.mark.parametrize(
    ("charset", "said"),
    [
        *(("gb18030", CHINESE), ("gbk", CHINESE), ("utf-8-sig", CHINESE), ("utf-16", CHINESE)),
        *(("utf-16-le", CHINESE), ("utf-16-be", CHINESE)),
        ("big5", "那天夜裡河水漲了起來，到了早晨，低處的草地已經全被淹沒。"),
        ("cp932", "今日はとても天気が良かったので、公園を散歩して昼食をとることにしました。"),
    ],
)
def test_json_lines_are_read_in_the_charset_that_they_were_saved_in(tmp_path, charset, said, packing):
    rows = [{"text": "plain words", "id": 0}, *({"text": f"{said}\n{n}", "id": n} for n in range(9))]
    lines = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "x.jsonl").write_bytes(packing(lines.encode(charset)))
    (ref,) = resolve(str(tmp_path / "x.jsonl"), CONFIG)
    found = read_records(Path(ref.uri), "jsonl", CONFIG)
    assert [record.text for record in found] == [row["text"] for row in rows]


def test_broken_lines_of_a_file_in_another_charset_cost_themselves_alone(tmp_path):
    row = f'{{"text": "{CHINESE}"}}'.encode("gb18030")
    (tmp_path / "x.jsonl").write_bytes(b"\n".join([row, row, b'{"text": "\xff\xff"}', b"{" + row, row]))
    found = list(read_records(tmp_path / "x.jsonl", "jsonl", CONFIG))
    assert [getattr(record, "reason", "") for record in found] == ["", "", "bad_text", "bad_json", ""]
    assert found[4].text == CHINESE


def test_what_is_too_little_to_tell_a_charset_by_is_no_text(tmp_path):
    (tmp_path / "x.jsonl").write_bytes('{"text": "你好"}'.encode("gbk"))
    (found,) = read_records(tmp_path / "x.jsonl", "jsonl", CONFIG)
    assert found.reason == "bad_json"


def test_a_row_says_what_it_has_where_its_text_should_be(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": 7}\n{"text": ["a"]}\n{"body": "a", "id": 1}')
    faults = read_records(tmp_path / "x.jsonl", "jsonl", CONFIG)
    assert [fault.detail for fault in faults] == [
        "column 'text' holds no text but int",
        "column 'text' holds no text but list",
        "no text in column 'text'; columns: body, id",
    ]


def test_fingerprints_follow_the_content_not_the_place(folder, tmp_path):
    cache = tmp_path / "cache/files.sqlite"
    (before,) = resolve(str(folder / "a.jsonl"), CONFIG, cache)
    (again,) = resolve(str(folder / "a.jsonl"), CONFIG, cache)
    shutil.copy(folder / "a.jsonl", tmp_path / "site/a.jsonl")
    (moved,) = resolve(str(tmp_path / "site/a.jsonl"), CONFIG, cache)
    assert before.fingerprint == again.fingerprint == moved.fingerprint
    (folder / "a.jsonl").write_text('{"text": "Another."}')
    (after,) = resolve(str(folder / "a.jsonl"), CONFIG, cache)
    assert after.fingerprint != before.fingerprint
    (pages,) = resolve(str(folder / "site"), CONFIG, cache)[-1:]
    (folder / "site/x.html").write_text("<p>Changed.</p>")
    assert resolve(str(folder / "site"), CONFIG, cache)[-1].fingerprint != pages.fingerprint


def test_a_cached_fingerprint_is_not_computed_again(tmp_path, monkeypatch):
    file, cache = tmp_path / "x", tmp_path / "cache.sqlite"
    file.write_text("content")
    digest = Fingerprints(cache).of_file(file)
    monkeypatch.setattr("tasks.web.fingerprints.hash_file", lambda _: pytest.fail("hashed again"))
    assert Fingerprints(cache).of_file(file) == digest


def test_a_damaged_cache_of_fingerprints_is_begun_anew(tmp_path):
    file, cache = tmp_path / "x", tmp_path / "cache.sqlite"
    file.write_text("content")
    digest = Fingerprints(cache).of_file(file)
    cache.write_bytes(b"what a power failure left" * 100)
    assert [Fingerprints(cache).of_file(file) for _ in range(2)] == [digest, digest]


def test_every_source_that_names_nothing_is_said_at_once() -> None:
    with pytest.raises(SourceError) as caught:
        resolve_all(["nowhere/*.warc.gz", "gone.jsonl", "ftp://host/file"], CONFIG)
    complaints = str(caught.value).splitlines()
    assert len(complaints) == 3
    assert "nowhere/*.warc.gz" in complaints[0]
    assert "gone.jsonl" in complaints[1]
    assert "ftp" in complaints[2]


def test_names_are_made_unique_and_a_thing_named_twice_is_there_once(folder):
    os.makedirs(folder / "more")  # noqa: PTH103
    shutil.copy(folder / "a.jsonl", folder / "more/a.jsonl")
    refs = resolve_all([f"{folder}/*.jsonl", f"{folder}/a.jsonl", f"{folder}/more/a.jsonl"], CONFIG)
    assert [ref.name for ref in refs] == ["a.jsonl", "a (2).jsonl"]
    shutil.copy(folder / "a.jsonl", folder / "more/a (2).jsonl")
    refs = resolve_all([f"{folder}/a.jsonl", f"{folder}/more/*.jsonl"], CONFIG)
    assert [ref.name for ref in refs] == ["a.jsonl", "a (2).jsonl", "a (3).jsonl"]
    assert [Path(ref.uri).name for ref in refs] == ["a.jsonl", "a (2).jsonl", "a.jsonl"]
    twice = ["crawl:http://h/x?a", "crawl:http://h/x?a,http://h/y"]
    assert [ref.name for ref in resolve_all(twice, CONFIG)] == ["h/x?a", "h/x?a (2)"]


# --- rows -------------------------------------------------------------------------------------------------


def test_every_packing_of_rows_reads_the_same(folder):
    for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl.zst"):
        assert texts(folder / name, "jsonl") == ["Ein Satz."]
    (row,) = read_records(folder / "d.parquet", "parquet", CONFIG)
    assert isinstance(row, Record)
    assert (row.text, row.url, row.source_file, row.offset) == ("一段文字。", "http://h/2", "d.parquet", 0)


def test_a_bad_line_costs_itself_alone(tmp_path):
    lines = [
        b'{"text": "one"}',
        b"{not json",
        b"[1, 2]",
        b'{"txt": "no text"}',
        b'{"text": 7}',
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"text": "' + b"x" * 5000 + b'"}',
        b"",
        b'{"text": "\\ud800 lone \\u0000", "url": "http://h/\\udfff"}',
        b'{"text": "last", "title": "T"}',
    ]
    (tmp_path / "x.jsonl").write_bytes(b"\n".join(lines))
    found = list(read_records(tmp_path / "x.jsonl", "jsonl", IngestConfig(max_record_bytes=4000)))
    said = [r.reason if isinstance(r, Fault) else r.text for r in found]
    bad = ["bad_json", "bad_row", "no_text", "no_text", "bad_json", "too_large", "too_large"]
    assert said == ["one", *bad, "? lone \x00", "last"]
    assert [r.offset for r in found] == [0, 1, 2, 3, 4, 5, 6, 7, 9, 10]
    assert found[-1].url == "file:///x.jsonl#10"


def test_a_ten_megabyte_line_takes_no_ten_megabytes_of_records(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b'{"text": "' + b"x" * 10_000_000 + b'"}\n{"text": "after"}\n')
    found = list(read_records(tmp_path / "x.jsonl", "jsonl", IngestConfig(max_record_bytes=10_000)))
    assert [getattr(r, "reason", getattr(r, "text", "")) for r in found] == ["too_large", "after"]


def test_cut_files_of_rows_give_what_is_there(tmp_path):
    data = gzip.compress(b"".join(b'{"text": "row %d"}\n' % i for i in range(5000)))
    (tmp_path / "x.jsonl.gz").write_bytes(data[: len(data) // 2])
    found = list(read_records(tmp_path / "x.jsonl.gz", "jsonl", CONFIG))
    assert [r.reason for r in found if isinstance(r, Fault)][:1] == ["truncated"]
    assert len(found) > 1000
    (tmp_path / "x.parquet").write_bytes(b"PAR1 is not enough")
    assert [r.reason for r in read_records(tmp_path / "x.parquet", "parquet", CONFIG)] == ["bad_parquet"]


@pytest.mark.parametrize(("squeeze", "ending"), [(gzip.compress, "gz"), (zstandard.compress, "zst")])
def test_a_broken_frame_of_rows_costs_its_rows_alone(tmp_path, squeeze, ending):
    rows = [b"".join(b'{"text": "row %d of %d"}\n' % (i, n) for i in range(50)) for n in range(4)]
    frames = [bytearray(squeeze(each)) for each in rows]
    frames[1][40:48] = b"\xff" * 8
    path = tmp_path / f"x.jsonl.{ending}"
    path.write_bytes(b"".join(frames))
    found = list(read_records(path, "jsonl", CONFIG))
    read = [record.text for record in found if isinstance(record, Record)]
    assert [text for text in read if not text.endswith("of 1")] == [
        f"row {i} of {n}" for n in (0, 2, 3) for i in range(50)
    ]
    assert "bad_compression" in {record.reason for record in found if isinstance(record, Fault)}


def test_zstd_frames_without_content_are_passed_over(tmp_path):
    empty = (0x184D2A50).to_bytes(4, "little") + (4).to_bytes(4, "little") + b"\0\1\2\3"
    rows = [zstandard.compress(b'{"text": "%d"}\n' % i) for i in range(3)]
    (tmp_path / "x.jsonl.zst").write_bytes(empty + empty.join(rows) + empty)
    assert texts(tmp_path / "x.jsonl.zst", "jsonl") == ["0", "1", "2"]


@pytest.mark.parametrize("page", [7, -1, 1e12, True, {"a": 1}, ["x"]])
def test_what_stands_for_a_page_and_is_none_costs_its_row_alone(tmp_path, page):
    rows = [{"html": page}, {"html": "<p>one</p>"}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    bad, good = read_records(tmp_path / "x.jsonl", "jsonl", IngestConfig(html_field="html"))
    assert isinstance(bad, Fault)
    assert (bad.reason, good.content) == ("bad_row", b"<p>one</p>")


def test_a_row_that_is_not_utf8_costs_itself_alone(tmp_path):
    column = pa.array([b"one", b"bad \xff", "三".encode()], pa.binary())
    unchecked = pa.Array.from_buffers(pa.string(), 3, column.buffers())
    pq.write_table(pa.table({"text": unchecked}), tmp_path / "x.parquet")
    found = list(read_records(tmp_path / "x.parquet", "parquet", CONFIG))
    assert [getattr(r, "reason", getattr(r, "text", "")) for r in found] == ["one", "bad_text", "三"]
    pq.write_table(pa.table({"text": column}), tmp_path / "y.parquet")
    found = list(read_records(tmp_path / "y.parquet", "parquet", CONFIG))
    assert [getattr(r, "reason", getattr(r, "text", "")) for r in found] == ["one", "bad_text", "三"]


def odd_columns() -> pa.Table:
    """Rows with text, and what no Python object can hold in columns that may be there beside it."""
    return pa.table({
        "text": pa.array(["one", None, "三"], pa.large_string()).dictionary_encode(),
        "url": pa.array([1, 2, 3]),
        "title": pa.array(["a", "b", "c"]).dictionary_encode(),
        "date": pa.array([1, 10**15, None], pa.timestamp("s")),
        "author": pa.array([1, 2**31 - 1, None], pa.date32()),
    })  # fmt: skip


def test_columns_of_odd_types_cost_no_text(tmp_path):
    pq.write_table(odd_columns(), tmp_path / "x.parquet")
    found = list(read_records(tmp_path / "x.parquet", "parquet", CONFIG))
    assert [getattr(r, "reason", getattr(r, "text", "")) for r in found] == ["one", "no_text", "三"]
    assert (found[2].title, found[2].date, found[2].url) == ("c", "", "file:///x.parquet#2")


def test_a_parquet_file_without_a_row_group_has_no_rows(tmp_path):
    path = tmp_path / "x.parquet"
    with pq.ParquetWriter(path, pa.schema([("text", pa.string())])):
        pass
    ranges = work_units(path, "parquet", CONFIG)
    assert [row for a, b in ranges for row in read_records(path, "parquet", CONFIG, a, b)] == []


def test_pages_in_rows_and_a_bound_on_rows(tmp_path):
    table = pa.table({"html": ["<p>one</p>", "<p>two</p>", None], "text": ["1", "2", "3"]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    pages = list(read_records(tmp_path / "x.parquet", "parquet", IngestConfig(html_field="html")))
    assert [(r.content, r.charset) for r in pages[:2]] == [(b"<p>one</p>", "utf-8"), (b"<p>two</p>", "utf-8")]
    assert pages[2].text == "3"
    assert texts(tmp_path / "x.parquet", "parquet", IngestConfig(max_rows=2)) == ["1", "2"]
    ranges = work_units(tmp_path / "x.parquet", "parquet", CONFIG)
    split = [r for a, b in ranges for r in read_records(tmp_path / "x.parquet", "parquet", CONFIG, a, b)]
    assert (len(ranges), split) == (2, list(read_records(tmp_path / "x.parquet", "parquet", CONFIG)))


def test_blank_lines_are_no_rows(tmp_path):
    rows = [json.dumps({"text": f"row {n}"}) for n in range(5)]
    (tmp_path / "x.jsonl").write_text("\n\n" + "\n \n".join(rows))
    assert texts(tmp_path / "x.jsonl", "jsonl", IngestConfig(max_rows=2)) == ["row 0", "row 1"]


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300), packing=st.sampled_from([bytes, gzip.compress, zstandard.compress]))
def test_any_bytes_read_as_rows(tmp_path_factory, data, packing):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(packing(data))
    for record in read_records(path, "jsonl", CONFIG):
        assert isinstance(record, Record | Fault)


# --- pages in a folder ------------------------------------------------------------------------------------


def test_a_folder_of_pages(folder):
    (folder / "site/z.html").write_bytes(b"%PDF-1.4")
    (folder / "site/empty.html").write_bytes(b"")
    (folder / "site/packed.html.gz").write_bytes(gzip.compress(b"<p>Hello from a member.</p>"))
    found = list(read_records(folder / "site", "html", CONFIG))
    assert [getattr(r, "reason", r.url) for r in found] == [
        "empty",
        "file:///site/packed.html.gz",
        "file:///site/x.html",
        "file:///site/y.htm",
        "not_html",
    ]
    assert list(read_records(folder / "site", "html", CONFIG, 1, 4)) == found[1:4]


PAGE = "<!-- saved from url=(0014)about:internet -->\n<!DOCTYPE html><p>A page of a forum.</p>"


def test_pages_of_any_name_are_taken_and_what_lies_with_them_is_named(tmp_path):
    names = ["about", "view.php?id=3", "a.aspx", "b.jsp", "c.shtml"]
    for name in names:
        (tmp_path / name).write_text(PAGE)
    others = {
        "logo.png": b"\x89PNG\r\n", "source.php": b"<?php echo 1; ?><html>", "notes": b"Of <html> and more.",
        ".git": b"", "bom": "\ufeff <html>".encode(), "rows.jsonl": b'{"text": "A row."}',
    }  # fmt: skip
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
    rows, site = resolve(str(tmp_path), CONFIG)
    assert (rows.name, site.kind) == ("rows.jsonl", "html")
    found = [
        (r.url.rpartition("/")[2], getattr(r, "reason", "page"))
        for r in read_records(tmp_path, "html", CONFIG)
    ]
    assert {name for name, said in found if said == "page"} == {*names, "bom"}
    assert {name: said for name, said in found if said != "page"} == dict.fromkeys(
        ["logo.png", "source.php", "notes"], "not_html"
    )
    (tmp_path / "logo2.png").write_bytes(b"\x89PNG\r\n")
    assert resolve(str(tmp_path), CONFIG)[1].fingerprint != site.fingerprint, "it would not be named"


def test_json_that_a_site_keeps_for_its_scripts_is_no_source_beside_its_pages(tmp_path):
    (tmp_path / "index.html").write_text(PAGE)
    (tmp_path / "search.json").write_text('[{"title": "one"}]')
    (tmp_path / "manifest.json").write_text('{\n  "name": "a site",\n  "icons": []\n}\n')
    (tmp_path / "rows.json").write_text('{"text": "one"}\n{"text": "two"}\n')
    assert [(ref.name, ref.kind) for ref in resolve(str(tmp_path), CONFIG)] == [
        ("rows.json", "jsonl"),
        (tmp_path.name, "html"),
    ]
    with pytest.raises(SourceError, match="one JSON object over many lines and no JSON Lines"):
        resolve(str(tmp_path / "manifest.json"), CONFIG)


def test_what_is_hidden_in_a_folder_is_no_source(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "one"}')
    (tmp_path / "._rows.jsonl").write_bytes(b"\0\5\x16\7Mac OS X")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints/rows-checkpoint.jsonl").write_text('{"text": "one"}')
    assert [ref.name for ref in resolve(str(tmp_path), CONFIG)] == ["rows.jsonl"]


def test_a_folder_without_sources_among_those_that_a_glob_matches_is_passed_over(tmp_path):
    for name in ("pictures/a.png", "rows/a.jsonl"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text('{"text": "one"}')
    assert [ref.name for ref in resolve(f"{tmp_path}/*", CONFIG)] == ["a.jsonl"]
    for source in (f"{tmp_path}/pic*", str(tmp_path / "pictures")):
        with pytest.raises(SourceError, match=r"(none is|no file) of a kind that can be read"):
            resolve(source, CONFIG)


def test_a_link_to_what_is_not_there_is_named(tmp_path):
    (tmp_path / "a.html").write_text(PAGE)
    (tmp_path / "b.html").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SourceError, match=r"b\.html is a link to what is not there"):
        resolve(f"{tmp_path}/*.html", CONFIG)
    assert [ref.kind for ref in resolve(str(tmp_path), CONFIG)] == ["html"]


def test_the_folder_one_is_in_has_its_own_name(tmp_path, monkeypatch):
    (tmp_path / "site/sub").mkdir(parents=True)
    (tmp_path / "site/a.html").write_text(PAGE)
    monkeypatch.chdir(tmp_path / "site/sub")
    assert [ref.name for ref in resolve("..", CONFIG)] == ["site"]
    monkeypatch.chdir(tmp_path / "site")
    assert [ref.name for ref in resolve(".", CONFIG)] == ["site"]


def test_many_pages_are_fingerprinted_and_listed_in_proportion(tmp_path, monkeypatch):
    written, listed = [], []
    monkeypatch.setattr("tasks.web.fingerprints._write", lambda _, fresh: written.append(len(fresh)))
    files_below = readers.files_below
    monkeypatch.setattr(readers, "files_below", lambda folder: listed.append(1) or files_below(folder))
    monkeypatch.setattr(readers, "FILES_A_UNIT", 2)
    monkeypatch.setattr(readers, "MOST_UNITS", 8)
    for number in range(100):
        (tmp_path / f"{number:03}.html").write_text(PAGE)
    resolve(str(tmp_path), CONFIG, tmp_path / ".cache.sqlite")
    assert written == [100]
    listed.clear()
    ranges = work_units(tmp_path, "html", CONFIG)
    found = [record.url for a, b in ranges for record in read_records(tmp_path, "html", CONFIG, a, b)]
    assert len(found) == len(set(found)) == 100
    assert len(listed) <= 9


def test_a_page_of_any_name_is_a_source_of_its_own(tmp_path):
    (tmp_path / "a.aspx").write_text(PAGE)
    (tmp_path / "b.bin").write_text("x")
    (one,) = resolve(f"{tmp_path}/*", CONFIG)
    assert (one.name, one.kind) == ("a.aspx", "html")
    assert [record.url for record in read_records(Path(one.uri), one.kind, CONFIG)] == ["file:///a.aspx"]


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take only names in UTF-8")
def test_names_that_are_no_utf8_are_spelt_out(tmp_path):
    pages = tmp_path / "网页"
    pages.mkdir()
    for name in ("名".encode("gbk") + b".html", "名 页.htm".encode()):
        Path(os.fsdecode(os.fsencode(pages) + b"/" + name)).write_text("<p>One page.</p>")
    (ref,) = resolve(str(pages), CONFIG, tmp_path / "cache.sqlite")
    assert (ref.kind, len(ref.fingerprint)) == ("html", 64)
    urls = {record.url for record in read_records(pages, "html", CONFIG)}
    assert urls == {"file:///网页/\\xc3\\xfb.html", "file:///网页/名 页.htm"}
    rows = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + "名".encode("gbk") + b".jsonl"))
    rows.write_text('{"text": "one"}')
    with pytest.raises(SourceError, match=r"\\xc3\\xfb.jsonl: its name is no UTF-8"):
        resolve(str(rows), CONFIG)


# --- datasets ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("default")
def test_a_dataset_on_disk_is_streamed(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = [json.dumps({"text": f"row {i}", "url": f"http://h/{i}"}) for i in range(10)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.jsonl").write_text("\n".join(rows))
    config = IngestConfig(max_rows=3)
    (ref,) = resolve(f"hf://{tmp_path}/data?split=train", config)
    found = list(read_source(Path(), ref.uri, ref.kind, config, 0, None, ref.name))
    assert [record.text for record in found] == ["row 0", "row 1", "row 2"]
    (tmp_path / "data/train.jsonl").write_text(rows[0])
    assert resolve(ref.uri, config)[0].fingerprint != ref.fingerprint


@pytest.mark.filterwarnings("default")
def test_several_splits_of_a_dataset_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(f'{{"text": "{split}"}}')
    for split in ("train+test", "all"):
        found = read_dataset(f"hf://{tmp_path}?split={split}", "x", CONFIG)
        assert {record.text for record in found} == {"train", "test"}


def test_a_dataset_of_the_hub_is_read_as_it_is_now_and_read_again_once_it_changed(site, page, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    for commit in ("a" * 40, "b" * 40):
        site.pages["/api/datasets/a/b"] = page(json.dumps({"id": "a/b", "sha": commit}))
        (ref,) = resolve("hf://a/b?split=test", CONFIG)
        assert (ref.name, ref.fingerprint) == ("hf://a/b?split=test", commit)
        assert parse_dataset(ref.uri) == ("a/b", {"split": "test", "revision": commit})
    site.pages["/api/datasets/a/b/revision/v1"] = page('{"id": "a/b", "sha": "c"}')
    assert resolve("hf://a/b?revision=v1", CONFIG)[0].fingerprint == "c"
    asked = len(site.asked)
    assert resolve(f"hf://a/b?revision={'d' * 40}", CONFIG)[0].fingerprint == "d" * 40
    assert len(site.asked) == asked


@pytest.mark.parametrize(
    ("source", "status", "code", "said"),
    [
        ("hf://a/b", 404, "RepoNotFound", "has no dataset 'a/b', .* in HF_TOKEN"),
        ("hf://a/b", 401, "", "has no dataset 'a/b', .* in HF_TOKEN"),
        ("hf://a/b?revision=v1", 404, "RevisionNotFound", "'a/b' has no revision 'v1'"),
        ("hf://a/b", 503, "", "cannot be asked for the version .* revision=COMMIT"),
        ("hf://a/b/c", 200, "", "'a/b/c' is no dataset's name"),
        ("hf:///no/folder", 200, "", "there is no folder /no/folder"),
        ("hf://json?data_files=/no/rows.jsonl", 200, "", "'/no/rows.jsonl' matches no file"),
        ("hf://json?data_files=/no/rows.jsonl&split=test", 200, "", "in the split 'train', not in 'test'"),
    ],
)
def test_a_dataset_that_is_not_there_is_refused_before_any_work(
    site, page, monkeypatch, source, status, code, said
):
    monkeypatch.setattr("tasks.web.hub.WAITS_S", (0.0,))
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    answer = page("no", status, headers={"X-Error-Code": code} if code else {})
    site.pages |= {"/api/datasets/a/b": answer, "/api/datasets/a/b/revision/v1": answer}
    with pytest.raises(SourceError, match=said):
        resolve(source, CONFIG)


TWO = [
    {"config_name": "zh", "data_files": [{"split": "train", "path": "zh/*"}]},
    {"config_name": "en", "data_files": [{"split": "train", "path": "en/*"}, {"split": "dev", "path": "d"}]},
]


@pytest.mark.parametrize(
    ("configs", "options", "said"),
    [
        (TWO, "config=zh", ""),
        (TWO, "config=en&split=dev", ""),
        (TWO, "config=en&split=test", "no split 'test'; it has dev, train"),
        (TWO, "config=en&split=train+dev", ""),
        (TWO, "config=en&split=all", ""),
        (TWO, "config=en&split=train+test", "no split 'test'; it has dev, train"),
        (TWO, "config=fr", "no configuration 'fr'; name one with config=…: en, zh"),
        (TWO, "", "several configurations; name one with config=…: en, zh"),
        (TWO, "data_files=x.jsonl", ""),
        (TWO[:1], "", ""),
        ([{**TWO[0], "default": True}, TWO[1]], "split=train", ""),
        ([{"config_name": "x", "data_files": "*.parquet"}], "split=anything", ""),
        ("no list", "config=x&split=y", ""),
    ],
)
def test_a_configuration_or_split_that_is_not_there_is_refused_before_any_work(
    site, page, monkeypatch, configs, options, said
):
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    answer = {"id": "a/b", "sha": "a" * 40, "cardData": {"configs": configs}}
    site.pages["/api/datasets/a/b"] = page(json.dumps(answer))
    if not said:
        assert resolve(f"hf://a/b?{options}", CONFIG)[0].fingerprint == "a" * 40
        return
    with pytest.raises(SourceError, match=said):
        resolve(f"hf://a/b?{options}", CONFIG)


def test_a_file_that_only_its_loader_has_a_token_for_is_left_to_it(site, page):
    site.pages["/rows.jsonl"] = page("a token is needed", 401)
    (ref,) = resolve(f"hf://json?data_files={site.url}/rows.jsonl", NEAR)
    assert ref.fingerprint == ""


def test_the_files_of_a_loader_are_read_again_once_they_changed(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}')
    source = f"hf://json?data_files={tmp_path}/*.jsonl"
    (first,) = resolve(source, CONFIG)
    assert resolve(source, CONFIG) == [first]
    (tmp_path / "b.jsonl").write_text('{"text": "two"}')
    assert resolve(source, CONFIG)[0].fingerprint != first.fingerprint


@pytest.mark.filterwarnings("default")
def test_a_dataset_on_a_server_is_streamed(site, tmp_path):
    (tmp_path / "served").mkdir()
    lines = "\n".join(json.dumps({"text": f"row {i}"}) for i in range(1000))
    (tmp_path / "served/rows.jsonl").write_text(lines)
    site.serve_folder(tmp_path / "served")
    config = IngestConfig(max_rows=2, crawl=LOCAL)
    source = f"hf://json?data_files={site.url}/rows.jsonl"
    (ref,) = resolve(source, config)
    found = list(read_source(Path(), ref.uri, ref.kind, config, 0, None, ref.name))
    assert [(record.text, record.offset) for record in found] == [("row 0", 0), ("row 1", 1)]
    assert resolve(source, config) == [ref]
    (tmp_path / "served/rows.jsonl").write_text(lines[:-5])
    site.serve_folder(tmp_path / "served")
    assert resolve(source, config)[0].fingerprint != ref.fingerprint, "it was read once and never again"
    for wrong, said in ((CONFIG, "refused_address"), (config, "the server answers 404")):
        with pytest.raises(SourceError, match=said):
            resolve(source.replace("rows", "rows" if wrong is CONFIG else "none"), wrong)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            '{"content": "a"}',
            "no column 'text' but 'content'; name the one that holds the text in ingest.text_",
        ),
        ('{"text": "a"}\n{broken', "files that are named without hf:// lose their broken rows alone"),
    ],
)
def test_a_dataset_that_cannot_be_read_says_what_to_do(tmp_path, rows, said):
    (tmp_path / "rows.jsonl").write_text(rows)
    with pytest.raises(DatasetError, match=said):
        list(read_dataset(f"hf://{tmp_path}", "x", CONFIG))


@pytest.mark.filterwarnings("default")
def test_of_a_dataset_only_what_is_read_is_decoded(tmp_path):
    columns = datasets.Features({"text": datasets.Value("string"), "image": datasets.Image()})
    rows = {"text": ["one"], "image": [{"bytes": b"no picture", "path": None}]}
    (tmp_path / "a").mkdir()
    datasets.Dataset.from_dict(rows, features=columns).to_parquet(str(tmp_path / "a/x.parquet"))
    (tmp_path / "b").mkdir()
    pq.write_table(odd_columns(), tmp_path / "b/x.parquet")
    for name, texts in (("a", ["one"]), ("b", ["one", None, "三"])):
        assert [
            getattr(r, "text", None) for r in read_dataset(f"hf://{tmp_path / name}", "x", CONFIG)
        ] == texts


@pytest.mark.filterwarnings("default")
def test_of_a_datasets_file_on_the_web_the_way_is_told_on_which_refusals_are(site, page):
    site.pages["/rows.jsonl"] = page("busy", 503)
    with pytest.raises(DatasetError, match=r"as a source by itself, 'http://.*/rows.jsonl' tells"):
        list(read_dataset(f"hf://json?data_files={site.url}/rows.jsonl", "x", CONFIG))


@pytest.mark.filterwarnings("default")
def test_of_a_dataset_that_is_private_the_token_is_named(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' doesn't exist or cannot be accessed.")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(DatasetError, match=r"'a/b' .* token that may read it in HF_TOKEN"):
        list(read_dataset("hf://a/b", "x", CONFIG))


# --- remote files -----------------------------------------------------------------------------------------


def test_a_download_goes_on_where_it_stopped(site, tmp_path, page, monkeypatch):
    monkeypatch.setattr("tasks.web.download.PIECE", 1000)
    (tmp_path / "served").mkdir()
    data = os.urandom(5500)
    (tmp_path / "served/f.warc.gz").write_bytes(data)
    site.serve_folder(tmp_path / "served")
    whole = site.pages["/f.warc.gz"]
    answers = iter([True, True, False, False])
    site.pages["/f.warc.gz"] = lambda request: whole(request) if next(answers) else page("down", 500)
    url, target = f"{site.url}/f.warc.gz", tmp_path / "f.warc.gz"
    with pytest.raises(DownloadError, match="500"):
        download(url, target, LOCAL)
    assert not target.exists()
    have = (tmp_path / ".f.warc.gz").stat().st_size
    assert 0 < have < 5500
    site.pages["/f.warc.gz"], seen = whole, len(site.requests)
    version = download(url, target, LOCAL)
    assert target.read_bytes() == data
    assert site.requests[seen][1]["range"] == f"bytes={have}-{have + 999}"
    assert download(url, tmp_path / "again", LOCAL, known=version or "") is None
    assert not (tmp_path / "again").exists()


def test_a_server_that_sends_pieces_of_nothing_is_left(site, tmp_path, page):
    pieces = [page("row", 206, {"Content-Range": "bytes 0-2/*"}), page("", 206), page("gone", 404)]
    answers = iter(pieces)
    site.pages["/f.jsonl"] = lambda _: next(answers)
    with pytest.raises(DownloadError, match="the server sends nothing from byte 3 on"):
        download(f"{site.url}/f.jsonl", tmp_path / "f.jsonl", LOCAL)


def test_the_pieces_of_a_file_do_not_wait_as_pages_do(site, tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.web.download.PIECE", 1000)
    (tmp_path / "served").mkdir()
    (tmp_path / "served/f.jsonl").write_bytes(b"a" * 9500)
    site.serve_folder(tmp_path / "served")
    started = time.monotonic()
    config = IngestConfig(crawl=CrawlConfig(allow_hosts=("127.0.0.1",), host_delay_seconds=1)).for_files()
    download(f"{site.url}/f.jsonl", tmp_path / "f.jsonl", config)
    assert len(site.requests) == 10
    assert time.monotonic() - started < 3, "half a second for each piece, or more"


def test_a_file_that_changes_under_the_download_is_begun_again(site, tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.web.download.PIECE", 1000)
    (tmp_path / "served").mkdir()
    file = tmp_path / "served/f.jsonl"
    file.write_bytes(b"a" * 2500)
    site.serve_folder(tmp_path / "served")
    serve = site.pages["/f.jsonl"]

    def changing(request):
        answer = serve(request)
        file.write_bytes(b"b" * 2600)
        return answer

    site.pages["/f.jsonl"] = changing
    download(f"{site.url}/f.jsonl", tmp_path / "f.jsonl", LOCAL)
    assert (tmp_path / "f.jsonl").read_bytes() == b"b" * 2600


def test_servers_that_name_one_file_each_otherwise_give_it_all_the_same(site, tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.web.download.PIECE", 1000)
    (tmp_path / "served").mkdir()
    (tmp_path / "served/f.jsonl").write_bytes(b"a" * 2500)
    site.serve_folder(tmp_path / "served")
    serve = site.pages["/f.jsonl"]

    def one_of_two(request):
        answer = serve(request)
        answer.headers["ETag"] = f'"{len(site.requests) % 2}"'
        return answer if len(site.requests) < 50 else pytest.fail("asked without end")

    site.pages["/f.jsonl"] = one_of_two
    download(f"{site.url}/f.jsonl", tmp_path / "f.jsonl", LOCAL)
    assert (tmp_path / "f.jsonl").read_bytes() == b"a" * 2500


def test_a_server_without_ranges_gives_the_whole_file(site, tmp_path, page, monkeypatch):
    monkeypatch.setattr("tasks.web.download.PIECE", 1000)
    data = os.urandom(300_000)
    site.pages["/f.parquet"] = page(data, headers={"Content-Type": "application/octet-stream"})
    small = LOCAL.model_copy(update={"max_page_bytes": 1024})
    assert download(f"{site.url}/f.parquet", tmp_path / "f.parquet", small) == "300000"
    assert (tmp_path / "f.parquet").read_bytes() == data


def test_a_file_that_is_known_by_its_date_alone_is_not_sent_again(site, tmp_path, page):
    date = {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}

    def answer(request):
        if request.headers.get("If-Modified-Since") == date["Last-Modified"]:
            return page("", 304, date)
        return page("rows", 200, date)

    site.pages["/x.jsonl"] = answer
    version = download(f"{site.url}/x.jsonl", tmp_path / "x.jsonl", LOCAL)
    assert version == "Wed, 21 Oct 2015 07:28:00 GMT 4"
    assert download(f"{site.url}/x.jsonl", tmp_path / "again", LOCAL, known=version) is None


def test_a_remote_file_whose_name_is_no_ascii(site, tmp_path, page):
    site.pages["/%E6%95%B0%E6%8D%AE.jsonl"] = page("rows")
    (ref,) = resolve(f"{site.url}/数据.jsonl", NEAR)
    assert ref.name == "数据.jsonl"
    download(ref.seeds[0], tmp_path / ref.name, LOCAL)
    assert (tmp_path / ref.name).read_bytes() == b"rows"


def test_a_file_that_is_gone_or_private_is_no_matter_of_retries(site, tmp_path):
    with pytest.raises(GoneError, match="answers 404"):
        download(f"{site.url}/none.warc.gz", tmp_path / "x", LOCAL)
    with pytest.raises(GoneError, match="refused_address"):
        download(f"{site.url}/none.warc.gz", tmp_path / "x", CrawlConfig())


def test_common_crawl_by_id_and_number_of_files(site, tmp_path):
    listing = "".join(f"crawl-data/CC-MAIN-2024-22/wet/{i:05}.warc.wet.gz\n" for i in range(100))
    folder = tmp_path / "crawl-data/CC-MAIN-2024-22"
    folder.mkdir(parents=True)
    (folder / "wet.paths.gz").write_bytes(gzip.compress(listing.encode()))
    site.serve_folder(tmp_path)
    config = NEAR.model_copy(update={"common_crawl_url": f"{site.url}/"})
    refs = resolve("cc://CC-MAIN-2024-22?files=4&kind=wet", config)
    assert [ref.name for ref in refs] == [f"{i:05}.warc.wet.gz" for i in (0, 25, 50, 75)]
    assert refs[0].seeds == (f"{site.url}/crawl-data/CC-MAIN-2024-22/wet/00000.warc.wet.gz",)
    with pytest.raises(SourceError, match=r"listing of crawl CC-MAIN-2000-01 cannot be had.*404"):
        resolve("cc://CC-MAIN-2000-01", config)


def test_objects_in_a_bucket(s3):
    import obstore
    from obstore.store import S3Store

    store = S3Store("modelmill-test", client_options={"allow_http": True})
    for name in ("in/a.jsonl", "in/b.warc.gz", "in/notes.txt", "in/deep/c.jsonl"):
        obstore.put(store, name, b"x")
    for prefix in ("in/", "in"):
        assert [ref.name for ref in resolve(f"{s3}/{prefix}", CONFIG)] == ["a.jsonl", "b.warc.gz", "c.jsonl"]
    assert [ref.name for ref in resolve(f"{s3}/in/deep/c.jsonl", CONFIG)] == ["c.jsonl"]
    with pytest.raises(SourceError, match="matches no object"):
        resolve(f"{s3}/i", CONFIG)
    (one,) = resolve(f"{s3}/in/*.gz", CONFIG)
    assert (one.kind, one.uri, bool(one.fingerprint)) == ("s3", f"{s3}/in/b.warc.gz", True)
    obstore.put(store, "in/b.warc.gz", b"changed")
    assert resolve(f"{s3}/in/b.warc.gz", CONFIG)[0].fingerprint != one.fingerprint
    with pytest.raises(SourceError, match="matches no object"):
        resolve(f"{s3}/out/", CONFIG)
    with pytest.raises(SourceError, match=r"cannot list bucket 'no-such-bucket': NoSuchBucket: [\w ]*$"):
        resolve("s3://no-such-bucket/x.jsonl", CONFIG)


def test_objects_by_keys_of_any_spelling(s3, tmp_path):
    import obstore
    from obstore.store import S3Store

    store = S3Store("modelmill-test", client_options={"allow_http": True})
    keys = ["a#1.jsonl", "a?1.jsonl", "a 1.jsonl", "[x].jsonl", "数据.jsonl"]
    for key in keys:
        obstore.put(store, f"odd/{key}", key.encode())
    for ref in resolve(f"{s3}/odd/", CONFIG):
        copy_object(ref.uri, tmp_path / "x", lambda *_: None)
        assert (tmp_path / "x").read_text() == ref.name
    assert [ref.name for ref in resolve(f"{s3}/odd/a?1.jsonl", CONFIG)] == sorted(keys[:3])
    assert [ref.name for ref in resolve(f"{s3}/odd/[x].jsonl", CONFIG)] == ["[x].jsonl"]
    with pytest.raises(BucketError, match="cannot fetch"):
        copy_object(f"{s3}/odd/gone.jsonl", tmp_path / "y", lambda *_: None)


def test_freshness():
    now = datetime(2025, 1, 2, tzinfo=UTC)
    day = timedelta(days=1)
    assert is_fresh(now - timedelta(hours=23), day, now)
    assert not is_fresh(now - day, day, now)
    assert not is_fresh(now + timedelta(hours=1), day, now)
    assert not is_fresh(now, timedelta(0), now)
