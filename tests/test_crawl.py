"""Crawling a real site on loopback: order, politeness, bounds, refusals, and crawling it again."""

import gzip
import random
import re
import socket
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import brotli
import pytest
from pydantic import ValidationError

from tasks.web.config import CrawlConfig, IngestConfig
from tasks.web.crawl import CrawlReport, crawl
from tasks.web.crawl_index import read_index
from tasks.web.fetch import retry_after
from tasks.web.guard import is_public
from tasks.web.pydoc_site import HOST, PydocError, pydoc_crawl, pydoc_servers
from tasks.web.readers import read_records
from tasks.web.records import ReadLimits
from tasks.web.robots import read_rules
from tasks.web.sitemaps import is_listing, listed_addresses
from tasks.web.urls import Scope, canonical_url, find_links
from tasks.web.warc import WarcRecord, read_warc
from tasks.web.warc_write import WarcWriter


def settings(**changes) -> CrawlConfig:
    """A config for loopback: allowed by name, no waiting."""
    base = {
        "allow_hosts": ("127.0.0.1",),
        "host_delay_seconds": 0.0,
        "backoff_seconds": 0.01,
        "host_concurrency": 4,
        "page_seconds": 5.0,
        "retries": 1,
    }
    return CrawlConfig(**{**base, **changes})


def links(*paths: str) -> str:
    return (
        "<html><body>" + "".join(f'<p>to <a href="{path}">there</a></p>' for path in paths) + "</body></html>"
    )


def run(site, folder: Path, *paths: str, previous: Path | None = None, **changes) -> CrawlReport:
    folder.mkdir(parents=True, exist_ok=True)
    seeds = [site.url + path for path in paths or ("/",)]
    return crawl(seeds, settings(**changes), folder, previous=previous)


def stored(site, folder: Path) -> list[str]:
    """Paths of a crawl's pages in the order of its index."""
    return [entry.url.removeprefix(site.url) for entry in read_index(folder)]


@pytest.fixture
def tree(site):
    """A site of three levels, its second level answering in a random order."""
    chance = random.Random(1)
    site.pages["/"] = links("/a", "/b", "/c", "/missing")
    for name in "abc":
        site.pages[f"/{name}"] = links(*(f"/{name}{i}" for i in range(5)), "/")
        for i in range(5):
            wait = chance.random() / 50
            site.pages[f"/{name}{i}"] = lambda _request, wait=wait: time.sleep(wait) or site_page()
    return site


def site_page() -> str:
    return "<html><body><p>Some text of a page.</p></body></html>"


def test_pages_come_in_the_order_of_discovery_whatever_answers_first(tree, tmp_path):
    expected = ["/", "/a", "/b", "/c", "/missing", *(f"/{name}{i}" for name in "abc" for i in range(5))]
    one = run(tree, tmp_path / "1", concurrency=1, host_concurrency=1)
    many = run(tree, tmp_path / "2", concurrency=32, host_concurrency=32)
    assert stored(tree, tmp_path / "1") == stored(tree, tmp_path / "2") == expected
    assert one.identity == many.identity
    assert one.statuses == {"200": 19, "404": 1}
    assert one.ended == "complete"


def test_a_crawl_is_a_readable_source(tree, tmp_path):
    run(tree, tmp_path)
    found = list(read_records(tmp_path, "crawl", IngestConfig()))
    assert [type(record).__name__ for record in found].count("Record") == 19
    responses = [r for r in read_warc(tmp_path / "crawl-00000.warc.gz", ReadLimits()) if r.type == "response"]
    assert [r.url.removeprefix(tree.url) for r in responses] == stored(tree, tmp_path)


def test_scope_is_the_seeds_folder(site, tmp_path):
    site.pages["/docs/index.html"] = links("/docs/in", "sub/also", "/out", "http://other.example/")
    report = run(site, tmp_path, "/docs/index.html", sitemaps=False)
    assert site.asked == ["/docs/index.html", "/docs/in", "/docs/sub/also"]
    assert report.skipped["out_of_scope"] == 2


def test_included_and_excluded_addresses(site, tmp_path):
    site.pages["/"] = links("/a1", "/a2", "/b1")
    run(site, tmp_path, include=(r"/a\d$",), exclude=("2$",))
    assert site.asked == ["/", "/a1"]
    with pytest.raises(ValidationError, match="no regular expression"):
        CrawlConfig(exclude=("(",))


