"""Common Crawl by crawl id and number of files: ``cc://CC-MAIN-2024-22?files=10&kind=wet``."""

from __future__ import annotations

import re
import zlib
from urllib.parse import parse_qsl, urljoin, urlsplit

from tasks.web.config import IngestConfig
from tasks.web.download import DownloadError, GoneError, fetch_bytes

MAX_LISTING_BYTES = 64 * 2**20
KINDS = ("warc", "wet")
CRAWLS = "https://index.commoncrawl.org/collinfo.json"


class CommonCrawlError(ValueError):
    """A cc:// source that cannot be resolved."""


def chosen_files(source: str, config: IngestConfig) -> list[str]:
    """Addresses of the files that a cc:// source names: ``files`` of them, spread evenly over the crawl.

    Raises CommonCrawlError where the string is wrong or the crawl's listing cannot be had.
    """
    crawl, count, kind = parse(source)
    listing = urljoin(config.common_crawl_url, f"crawl-data/{crawl}/{kind}.paths.gz")
    try:
        body = fetch_bytes(listing, config.crawl, MAX_LISTING_BYTES)
    except DownloadError as error:
        raise CommonCrawlError(
            f"the listing of crawl {crawl} cannot be had now: {error}; try later"
        ) from error
    except GoneError as error:
        raise CommonCrawlError(
            f"the listing of crawl {crawl} cannot be had: {error}; crawls are listed at {CRAWLS}"
        ) from error
    engine = zlib.decompressobj(wbits=47)  # gzip or zlib
    try:
        text = engine.decompress(body, MAX_LISTING_BYTES).decode("ascii")
    except (zlib.error, UnicodeDecodeError) as error:
        raise CommonCrawlError(f"{listing} is no gzip list of paths: {error}") from None
    paths = [line.strip() for line in text.splitlines() if line.strip()]
    if not paths:
        raise CommonCrawlError(f"{listing} lists no files")
    count = min(count, len(paths))
    picked = [paths[len(paths) * i // count] for i in range(count)]
    return [urljoin(config.common_crawl_url, path) for path in picked]


def parse(source: str) -> tuple[str, int, str]:
    """Crawl id, number of files and kind of a cc:// source; raises CommonCrawlError naming what is wrong."""
    parts = urlsplit(source)
    options = dict(parse_qsl(parts.query))
    crawl, files, kind = parts.netloc, options.pop("files", "1"), options.pop("kind", "warc")
    if not re.fullmatch(r"[A-Za-z0-9-]{4,64}", crawl):
        raise CommonCrawlError(f"{crawl!r} is no crawl id; write cc://CC-MAIN-2024-22?files=10")
    if not files.isdigit() or not 1 <= int(files) <= 100_000:
        raise CommonCrawlError(f"files is {files!r}; it is a number from 1 to 100000")
    if kind not in KINDS or options:
        raise CommonCrawlError(f"kind is {kind!r}, further options {options}; known: files, kind (warc, wet)")
    return crawl, int(files), kind
