"""How sources are fetched and read."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, JsonValue, field_validator

from tasks.settings import StageConfig
from tasks.web.records import ReadLimits

SPEED_ONLY: dict[str, JsonValue] = {"affects_result": False}


class CrawlConfig(StageConfig):
    """A polite crawl: how far it goes, how gently, and what it refuses."""

    user_agent: str = Field(
        "modelmill/0.1 (+text for language models)",
        title="User agent",
        description="Sent with every request; robots.txt is read for its first word. Say how to reach you.",
        min_length=1,
        max_length=200,
    )
    scope: Literal["prefix", "host", "any"] = Field(
        "prefix",
        title="Scope",
        description="Links followed: in the seed's folder and below it (prefix; of /news/ and /news/a.html "
        "it is /news/), on its host (host), or all (any).",
    )
    include: tuple[str, ...] = Field(
        (),
        title="Included addresses",
        description="Regular expressions; where there are any, an address must match one to be fetched.",
    )
    exclude: tuple[str, ...] = Field(
        (),
        title="Excluded addresses",
        description="Regular expressions; an address in which one is found is not fetched.",
    )
    max_pages: int = Field(
        10_000,
        title="Most pages",
        description="Pages fetched at most, failed ones included: 1 to 10,000,000.",
        ge=1,
        le=10_000_000,
    )
    max_depth: int = Field(
        50,
        title="Most links from a seed",
        description="Pages more links away from every seed than this are not fetched: 0 to 10,000.",
        ge=0,
        le=10_000,
    )
    max_bytes: int = Field(
        4 * 2**30,
        title="Most bytes",
        description="Bytes of bodies, as sent, after which the crawl ends: 1,024 up; 4 GiB by default.",
        ge=1024,
    )
    max_seconds: float = Field(
        3600.0,
        title="Longest time",
        description="Seconds after which the crawl ends with what it has: 1 to 2,592,000 (30 days).",
        ge=1,
        le=2_592_000,
    )
    max_page_bytes: int = Field(
        16 * 2**20,
        title="Largest page",
        description="Bytes of one body, as sent and decoded; a larger one is dropped and counted: 1,024 up.",
        ge=1024,
        le=2**30,
    )
    page_seconds: float = Field(
        60.0,
        title="Longest page",
        description="Seconds for one page in all, so that a server that sends a byte a second cannot "
        "hold the crawl: 0.1 to 3,600.",
        ge=0.1,
        le=3600,
    )
    max_redirects: int = Field(
        5, title="Most redirects", description="Redirects followed in a row: 0 to 20.", ge=0, le=20
    )
    retries: int = Field(
        3,
        title="Retries",
        description="Further tries after a network error, 429 or 5xx, waiting longer each time: 0 to 20.",
        ge=0,
        le=20,
    )
    backoff_seconds: float = Field(
        1.0,
        title="First wait before a retry",
        description="Seconds, doubled at each further try up to 60, with jitter; Retry-After wins: 0 to 60.",
        ge=0,
        le=60,
        json_schema_extra=SPEED_ONLY,
    )
    host_delay_seconds: float = Field(
        0.5,
        title="Delay between requests to a host",
        description="Seconds between the starts of two requests to one host, by all sources together: 0 to "
        "3,600. A longer Crawl-delay in robots.txt wins, up to 60 s; a host that answers 429 is asked more "
        "slowly.",
        ge=0,
        le=3600,
        json_schema_extra=SPEED_ONLY,
    )
    host_concurrency: int = Field(
        2,
        title="Requests at once to a host",
        description="1 to 64.",
        ge=1,
        le=64,
        json_schema_extra=SPEED_ONLY,
    )
    concurrency: int = Field(
        16,
        title="Requests at once",
        description="Over all hosts: 1 to 512.",
        ge=1,
        le=512,
        json_schema_extra=SPEED_ONLY,
    )
    robots: bool = Field(
        True, title="Obey robots.txt", description="Only switch this off for a site of your own."
    )
    sitemaps: bool = Field(
        True,
        title="Read sitemaps and feeds",
        description="Take the addresses that robots.txt's sitemaps and the pages' feeds list.",
    )
    allow_hosts: tuple[str, ...] = Field(
        (),
        title="Allowed private hosts",
        description="Host names or addresses that may be loopback, private or link-local; all others of that "
        "kind are refused, after DNS and at each redirect.",
    )
    max_age_hours: float = Field(
        24.0,
        title="Age up to which a crawl is taken as it is",
        description="Hours; an older one is crawled again, asking only for what changed: 0 to 8,784.",
        ge=0,
        le=8784,
        json_schema_extra=SPEED_ONLY,
    )

    @field_validator("include", "exclude")
    @classmethod
    def _compiles(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return patterns


class ParallelConfig(StageConfig):
    """How much of the machine the stage takes; nothing here changes what comes out."""

    workers: int = Field(
        0,
        title="Processes",
        description="Processes that extract, 1 to 256; 0 takes as many as there are processors. Parts that "
        "run beside each other share them.",
        ge=0,
        le=256,
    )
    page_seconds: float = Field(
        20.0,
        title="Longest extraction of a page",
        description="Seconds after which a page counts as one on which the parser hangs: 1 to 600.",
        ge=1,
        le=600,
    )


class IngestConfig(StageConfig):
    """How sources are fetched, cut into parts and read."""

    crawl: CrawlConfig = Field(
        CrawlConfig(),
        title="Crawl",
        description="For crawl:, pydoc: and https: sources.",
        json_schema_extra=SPEED_ONLY,  # fetching takes it as an argument of its own
    )
    max_record_bytes: int = Field(
        16 * 2**20,
        title="Largest record",
        description="Bytes of one page after all compression is undone; a larger one is a fault: 1,024 up.",
        ge=1024,
        le=2**30,
    )
    unit_bytes: int = Field(
        32 * 2**20,
        title="Work unit",
        description="Bytes of a compressed WARC after which what is done is kept, so that a kill costs "
        "seconds however large the file: 65,536 up.",
        ge=65536,
        json_schema_extra=SPEED_ONLY,
    )
    max_rows: int = Field(
        0,
        title="Most rows",
        description="Rows taken at most from a JSONL, Parquet or Hugging Face source; 0 takes all.",
        ge=0,
    )
    max_failed_share: float = Field(
        0.2,
        title="Largest share of failed records",
        description="Share of a source's records that may be broken or fail in the parser before the part is "
        "refused, so that no loss is silent: 0 to 1. Other types and statuses than pages do not count.",
        ge=0,
        le=1,
    )
    max_empty_share: float = Field(
        0.5,
        title="Largest share of pages without text",
        description="Share of a source's pages that may turn out to hold no main text before the part is "
        "refused: a site that is drawn by scripts, or an extractor that no longer fits. 0 to 1.",
        ge=0,
        le=1,
    )
    text_field: str = Field(
        "text",
        title="Text column",
        description="Column of JSONL, Parquet and Hugging Face rows that holds the text.",
        min_length=1,
    )
    html_field: str = Field(
        "",
        title="HTML column",
        description="Column of such rows that holds a page to extract from; empty where there is none.",
    )
    url_field: str = Field(
        "url",
        title="Address column",
        description="Column of such rows that holds the address; rows without one are named by file and row.",
        min_length=1,
    )
    common_crawl_url: str = Field(
        "https://data.commoncrawl.org/",
        title="Common Crawl's address",
        description="Where cc:// sources are fetched from: a mirror with the same layout can stand in.",
        pattern=r"^https?://.+/$",
        json_schema_extra=SPEED_ONLY,
    )
    parallel: ParallelConfig = Field(
        ParallelConfig(),
        title="Parallel work",
        description="Speed only: nothing here changes what comes out.",
        json_schema_extra=SPEED_ONLY,
    )

    def for_files(self) -> CrawlConfig:
        """What of the crawl's settings a download of one file depends on, so that others do not matter."""
        kept = {"user_agent", "max_redirects", "retries", "allow_hosts", "page_seconds", "max_seconds"}
        kept |= {"max_age_hours", "backoff_seconds"}
        settings = {name: getattr(self.crawl, name) for name in kept}
        # The pieces of a file are one request, cut up; files come as many at once as parts are worked on.
        return CrawlConfig(**settings, host_delay_seconds=0, host_concurrency=64)

    @property
    def limits(self) -> ReadLimits:
        """The bounds on one record."""
        return ReadLimits(record_bytes=self.max_record_bytes)