def test_addresses_are_included_and_excluded_as_people_write_them():
    scope = Scope("host", ("http://h/",), (re.compile("/新闻/"),), (re.compile("旧"),))
    found = [f"http://h/{path}" for path in ("新闻/1", "新闻/旧", "体育/1")]
    assert [scope.allows(canonical_url(url)) for url in found] == [True, False, False]
    assert Scope("host", ("http://h/",), (re.compile("%E6%96%B0"),)).allows(canonical_url(found[0]))


def test_robots_txt_is_obeyed(site, tmp_path, page):
    site.pages["/robots.txt"] = page("User-agent: *\nDisallow: /private\nAllow: /", 200)
    site.pages["/"] = links("/private/x", "/public")
    report = run(site, tmp_path)
    assert site.asked == ["/", "/public"]
    assert report.skipped["robots"] == 1


@pytest.mark.parametrize(("status", "pages"), [(404, 1), (403, 1), (500, 0), (429, 0)])
def test_robots_txt_that_is_absent_allows_and_one_that_fails_forbids(site, tmp_path, page, status, pages):
    site.pages["/robots.txt"] = page("", status)
    site.pages["/"] = "<p>text</p>"
    assert run(site, tmp_path).pages == pages


def test_a_robots_txt_of_50_mb_is_read_in_its_first_500_kib(site, tmp_path, page):
    lines = b"User-agent: *\nDisallow: /no\n"
    site.pages["/robots.txt"] = page(lines + b"# padding line\n" * (50 * 2**20 // 15))
    site.pages["/"] = links("/no", "/yes")
    started = time.monotonic()
    run(site, tmp_path)
    assert site.asked == ["/", "/yes"]
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_a_robots_txt_that_is_sent_compressed_is_obeyed(site, tmp_path, page, encoding):
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress}[encoding]
    rules = pack(b"User-agent: *\nDisallow: /no\nSitemap: /map.xml")
    site.pages["/robots.txt"] = page(
        rules, headers={"Content-Encoding": encoding, "Content-Type": "text/plain"}
    )
    site.pages["/"] = links("/no", "/yes")
    run(site, tmp_path)
    assert site.asked == ["/", "/yes", "/map.xml"]
    site.pages["/robots.txt"] = page(b"\x1f\x8bbroken", headers={"Content-Encoding": "gzip"})
    (tmp_path / "broken").mkdir()
    assert [failure.reason for failure in run(site, tmp_path / "broken").failures] == ["bad_encoding"]


def test_crawl_delay_and_sitemaps_of_robots_txt():
    rules = read_rules(
        b"User-agent: *\nCrawl-delay: 900\nSitemap: /map.xml\n\xff\xfe", "http://h", "modelmill"
    )
    assert (rules.crawl_delay, rules.sitemaps) == (60.0, ("http://h/map.xml",))


def test_what_can_succeed_next_time_is_tried_again(site, tmp_path, page):
    left = {"/": 2, "/slow": 1}

    def flaky(request):
        left[request.path] -= 1
        return page("busy", 503, {"Retry-After": "0"}) if left[request.path] >= 0 else page(links("/slow"))

    site.pages["/"] = site.pages["/slow"] = flaky
    report = run(site, tmp_path, retries=3)
    assert site.asked == ["/", "/", "/", "/slow", "/slow"]
    assert report.statuses == {"200": 2}


def test_a_status_that_stays_is_stored_as_it_is(site, tmp_path, page):
    site.pages["/"] = page("down", 503, {"Retry-After": "0"})
    report = run(site, tmp_path, retries=2)
    assert (report.statuses, len(site.asked)) == ({"503": 1}, 3)


def test_retry_after():
    assert [retry_after(value) for value in ("7", " 0 ", "soon", "-1", "")] == [7.0, 0.0, None, None, None]
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


def test_requests_at_once_and_their_pace_keep_to_the_config(site, tmp_path):
    site.pages["/"] = links(*(f"/{i}" for i in range(6)))
    for i in range(6):
        site.pages[f"/{i}"] = lambda _: time.sleep(0.05) or site_page()
    run(site, tmp_path / "a", host_concurrency=2, concurrency=16)
    assert site.most_at_once == 2
    started = time.monotonic()
    run(site, tmp_path / "b", host_delay_seconds=0.1, robots=False, sitemaps=False)
    assert time.monotonic() - started >= 0.6


def test_crawls_of_one_host_side_by_side_are_one_visitor(site, tmp_path):
    site.pages = {f"/{part}": links(*(f"/{part}/{i}" for i in range(6))) for part in "ab"}
    site.pages |= {
        f"/{part}/{i}": lambda _: time.sleep(0.05) or site_page() for part in "ab" for i in range(6)
    }
    allowed = {"host_concurrency": 2, "host_delay_seconds": 0.05, "robots": False, "sitemaps": False}
    started = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        each = [threads.submit(run, site, tmp_path / part, f"/{part}", **allowed) for part in "ab"]
        assert [crawled.result().pages for crawled in each] == [7, 7]
    assert site.most_at_once <= 2
    assert time.monotonic() - started >= 13 * 0.05


def test_a_host_that_finds_us_too_fast_is_asked_more_slowly_and_loses_no_page(site, tmp_path, page):
    last = 0.0

    def strict(_):
        nonlocal last
        now = time.monotonic()
        if now - last < 0.2:
            return page("too fast", 429)
        last = now
        return page(site_page())

    site.pages["/"] = links(*(f"/{i}" for i in range(12)))
    site.pages |= {f"/{i}": strict for i in range(12)}
    assert run(site, tmp_path, retries=3).statuses == {"200": 13}


def test_a_host_that_asks_to_wait_is_left_alone_for_as_long(site, tmp_path, page):
    times: list[float] = []

    def answer(_):
        times.append(time.monotonic())
        return page("busy", 503, {"Retry-After": "1"}) if len(times) == 1 else page(site_page())

    site.pages["/"] = links("/a", "/b", "/c")
    site.pages |= dict.fromkeys(["/a", "/b", "/c"], answer)
    assert run(site, tmp_path, host_concurrency=1).statuses == {"200": 4}
    assert times[1] - times[0] >= 0.9


def test_limits_on_pages_bytes_depth_and_time(site, tmp_path):
    for i in range(30):
        site.pages[f"/{i}"] = links(f"/{i + 1}") + " " * 1000
    assert run(site, tmp_path / "pages", "/0", max_pages=5).ended == "max_pages"
    assert len(read_index(tmp_path / "pages")) == 5
    by_bytes = run(site, tmp_path / "bytes", "/0", max_bytes=3000)
    assert (by_bytes.ended, by_bytes.pages) == ("max_bytes", 3)
    by_depth = run(site, tmp_path / "depth", "/0", max_depth=2)
    assert (by_depth.ended, by_depth.pages, by_depth.skipped["max_depth"]) == ("complete", 3, 1)
    site.pages["/3"] = lambda _: time.sleep(3) or links("/4")
    by_time = run(site, tmp_path / "time", "/0", max_seconds=1)
    assert (by_time.ended, by_time.pages) == ("max_seconds", 3)


def test_links_by_http_to_a_site_that_is_crawled_by_https_are_followed_there(tmp_path):
    pages = {
        "https://h.example/": links("http://h.example/a", "http://other.example/b"),
        "https://h.example/a": links("https://h.example/", "http://h.example:8080/c"),
    }
    with WarcWriter(tmp_path / "left.warc.gz", software="x", date=datetime.now(UTC)) as warc:
        for url, content in pages.items():
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
            warc.response(url, datetime.now(UTC), head, content.encode())
    config = settings(robots=False, sitemaps=False, scope="host")
    report = crawl(["https://h.example/"], config, tmp_path, left=[tmp_path / "left.warc.gz"])
    assert (report.pages, report.skipped["out_of_scope"]) == (2, 2)


def test_an_infinite_redirect_ends(site, tmp_path, page):
    site.pages["/"] = links("/loop", "/r/0")
    site.pages["/loop"] = page("", 302, {"Location": "/loop"})
    for i in range(40):
        site.pages[f"/r/{i}"] = page("", 301, {"Location": f"/r/{i + 1}"})
    report = run(site, tmp_path, max_redirects=5)
    assert [failure.reason for failure in report.failures] == ["too_many_redirects"]
    assert site.asked[-1] == "/r/5"


def test_where_a_seed_redirects_to_is_the_site(site, tmp_path, page):
    site.pages["/old/"] = page("", 301, {"Location": "/new/"})
    site.pages["/new/"] = links("/new/x", "/other")
    run(site, tmp_path, "/old/", sitemaps=False)
    assert site.asked == ["/old/", "/new/", "/new/x"]


def test_a_seed_that_is_a_folder_is_meant_as_one(site, tmp_path, page):
    site.pages |= {"/news": page("", 301, {"Location": "/news/"}), "/news/": links("/news/a", "/other")}
    site.pages |= {"/news/a": site_page(), "/other": site_page(), "/b": links("/other")}
    run(site, tmp_path / "a", "/news")
    assert stored(site, tmp_path / "a") == ["/news", "/news/", "/news/a"]
    run(site, tmp_path / "b", "/news", "/b")
    assert "/other" in stored(site, tmp_path / "b")


@pytest.mark.parametrize("charset", ["utf-8", "gbk"])
def test_a_redirect_to_an_address_that_is_written_as_it_is(site, tmp_path, page, charset):
    raw = "/新/".encode(charset)
    site.pages["/"] = page("", 301, {"Location": raw.decode("latin-1")})
    site.pages[quote(raw)] = site_page()
    assert run(site, tmp_path, sitemaps=False).statuses == {"301": 1, "200": 1}


def test_headers_that_are_no_ascii_are_sent_as_they_are(site, tmp_path, page):
    def answer(request):
        tag = {"ETag": '"\xe9"', "Last-Modified": "星期三".encode().decode("latin-1")}
        return page("", 304, tag) if request.headers.get("If-None-Match") == '"\xe9"' else page("x", 200, tag)

    site.pages["/"] = answer
    agent = "模型/1.0"
    run(site, tmp_path / "1", user_agent=agent)
    again = run(site, tmp_path / "2", previous=tmp_path / "1", user_agent=agent)
    assert again.statuses == {"304": 1}
    sent = site.requests[-1][1]
    assert sent["user-agent"].encode("latin-1").decode() == agent
    assert sent["if-modified-since"].encode("latin-1").decode() == "星期三"


def test_a_server_that_sends_a_byte_a_second_costs_one_deadline(site, tmp_path, page):
    site.pages["/"] = links("/drip", "/fine")
    site.pages["/drip"] = page("x" * 100, drip_seconds=0.2)
    site.pages["/fine"] = site_page()
    started = time.monotonic()
    report = run(site, tmp_path, page_seconds=0.6, retries=0)
    assert time.monotonic() - started < 15
    assert [(failure.url[-5:], failure.reason) for failure in report.failures] == [("/drip", "timed_out")]
    assert stored(site, tmp_path) == ["/", "/fine"]


def test_bodies_over_the_bound_and_types_that_are_no_pages_are_not_fetched(site, tmp_path, page):
    bomb = gzip.compress(bytes(20 * 2**20))
    site.pages["/"] = links("/big", "/bomb", "/image", "/end")
    site.pages["/big"] = page("x" * 300_000)
    site.pages["/bomb"] = page(bomb, headers={"Content-Encoding": "gzip"})
    site.pages["/image"] = page(b"\x89PNG" * 100_000, headers={"Content-Type": "image/png"})
    site.pages["/end"] = site_page()
    report = run(site, tmp_path, max_page_bytes=100_000)
    assert sorted(failure.reason for failure in report.failures) == ["too_large", "too_large"]
    assert stored(site, tmp_path) == ["/", "/image", "/end"]
    reasons = [
        getattr(record, "reason", "page") for record in read_records(tmp_path, "crawl", IngestConfig())
    ]
    assert reasons == ["page", "not_html", "page"]


def test_a_dead_server_and_a_broken_one_are_failures_with_reasons(site, tmp_path):
    def hang_up(request):
        request.connection.close()
        raise ConnectionResetError

    site.pages["/"] = hang_up
    report = run(site, tmp_path / "a", retries=0, robots=False)
    assert [failure.reason for failure in report.failures] == ["network"]
    tmp_path.joinpath("b").mkdir()
    dead = crawl(["http://127.0.0.1:9/"], settings(robots=False, retries=0), tmp_path / "b")
    assert [failure.reason for failure in dead.failures] == ["network"]


def test_what_cannot_be_had_securely_is_asked_for_once(site, tmp_path):
    secure = site.url.replace("http:", "https:")
    report = crawl([secure], settings(robots=False, retries=3, backoff_seconds=60), tmp_path)
    (failure,) = report.failures
    assert failure.reason == "tls"
    assert "speaks http:// at this address" in failure.detail


# --- addresses that are not of the public internet --------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1",
        "::1", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
        "2002:7f00:1::", "224.0.0.1", "255.255.255.255", "ff02::1", "::",
    ],
)  # fmt: skip
def test_private_addresses_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_are(address):
    assert is_public(address)


