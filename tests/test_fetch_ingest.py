"""The stages fetch and ingest on a real store: what is kept, what is cached, what a kill costs."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from fastwarc.warc import ArchiveIterator

from flows.funnel import funnel
from flows.tracing import fates
from storage.artifacts import Artifact
from storage.documents import read_rows
from storage.schemas import DOCUMENTS, REJECTS
from storage.store import open_store
from tasks.fetch import asked_at, fetch, open_sources
from tasks.fetched import latest_fetch
from tasks.ingest import TooManyFailuresError, ingest
from tasks.journal import Entry
from tasks.planning import Pending, Plan, planning
from tasks.progress import Event, listening
from tasks.text.extract_config import ExtractConfig
from tasks.text.pages import clean_text
from tasks.web.config import CrawlConfig, IngestConfig, ParallelConfig
from tasks.web.sources import resolve, resolve_all
from tasks.web.warc_write import WarcWriter

NOW = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
LOCAL = CrawlConfig(
    allow_hosts=("127.0.0.1",), host_delay_seconds=0, backoff_seconds=0.01, retries=0, page_seconds=5
)
ONE = ParallelConfig(workers=1)
CONFIG = IngestConfig(crawl=LOCAL, parallel=ONE)


def article(subject: str) -> str:
    sentence = (
        f"This paragraph tells at some length what there is to know about {subject}, and why it matters. "
    )
    body = f"<p>{sentence * 3}</p>" * 3
    return f"<html><head><title>{subject}</title></head><body><article>{body}</article></body></html>"


def write_warc(
    path: Path, pages: list[str | bytes], head: bytes = b"Content-Type: text/html; charset=utf-8"
) -> Path:
    with WarcWriter(path, software="test", date=NOW) as writer:
        for number, page in enumerate(pages):
            body = page.encode() if isinstance(page, str) else page
            writer.response(
                f"http://site.example/{number}", NOW, b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n", body
            )
    return path


def rows(artifact: Artifact, name: str = "documents") -> list[dict]:
    return list(read_rows(open_store().open(artifact) / f"{name}.parquet"))


def ingested(source: str, config: IngestConfig = CONFIG) -> Artifact:
    (ref,) = resolve(source, config)
    return ingest.run_now(ref, config)


def test_pages_become_documents_and_the_rest_rejects(home, tmp_path):
    pages = [article("a river"), b"%PDF-1.4", article("一座城市的历史，"), "<html><body></body></html>", "  "]
    artifact = ingested(str(write_warc(tmp_path / "x.warc.gz", pages)))
    folder = open_store().open(artifact)
    assert pq.read_schema(folder / "documents.parquet").equals(DOCUMENTS)
    assert pq.read_schema(folder / "rejects.parquet").equals(REJECTS)
    documents, rejects = rows(artifact), rows(artifact, "rejects")
    assert [row["title"] for row in documents] == ["a river", "一座城市的历史，"]
    first = documents[0]
    assert (first["url"], first["domain"]) == ("http://site.example/0", "site.example")
    assert (first["fetched_at"], first["source_file"], first["charset"]) == (NOW, "x.warc.gz", "utf-8")
    assert first["source_offset"] > 0
    assert [row["reason"] for row in rejects] == ["not_html", "no_text", "empty"]
    assert artifact.stats["reasons"] == {"empty": 1, "no_text": 1, "not_html": 1}
    assert (artifact.part("documents.parquet").rows, artifact.part("rejects.parquet").rows) == (2, 3)


def test_neither_workers_nor_units_change_a_byte(home, tmp_path, monkeypatch):
    chance = random.Random(3)
    pages = [article(f"subject {i} {chance.randbytes(900).hex()}") for i in range(60)]
    source = str(write_warc(tmp_path / "x.warc.gz", pages))
    (ref,) = resolve(source, CONFIG)
    digests = set()
    for number, (workers, unit) in enumerate([(1, 2**30), (2, 65536)]):
        monkeypatch.setenv("MODELMILL_HOME", str(tmp_path / f"home{number}"))
        config = IngestConfig(parallel=ParallelConfig(workers=workers), unit_bytes=unit)
        digests.add(ingest.run_now(ref, config).digest)
    assert len(digests) == 1


def test_only_what_decides_the_result_is_in_the_key(home, tmp_path):
    (ref,) = resolve(str(write_warc(tmp_path / "x.warc.gz", [article("x")])), CONFIG)
    key = ingest.recipe_for(ref, CONFIG).key
    moved = ref.model_copy(update={"uri": "/elsewhere/x.warc.gz"})
    same = [
        (moved, CONFIG),
        (ref, CONFIG.model_copy(update={"parallel": ParallelConfig(workers=7), "unit_bytes": 65536})),
        (ref, CONFIG.model_copy(update={"crawl": CrawlConfig(max_pages=3)})),
    ]
    assert {ingest.recipe_for(*arguments).key for arguments in same} == {key}
    assert ingest.recipe_for(ref, CONFIG.model_copy(update={"max_record_bytes": 5000})).key != key
    assert ingest.recipe_for(ref, CONFIG, ExtractConfig(max_bytes=5000)).key != key
    assert any(name.startswith("tasks.text.extract") for name in ingest.recipe_for(ref, CONFIG).code)
    assert "tasks.web.crawl" not in ingest.recipe_for(ref, CONFIG).code


MALFORMED = {
    "nested": b"<html><body>" + b"<div>" * 200_000 + b"deep",
    "unclosed": b"<html><body>" + b"<b <p <i " * 50_000,
    "nulls": b"<html><body>\0\0<p>text</p>" * 100,
    "one line of 10 MB": b"<html><body><p>" + b"word " * 2_097_152,
    "pdf": b"%PDF-1.7\n" + bytes(range(256)) * 20,
    "utf-16": "<html><body><p>text in sixteen bits</p></body></html>".encode("utf-16"),
    "bytes": bytes(range(256)) * 50,
    "entities": b"<html><body><p>" + b"&#xD800;&#0;&#x110000;&bogus;" * 5000,
    "comment": b"<html><body><!--" + b"-" * 500_000,
    "tables": b"<html><body>" + b"<table><tr><td>" * 20_000,
    "attributes": b"<html><body><p " + b"a=b " * 200_000 + b">text</p>",
}


def test_every_malformed_page_costs_itself_alone(home, tmp_path):
    head = b"Content-Type: text/html; charset=no-such-charset"
    path = write_warc(tmp_path / "x.warc.gz", [article("first"), *MALFORMED.values(), article("last")], head)
    artifact = ingested(str(path), CONFIG.model_copy(update={"max_failed_share": 1.0}))
    documents, rejects = rows(artifact), rows(artifact, "rejects")
    assert [documents[0]["title"], documents[-1]["title"]] == ["first", "last"]
    assert len(documents) + len(rejects) == len(MALFORMED) + 2
    for row in documents:
        assert "\0" not in row["text"]
        assert row["text"].encode("utf-8")
    assert all(row["reason"].isidentifier() and row["detail"] for row in rejects)


def test_a_truncated_warc_keeps_what_was_before_the_cut(home, tmp_path):
    path = write_warc(tmp_path / "x.warc.gz", [article(f"subject {i}") for i in range(6)])
    path.write_bytes(path.read_bytes()[:-60])
    artifact = ingested(str(path))
    assert len(rows(artifact)) == 5
    (reject,) = rows(artifact, "rejects")
    assert (reject["reason"], reject["stage"]) == ("truncated", "ingest")
    assert "cut short" in reject["detail"]


def test_pages_that_were_cut_short_are_kept_and_counted_by_themselves(home, tmp_path):
    pages = [article(f"subject {i}") for i in range(4)]
    head = b"Content-Type: text/html\r\nTransfer-Encoding: chunked"
    sent = [b"%x\r\n%s\r\n0\r\n\r\n" % (len(page), page.encode()) for page in pages]
    sent[1], sent[2] = sent[1][:-200], sent[2][:-300]
    artifact = ingested(str(write_warc(tmp_path / "x.warc.gz", sent, head)))
    assert (artifact.stats["documents"], artifact.stats["reasons"]) == (4, {})
    assert artifact.stats["remarks"] == {"cut_short": 2}
    assert [bool(row["signals"]) for row in rows(artifact)] == [False, True, True, False]


def test_a_source_that_is_mostly_broken_is_refused(home, tmp_path):
    path = write_warc(tmp_path / "x.warc.gz", [article(f"subject {i}") for i in range(40)])
    members = path.read_bytes().split(b"\x1f\x8b\x08")[1:]
    broken = [m[:20] + b"\xff" * 20 + m[40:] if i % 2 else m for i, m in enumerate(members)]
    path.write_bytes(b"".join(b"\x1f\x8b\x08" + member for member in broken))
    with pytest.raises(TooManyFailuresError, match=r"x.warc.gz: 20 of 40 records .*bad_compression 20"):
        ingested(str(path))
    assert len(rows(ingested(str(path), CONFIG.model_copy(update={"max_failed_share": 0.6})))) == 20


def test_a_source_whose_pages_are_mostly_without_text_is_refused(home, tmp_path):
    shell = "<html><head><title>An application</title></head><body><div id='root'></div></body></html>"
    path = write_warc(tmp_path / "x.warc.gz", [article("a river"), shell, shell] * 10)
    with pytest.raises(
        TooManyFailuresError, match=r"x.warc.gz: 20 of 30 pages hold no text; .*max_empty_share"
    ):
        ingested(str(path))
    assert len(rows(ingested(str(path), CONFIG.model_copy(update={"max_empty_share": 0.7})))) == 10


def test_of_rows_without_text_it_is_said_which_setting_names_their_column(home, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"content": "A river."}\n' * 30)
    with pytest.raises(
        TooManyFailuresError, match=r"30 of 30 rows hold no text; .* columns: content .* ingest\.text_field"
    ):
        ingested(str(tmp_path / "x.jsonl"))


def test_rows_with_text_need_no_extraction(home, tmp_path):
    lines = [{"text": f"第{i}行\r\nsecond line\u0000 \ud800", "url": f"http://h/{i}"} for i in range(3)]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, [*lines, {"no": 1}])))
    artifact = ingested(str(tmp_path / "x.jsonl"))
    assert [row["text"] for row in rows(artifact)] == [f"第{i}行\nsecond line ?" for i in range(3)]
    assert [row["reason"] for row in rows(artifact, "rejects")] == ["no_text"]


def test_clean_text():
    assert clean_text("\ufeffe\u0301\r\nx\x00\x07\ty \r") == "é\nx\ty"


def test_a_worker_killed_by_hand_costs_nothing(home, tmp_path):
    source = str(write_warc(tmp_path / "x.warc.gz", [article(f"subject {i}") for i in range(60)]))
    killed: list[int] = []

    def kill(event: Event) -> None:
        if event.state == "progress" and not killed:
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):  # one that has ended already has no command line
                    if "pool_fork_server" in " ".join(child.cmdline()):
                        child.kill()
                        killed.append(child.pid)

    (ref,) = resolve(source, CONFIG)
    with listening(kill):
        artifact = ingest.run_now(ref, CONFIG.model_copy(update={"unit_bytes": 1000}))
    assert killed
    os.environ["MODELMILL_HOME"] = str(tmp_path / "undisturbed")
    assert artifact.digest == ingest.run_now(ref, CONFIG).digest


def test_a_kill_costs_the_unit_at_work(home, tmp_path):
    chance = random.Random(5)
    pages = [article(f"subject {i} {chance.randbytes(1500).hex()}") for i in range(200)]
    path = write_warc(tmp_path / "x.warc.gz", pages)
    config = CONFIG.model_copy(update={"unit_bytes": 65536})
    (ref,) = resolve(str(path), config)
    program = f"""