def test_loopback_is_refused_unless_allowed_by_name(site, tmp_path):
    site.pages["/"] = site_page()
    report = run(site, tmp_path, allow_hosts=())
    assert site.requests == []
    (failure,) = report.failures
    assert failure.reason == "refused_address"
    assert "add '127.0.0.1' to allow_hosts" in failure.detail


def test_a_name_that_resolves_to_loopback_is_refused(site, tmp_path):
    site.pages["/"] = site_page()
    port = site.url.rpartition(":")[2]
    tmp_path.joinpath("a").mkdir()
    report = crawl([f"http://localhost:{port}/"], settings(), tmp_path / "a")
    assert [failure.reason for failure in report.failures] == ["refused_address"]
    assert site.requests == []


def test_a_redirect_to_a_private_address_is_refused(site, tmp_path, page):
    port = site.url.rpartition(":")[2]
    site.pages["/"] = page("", 302, {"Location": f"http://localhost:{port}/secret"})
    report = run(site, tmp_path, scope="any")
    assert [(failure.url[-6:], failure.reason) for failure in report.failures] == [
        ("secret", "refused_address")
    ]
    assert site.asked == ["/"]


# --- crawling again ---------------------------------------------------------------------------------------


@pytest.fixture
def news(site, page):
    """A site of which some pages have entity tags, some dates, some nothing."""

    def tagged(body):
        def answer(request):
            if request.headers.get("If-None-Match") == '"1"':
                return page("", 304, {"ETag": '"1"'})
            return page(body, headers={"ETag": '"1"'})

        return answer

    def dated(request):
        date = "Wed, 01 Jan 2025 00:00:00 GMT"
        if request.headers.get("If-Modified-Since") == date:
            return page("", 304)
        return page("<p>dated</p>", headers={"Last-Modified": date})

    site.pages["/"] = tagged(links("/dated", "/plain"))
    site.pages["/dated"] = dated
    site.pages["/plain"] = "<p>plain</p>"
    return site


def texts(folder: Path) -> dict[str, bytes]:
    records = read_records(folder, "crawl", IngestConfig())
    return {r.url.rpartition("/")[2]: getattr(r, "content", b"fault") for r in records}


def test_an_unchanged_site_is_stored_once_and_gives_the_same_identity(news, tmp_path):
    first = run(news, tmp_path / "1", robots=False, sitemaps=False)
    second = run(news, tmp_path / "2", robots=False, sitemaps=False, previous=tmp_path / "1")
    third = run(news, tmp_path / "3", robots=False, sitemaps=False, previous=tmp_path / "2")
    assert first.identity == second.identity == third.identity
    assert (first.unchanged, second.unchanged, third.unchanged) == (0, 3, 3)
    assert second.bytes == len("<p>plain</p>"), "pages with a tag or a date are not sent again"
    kinds = [r.type for r in read_warc(tmp_path / "2/crawl-00001.warc.gz", ReadLimits())]
    assert kinds == ["warcinfo", "revisit", "revisit", "revisit"]
    assert texts(tmp_path / "3") == texts(tmp_path / "1")
    assert {entry.file for entry in read_index(tmp_path / "3")} == {"crawl-00000.warc.gz"}


def test_a_page_that_has_another_tag_and_not_another_word_is_asked_for_by_the_new_one(site, tmp_path, page):
    tag = '"old"'

    def answer(request):
        known = request.headers.get("If-None-Match") == tag
        return page("" if known else "<p>same</p>", 304 if known else 200, {"ETag": tag})

    site.pages["/"] = answer
    first = run(site, tmp_path / "1", robots=False)
    tag = '"new"'
    second = run(site, tmp_path / "2", robots=False, previous=tmp_path / "1")
    third = run(site, tmp_path / "3", robots=False, previous=tmp_path / "2")
    assert (second.statuses, third.statuses) == ({"200": 1}, {"304": 1})
    assert (second.unchanged, third.unchanged) == (1, 1)
    assert first.identity == second.identity == third.identity