from tasks.ingest import ingest
from tasks.web.config import IngestConfig
from tasks.web.sources import SourceRef
ingest.run_now(SourceRef.model_validate_json({ref.model_dump_json()!r}),
               IngestConfig.model_validate_json({config.model_dump_json()!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    finished: list[Path] = []
    while len(finished) < 2 and process.poll() is None:
        finished = sorted(home.glob("store/ingest/*.partial/.units/*.done"))
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = sorted(home.glob("store/ingest/*.partial/.units/*.done"))
    assert len(finished) >= 2
    stamps = {done.name: done.stat().st_mtime_ns for done in finished}
    seen: dict[str, int] = {}

    def watch(_done: float, _total: float | None = None, _unit: str = "") -> None:
        for done in home.glob("store/ingest/*.partial/.units/*.done"):
            seen[done.name] = done.stat().st_mtime_ns

    artifact = _ingest_watched(ref, config, watch)
    assert {name: seen[name] for name in stamps} == stamps, "finished units are not done again"
    os.environ["MODELMILL_HOME"] = str(tmp_path / "undisturbed")
    assert artifact.digest == ingest.run_now(ref, config).digest
    assert artifact.stats["documents"] == 200


def _ingest_watched(ref, config, watch) -> Artifact:
    with listening(lambda event: watch(event.done)):
        return ingest.run_now(ref, config)


# --- fetch ------------------------------------------------------------------------------------------------


@pytest.fixture
def small_site(site):
    site.pages["/"] = '<a href="/one">1</a> <a href="/two">2</a>' + article("the front")
    site.pages["/one"], site.pages["/two"] = article("the first page"), article("the second page")
    return site


def crawled(site, asked: str) -> Artifact:
    (ref,) = resolve(f"crawl:{site.url}/", CONFIG)
    return fetch.run_now(ref, CONFIG.crawl, asked)


def test_an_unchanged_site_changes_nothing_downstream(home, small_site):
    first = crawled(small_site, "2025-06-01")
    documents = ingest.run_now(first, CONFIG)
    second = crawled(small_site, "2025-06-02")
    assert (first.key != second.key, first.digest == second.digest) == (True, True)
    assert second.stats["unchanged"] == 3
    assert ingest.recipe_for(first, CONFIG) == ingest.recipe_for(second, CONFIG)
    small_site.pages["/two"] = article("the second page, rewritten")
    third = crawled(small_site, "2025-06-03")
    assert (third.stats["unchanged"], third.digest == first.digest) == (2, False)
    again = ingest.run_now(third, CONFIG)
    before, after = ({row["url"]: row for row in rows(artifact)} for artifact in (documents, again))
    changed = [url for url in before if before[url] != after[url]]
    assert changed == [f"{small_site.url}/two"]
    assert latest_fetch(open_store(), resolve(f"crawl:{small_site.url}/", CONFIG)[0]) == third


def test_a_page_that_cannot_be_had_now_changes_nothing_downstream(home, small_site, page):
    first = crawled(small_site, "2025-06-01")
    small_site.pages["/two"] = page("busy", 503)
    second = crawled(small_site, "2025-06-02")
    assert (second.digest, second.stats["kept"], second.stats["failed"]) == (first.digest, 1, 1)
    assert (second.stats["records"], second.stats["remarks"]) == (3, {"kept_from_earlier": 1})


def test_what_a_crawl_did_not_get_is_counted_and_known_by_its_address(home, site, page):
    site.pages |= {"/robots.txt": "User-agent: *\nDisallow: /private/\n", "/big": page("x" * 9000)}
    site.pages["/"] = "".join(f'<a href="{path}">x</a>' for path in ("/a", "/big", "/private/b", "/c", "/d"))
    site.pages |= dict.fromkeys(["/a", "/c", "/d"], article("a page"))
    (ref,) = resolve(f"crawl:{site.url}/", CONFIG)
    config = LOCAL.model_copy(update={"max_page_bytes": 5000, "max_pages": 5})
    artifact = fetch.run_now(ref, config, "2025-06-01")
    assert artifact.stats["reasons"] == {"max_pages": 1, "robots": 1, "too_large": 1}
    assert (artifact.stats["records"], artifact.stats["documents"]) == (6, 3)
    (step,) = funnel([Entry("fetch", "", "completed", 0.0, artifact)])
    assert (step.documents_in, step.documents, step.reasons["robots"]) == (6, 3, 1)
    for path, reason in (("/big", "too_large"), ("/private/b", "robots")):
        (fate,) = fates(open_store(), [artifact], "url", site.url + path)
        assert (fate.stage, fate.outcome, fate.reason) == ("fetch", "dropped", reason)


def test_a_crawl_that_was_cut_off_goes_on(home, site):
    site.pages["/"] = "".join(f'<a href="/{i}">x</a>' for i in range(40))
    for i in range(40):
        site.pages[f"/{i}"] = article(f"page {i}")
    (ref,) = resolve(f"crawl:{site.url}/", CONFIG)
    gentle = LOCAL.model_copy(update={"concurrency": 1, "host_concurrency": 1})

    def cut(event: Event) -> None:
        if event.state == "progress" and len(site.asked) > 20:
            raise InterruptedError("cut off")

    for _ in range(2):
        with listening(cut), pytest.raises(InterruptedError):
            fetch.run_now(ref, gentle, "now")
    before = len(site.asked)
    artifact = fetch.run_now(ref, gentle, "now")
    assert before < 35
    assert len(site.asked) - before < 25
    assert artifact.stats["documents"] == 41
    names = sorted(path.name for path in open_store().open(artifact).iterdir())
    assert names[:2] == ["crawl-00000.warc.gz", "index.jsonl"]


def test_a_crawls_warc_is_a_source_of_its_own(home, small_site, tmp_path):
    artifact = crawled(small_site, "now")
    (warc,) = open_store().open(artifact).glob("*.warc.gz")
    direct = {row["url"]: row["text"] for row in rows(ingested(str(warc)))}
    assert direct == {row["url"]: row["text"] for row in rows(ingest.run_now(artifact, CONFIG))}
    assert len(direct) == 3
    assert sum(1 for _ in ArchiveIterator(str(warc))) == 4


def test_a_crawl_without_a_page_says_why(home, site, page):
    with pytest.raises(ValueError, match=r"got no page: .*refused_address.*add '127.0.0.1' to allow_hosts"):
        fetch.run_now(resolve(f"crawl:{site.url}/", CONFIG)[0], CrawlConfig(retries=0), "now")
    site.pages["/robots.txt"] = page("User-agent: *\nDisallow: /")
    with pytest.raises(ValueError, match=r"got no page: robots.txt forbids it"):
        crawled(site, "now")
    with pytest.raises(ConnectionError, match=r"got no page: .*network"):
        fetch.run_now(resolve("crawl:http://127.0.0.1:9/", CONFIG)[0], LOCAL, "now")


def test_a_crawl_that_got_refusals_alone_is_none_and_is_asked_for_again(home, small_site, page):
    good = small_site.pages["/"]
    small_site.pages["/"] = page("no", 403)
    with pytest.raises(ValueError, match="got no page: the server answers 403; see in a browser"):
        crawled(small_site, "now")
    small_site.pages["/"] = page("busy", 503)
    with pytest.raises(ConnectionError, match="got no page: the server answers 503; try later"):
        crawled(small_site, "now")
    small_site.pages["/"] = good
    assert crawled(small_site, "now").stats["documents"] > 1
    small_site.pages |= dict.fromkeys(small_site.pages, page("busy", 503))
    with pytest.raises(ConnectionError, match="got no page: the server answers 503; try later"):
        crawled(small_site, "later")


def test_when_a_source_is_asked_again(home):
    store = open_store()
    (ref,) = resolve("crawl:http://site.example/", CONFIG)
    config = CrawlConfig(max_age_hours=24)
    assert asked_at(store, ref, config, NOW - timedelta(days=9), keep=False) == "2025-05-23T12:00:00+00:00"
    first = asked_at(store, ref, config, NOW, keep=True)
    assert first == "2025-06-01T12:00:00+00:00", "a plan left nothing behind"
    assert asked_at(store, ref, config, NOW + timedelta(hours=23), keep=True) == first
    later = NOW + timedelta(hours=25)
    assert asked_at(store, ref, config, later, keep=False) == later.isoformat()
    assert asked_at(store, ref, CrawlConfig(max_age_hours=48), later, keep=True) == first
    assert asked_at(store, ref, CrawlConfig(max_age_hours=0), NOW, keep=False) == NOW.isoformat()


@pytest.mark.parametrize("damage", ["", "{", "{}", '{"at": 5}', '{"at": "noon"}'])
def test_a_damaged_note_has_its_source_asked_again(home, damage):
    store = open_store()
    (ref,) = resolve("crawl:http://site.example/", CONFIG)
    asked_at(store, ref, LOCAL, NOW, keep=True)
    (name,) = store.list_notes("asked")
    (note,) = [path for path in home.rglob("*.json") if path.stem in name]
    note.write_text(damage)
    later = NOW + timedelta(hours=1)
    assert asked_at(store, ref, LOCAL, later, keep=True) == later.isoformat()
    assert asked_at(store, ref, LOCAL, later + timedelta(hours=1), keep=True) == later.isoformat()


def test_a_remote_file_is_brought_once(home, site, tmp_path):
    (tmp_path / "served").mkdir()
    write_warc(tmp_path / "served/x.warc.gz", [article("a remote page")])
    site.serve_folder(tmp_path / "served")
    (ref,) = resolve(f"{site.url}/x.warc.gz", CONFIG)
    first = fetch.run_now(ref, CONFIG.for_files(), "2025-06-01")
    bytes_sent = len(site.requests)
    second = fetch.run_now(ref, CONFIG.for_files(), "2025-06-02")
    assert (first.digest, len(site.requests)) == (second.digest, bytes_sent + 1)
    assert site.requests[-1][1]["if-none-match"]
    assert [row["title"] for row in rows(ingest.run_now(second, CONFIG))] == ["a remote page"]


def test_remote_files_of_one_name_and_of_a_name_that_the_store_uses(home, site, tmp_path):
    places = ["a/rows.jsonl", "b/rows.jsonl", "a/version.json", "b/manifest.json"]
    for number, place in enumerate(places):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(json.dumps({"text": f"Row {number}."}))
    site.serve_folder(tmp_path)
    refs = resolve_all([f"{site.url}/{place}" for place in places], CONFIG)
    assert [ref.name for ref in refs] == ["rows.jsonl", "rows (2).jsonl", "version.json", "manifest.json"]
    found = [ingest.run_now(fetch.run_now(ref, CONFIG.for_files(), ""), CONFIG) for ref in refs]
    texts = [[row["text"] for row in rows(artifact)] for artifact in found]
    assert texts == [["Row 0."], ["Row 1."], ["Row 2."], ["Row 3."]]


def test_common_crawl_served_in_its_own_layout(home, site, real_data, tmp_path):
    served = tmp_path / "crawl-data/CC-MAIN-2024-22"
    (served / "warc").mkdir(parents=True)
    name = "CC-MAIN-20240517233122-20240518023122-00000.warc.gz"
    (served / "warc" / name).write_bytes(real_data("commoncrawl/whirlwind.warc.gz").read_bytes())
    listing = f"crawl-data/CC-MAIN-2024-22/warc/{name}\n".encode()
    (served / "warc.paths.gz").write_bytes(gzip.compress(listing))
    site.serve_folder(tmp_path)
    config = CONFIG.model_copy(update={"common_crawl_url": f"{site.url}/"})
    (ref,) = resolve("cc://CC-MAIN-2024-22?files=1", config)
    artifact = ingest.run_now(fetch.run_now(ref, config.for_files(), ""), config)
    (row,) = rows(artifact)
    assert (row["url"], row["source_file"]) == ("https://an.wikipedia.org/wiki/Escopete", name)


def test_an_object_of_a_bucket(home, s3, tmp_path):
    import obstore
    from obstore.store import S3Store

    data = write_warc(tmp_path / "x.warc.gz", [article("a page in a bucket")]).read_bytes()
    obstore.put(S3Store("modelmill-test", client_options={"allow_http": True}), "fetched/x.warc.gz", data)
    (ref,) = resolve(f"{s3}/fetched/*.warc.gz", CONFIG)
    artifact = fetch.run_now(ref, CONFIG.for_files(), "")
    assert (open_store().open(artifact) / "file/x.warc.gz").read_bytes() == data
    assert [row["title"] for row in rows(ingest.run_now(artifact, CONFIG))] == ["a page in a bucket"]


def test_the_plan_of_sources_looks_nothing_up_and_writes_nothing(home, small_site, tmp_path):
    path = str(write_warc(tmp_path / "x.warc.gz", [article("x")]))
    with planning(Plan(open_store(), {})):
        parts = open_sources([path, f"crawl:{small_site.url}/"], CONFIG, None, keep=False)
    assert [name for name, _ in parts] == ["x.warc.gz", small_site.url.partition("//")[2]]
    assert isinstance(parts[1][1], Pending)
    assert small_site.requests == []
    assert open_store().list_notes("asked") == []


def test_one_source_that_cannot_be_fetched_fails_alone(home, small_site, prefect_api):
    from prefect import flow

    failures: list = []

    @flow
    def sources() -> list[str]:
        wanted = [f"crawl:{small_site.url}/", f"{small_site.url}/gone.warc.gz"]
        return [name for name, _ in open_sources(wanted, CONFIG, None, failures=failures)]

    assert sources() == [small_site.url.partition("//")[2]]
    assert [failure.part for failure in failures] == ["gone.warc.gz"]
    assert "answers 404" in str(failures[0].error)