def test_only_what_changed_is_stored_again(news, tmp_path):
    run(news, tmp_path / "1", robots=False, sitemaps=False)
    news.pages["/plain"] = "<p>plain, changed</p>"
    second = run(news, tmp_path / "2", robots=False, sitemaps=False, previous=tmp_path / "1")
    assert second.unchanged == 2
    assert texts(tmp_path / "2")["plain"] == b"<p>plain, changed</p>"
    responses = [
        r for r in read_warc(tmp_path / "2/crawl-00001.warc.gz", ReadLimits()) if r.type == "response"
    ]
    assert [record.url for record in responses if isinstance(record, WarcRecord)] == [news.url + "/plain"]
    first_dates = {r.url: r.fetched_at for r in read_records(tmp_path / "1", "crawl", IngestConfig())}
    second_dates = {r.url: r.fetched_at for r in read_records(tmp_path / "2", "crawl", IngestConfig())}
    assert first_dates[news.url + "/"] == second_dates[news.url + "/"]


def test_a_page_that_is_gone_is_gone(news, tmp_path):
    first = run(news, tmp_path / "1", robots=False, sitemaps=False)
    del news.pages["/plain"]
    second = run(news, tmp_path / "2", robots=False, sitemaps=False, previous=tmp_path / "1")
    assert second.identity != first.identity
    assert second.statuses == {"304": 2, "404": 1}


def test_what_a_crawl_that_was_cut_off_was_refused_is_asked_for_again(site, tmp_path, page):
    site.pages["/"] = links("/a", "/b")
    site.pages["/a"], site.pages["/b"] = page("busy", 503), site_page()
    run(site, tmp_path / "cut", retries=0, sitemaps=False)
    site.pages["/a"] = site_page()
    site.requests.clear()
    (tmp_path / "again").mkdir()
    left = [tmp_path / "cut/crawl-00000.warc.gz"]
    report = crawl([site.url + "/"], settings(retries=0), tmp_path / "again", left=left)
    assert (report.statuses, site.asked) == ({"200": 3}, ["/a"])


def test_of_what_was_stored_without_its_body_the_whole_is_asked_for(site, tmp_path, page, monkeypatch):
    def answer(request):
        if request.headers.get("If-None-Match") == '"1"':
            return page("", 304)
        return page("<urlset><url><loc>/a</loc></url></urlset>", 200, {"ETag": '"1"', "Content-Type": "x/y"})

    site.pages["/"], site.pages["/map.xml"], site.pages["/a"] = site_page(), answer, site_page()
    site.pages["/robots.txt"] = page("Sitemap: /map.xml")
    with monkeypatch.context() as patch:
        patch.setattr("tasks.web.crawl._anything", lambda *_: False)
        assert run(site, tmp_path / "1").pages == 2
    assert run(site, tmp_path / "2", previous=tmp_path / "1").pages == 3


def test_a_page_that_cannot_be_had_now_is_kept_with_what_lies_behind_it(site, tmp_path, page):
    def hang_up(request):
        request.connection.close()
        raise ConnectionResetError

    site.pages["/"] = links("/a", "/b")
    site.pages["/a"], site.pages["/b"] = links("/a1"), links("/b1")
    site.pages["/a1"] = site.pages["/b1"] = site_page()
    first = run(site, tmp_path / "1")
    site.pages["/a"], site.pages["/b"] = page("busy", 503), hang_up
    second = run(site, tmp_path / "2", previous=tmp_path / "1", retries=0)
    assert second.identity == first.identity
    assert [(failure.url[-2:], failure.reason, failure.kept) for failure in second.failures] == [
        ("/a", "http_status", True),
        ("/b", "network", True),
    ]
    assert texts(tmp_path / "2") == texts(tmp_path / "1")
    site.pages["/a"] = page("gone", 404)
    assert run(site, tmp_path / "3", previous=tmp_path / "2", retries=0).pages == 4


def test_a_crawl_that_was_cut_off_asks_only_for_the_rest(tree, tmp_path):
    class CutError(Exception):
        pass

    def cut(done, _total, _unit):
        if done == 9:
            raise CutError

    whole = run(tree, tmp_path / "whole")
    tree.requests.clear()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    gentle = settings(concurrency=1, host_concurrency=1)
    with pytest.raises(CutError):
        crawl([tree.url + "/"], gentle, tmp_path / "a", cut)
    before = len(tree.asked)
    with (tmp_path / "a/crawl-00000.warc.gz").open("ab") as file:
        file.write(gzip.compress(b"WARC/1.1 cut in the middle of a record")[:20])
    left = [tmp_path / "a/crawl-00000.warc.gz"]
    report = crawl([tree.url + "/"], gentle, tmp_path / "b", left=left)
    assert report.identity == whole.identity
    assert len(tree.asked) - before <= 20 - 9
    assert texts(tmp_path / "b") == texts(tmp_path / "whole")


# --- sitemaps and feeds -----------------------------------------------------------------------------------


def test_sitemaps_and_feeds_are_followed(site, tmp_path, page):
    xml = {"Content-Type": "application/xml"}
    port_url = site.url
    site.pages["/robots.txt"] = page(f"Sitemap: {port_url}/index.xml", headers={"Content-Type": "text/plain"})
    site.pages["/index.xml"] = page(
        "<sitemapindex><sitemap><loc>/more.xml.gz</loc></sitemap></sitemapindex>", 200, xml
    )
    listed = f"<urlset><url><loc>{port_url}/hidden?a=1&amp;b=2</loc></url>"
    listed += "<url><loc>http://no.example/</loc></url></urlset>"
    site.pages["/more.xml.gz"] = page(
        gzip.compress(listed.encode()), 200, {"Content-Type": "application/gzip"}
    )
    site.pages["/"] = '<link rel="alternate" type="application/rss+xml" href="/feed"><p>front page</p>'
    site.pages["/feed"] = page("<rss><channel><item><link>/item</link></item></channel></rss>", 200, xml)
    run(site, tmp_path)
    assert set(site.asked) == {"/", "/feed", "/index.xml", "/more.xml.gz", "/hidden?a=1&b=2", "/item"}


@pytest.mark.parametrize(
    "stated", ["application/octet-stream", "binary/octet-stream", "text/html", "application/rdf+xml", ""]
)
def test_a_sitemap_is_one_whatever_its_type_and_name(site, tmp_path, page, stated):
    stated = {"Content-Type": stated}
    site.pages["/robots.txt"] = page(f"Sitemap: {site.url}/index.xml.gz")
    index = f"<sitemapindex><sitemap><loc>{site.url}/map?from=1&amp;to=9</loc></sitemap></sitemapindex>"
    site.pages["/index.xml.gz"] = page(gzip.compress(index.encode()), 200, stated)
    site.pages["/map?from=1&to=9"] = page("<urlset><url><loc>/blog/a</loc></url></urlset>", 200, stated)
    site.pages["/blog/"] = site_page()
    run(site, tmp_path, "/blog/")
    assert site.asked == ["/blog/", "/index.xml.gz", "/map?from=1&to=9", "/blog/a"]


def test_images_in_sitemaps_are_no_pages():
    listed = (
        b"<urlset><url><loc>/a</loc><image:image><image:loc>/a.jpg</image:loc></image:image></url></urlset>"
    )
    assert listed_addresses(listed, "http://h/") == ["http://h/a"]


@pytest.mark.parametrize("charset", ["gbk", "GB18030", "big5", "no-such", "hex"])
def test_addresses_in_feeds_of_any_charset(charset):
    known = charset not in ("no-such", "hex")
    feed = f'<?xml version="1.0" encoding="{charset}"?><rss><item><link>http://h/新聞/1</link></item></rss>'
    found = listed_addresses(feed.encode(charset if known else "utf-8"), "http://h/")
    assert found == ["http://h/%E6%96%B0%E8%81%9E/1"]


def test_feeds_of_every_form():
    atom = b'<feed><link rel="self" href="/f"/><entry><link href="/e?x=1&amp;y=2"/></entry></feed>'
    assert is_listing(atom)
    assert listed_addresses(atom, "http://h/") == ["http://h/e?x=1&y=2"]
    rss = b"<rss><item><link><![CDATA[ http://h/c ]]></link></item></rss>"
    assert listed_addresses(rss, "http://h/") == ["http://h/c"]
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaa">' + b"<urlset>" + b"<loc>" * 200_000
    assert listed_addresses(bomb, "http://h/") == []


# --- addresses and links ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "base", "expected"),
    [
        ("HTTP://Example.COM:80/a/../b/./c?x=1 2#f", "", "http://example.com/b/c?x=1%202"),
        ("../x", "http://h/a/b/c", "http://h/a/x"),
        ("//h/x", "https://a/", "https://h/x"),
        ("http://例え.jp/路径", "", "http://xn--r8jz45g.jp/%E8%B7%AF%E5%BE%84"),
        ("http://[::1]:81/", "", "http://[::1]:81/"),
        ("?q=1", "http://h/p?z", "http://h/p?q=1"),
        ("http://h", "", "http://h/"),
        ("mailto:x@y", "http://h/", ""),
        ("javascript:void(0)", "http://h/", ""),
        ("http://h:99999999/", "", ""),
        ("http://[bad/", "", ""),
        ("http://h/" + "x" * 3000, "", ""),
    ],
)
def test_canonical_addresses(url, base, expected):
    assert canonical_url(url, base) == expected
    assert canonical_url(expected) == expected


def test_links_are_found_once_in_order_and_not_in_comments():
    found = find_links(
        b'<base href="/d/"><a class=x href="b.html#1">x</a><!-- <a href=c> --><a href=a.html?x=1&amp;y=2>'
        b"<script>'<a href=s>'</script><a href='b.html#2'><a rel=nofollow href=z><area href=m>",
        "http://h/",
    )
    assert found.pages == ("http://h/d/b.html", "http://h/d/a.html?x=1&y=2", "http://h/d/m")


def test_scripts_that_speak_of_comments_and_comments_of_scripts_hide_no_links():
    script, comment = b"<script>x.indexOf('<!--')</script>", b"<!--[if IE]><script src=x><![endif]-->"
    page = b"<a href=1>%s<a href=2>%s<a href=3>" % (script, comment)
    assert find_links(page, "http://h/").pages == ("http://h/1", "http://h/2", "http://h/3")


@pytest.mark.parametrize(
    "content", ['"0;url=/main.htm"', "\"5; URL='/main.htm'\"", "'0; url=/main.htm'", "0;url=/main.htm"]
)
def test_a_page_that_is_nothing_but_the_way_to_another_leads_there(content):
    page = f'<meta name="x" content="1;url=/no"><META HTTP-EQUIV="Refresh" CONTENT={content}>'
    assert find_links(page.encode(), "http://h/").pages == ("http://h/main.htm",)
    assert find_links(b'<meta http-equiv=refresh content="300">', "http://h/").pages == ()


def test_links_are_in_the_charset_that_the_page_itself_states():
    page = '<meta http-equiv="Content-Type" content="text/html; charset=gb2312"><a href="/新闻/">x</a>'
    assert find_links(page.encode("gbk"), "http://h/").pages == ("http://h/%E6%96%B0%E9%97%BB/",)
    asked = page.replace("新闻/", "新/list.asp?type=新闻&amp;page=2").encode("gbk")
    assert find_links(asked, "http://h/").pages == (
        "http://h/%E6%96%B0/list.asp?type=%D0%C2%CE%C5&page=2",
    ), "as browsers send it: the path in UTF-8, the query in the page's charset"


@pytest.mark.parametrize(
    "piece", [b"<a ", b"<!--", b"<script ", b'<a href="', b"<a href" + b" " * 9, b'"href = ']
)
def test_no_markup_makes_finding_links_slow(piece):
    started = time.monotonic()
    find_links(b"<a " + piece * (2**21 // len(piece)) + b">", "http://h/")
    assert time.monotonic() - started < 15


def test_traps_are_out_of_scope():
    scope = Scope("host", ("http://h/",))
    assert scope.allows("http://h/a/a/a/b")
    assert not scope.allows("http://h/a/b/a/b/a/b/a/b/")
    assert not scope.allows("http://other/")


# --- the site that every Python has -----------------------------------------------------------------------


def test_pydoc_pages_are_crawled_and_the_same_twice(tmp_path):
    config = CrawlConfig(max_pages=12, include=())
    reports = []
    for name in ("1", "2"):
        seeds, pydoc_settings = pydoc_crawl(["json"], config)
        (tmp_path / name).mkdir()
        with pydoc_servers() as ports:
            reports.append(crawl(seeds, pydoc_settings, tmp_path / name, routes={HOST: ports}))
    assert reports[0].identity == reports[1].identity
    urls = [entry.url for entry in read_index(tmp_path / "1")]
    assert f"http://{HOST}/json.decoder.html" in urls
    assert len(urls) <= 12


def test_pydoc_servers_end_with_their_parent_however_it_ends():
    program = "import time\nfrom tasks.web.pydoc_site import pydoc_servers\n"
    program += "with pydoc_servers(1) as ports:\n    print(ports[0], flush=True)\n    time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        port = int(parent.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
        parent.kill()
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.05)
    pytest.fail("the server outlived its parent by five seconds")


def test_an_absent_package_is_said_by_name():
    with pytest.raises(PydocError, match="no package 'nothing_of_the_kind'"):
        pydoc_crawl(["nothing_of_the_kind"], CrawlConfig())


def test_a_seed_that_is_no_address_is_refused(tmp_path):
    with pytest.raises(ValueError, match="starts from http"):
        crawl(["ftp://x/"], CrawlConfig(), tmp_path)
