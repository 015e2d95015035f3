"""What counts as a duplicate, what is repeated boilerplate, and which documents are held out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.settings import StageConfig


class BoilerplateConfig(StageConfig):
    """Lines that repeat from page to page of one domain: menus, footers, inherited reference text."""

    enabled: bool = Field(
        True,
        title="Remove repeated lines",
        description="Remove lines that repeat on many pages of one domain.",
    )
    min_pages: int = Field(
        3,
        title="Least pages",
        description="Pages of a domain that must hold a line before it counts as repeated, 2 to 100,000.",
        ge=2,
        le=100_000,
    )
    min_share: float = Field(
        0.002,
        title="Least share",
        description="Share of a domain's pages that must hold it as well, 0 to 1.",
        ge=0,
        le=1,
    )
    min_run_characters: int = Field(
        60,
        title="Shortest run",
        description="Letters and digits that lines which repeat one after the other must have together to be "
        "removed, 0 to 100,000; a Chinese character counts as three. A lone short line ('Example:') stays, a "
        "menu or a repeated paragraph goes.",
        ge=0,
        le=100_000,
    )
    keep_first: bool = Field(
        True,
        title="Keep one copy",
        description="Keep each repeated line on one page (that with the smallest doc_id), so that what it "
        "says is not lost.",
    )
    min_characters_left: int = Field(
        100,
        title="Shortest remainder",
        description="Letters and digits that must be left of a page after the removal, 0 to 100,000; a "
        "Chinese character counts as three. A page with fewer is rejected.",
        ge=0,
        le=100_000,
    )


class ReduceConfig(StageConfig):
    """How much of the machine the reduce step takes; nothing here changes what comes out."""

    partition_records: int = Field(
        100_000,
        title="Records a partition",
        description="Band hashes that are sorted in memory at once, with the records of those that are equal "
        "(up to 700 bytes each), 1,000 to 1,000,000,000.",
        ge=1_000,
        le=1_000_000_000,
    )
    threads: int = Field(
        2,
        title="Threads",
        description="Parts that are written side by side, 1 to 64; each holds up to 40 MB.",
        ge=1,
        le=64,
    )


class DeduplicateConfig(StageConfig):
    """What counts as a duplicate. Of each cluster one document stays: one of an earlier run if there is
    one, else the longest, then the one fetched first, then the smallest doc_id."""

    exact_url: bool = Field(
        True,
        title="Same address",
        description="Of several documents with one URL, keep one; a row without one, and a page of a folder, "
        "have none that counts.",
    )
    exact_text: bool = Field(
        True,
        title="Same text",
        description="Of several documents with one text (letters and digits compared; case, punctuation and "
        "spaces left out), keep one.",
    )
    near: bool = Field(
        True,
        title="Near-duplicates",
        description="Of several documents that share most of their 5-word (or 5-character) shingles, keep "
        "one.",
    )
    near_threshold: float = Field(
        0.75,
        title="Similarity",
        description="Estimated Jaccard similarity of shingles from which two documents are near-duplicates, "
        "0.5 to 1. Of pairs between .80 and .85, 97 in 100 are found; above, all.",
        ge=0.5,
        le=1,
    )
    earlier_runs: Literal["replace", "add"] = Field(
        "replace",
        title="Earlier runs",
        description="replace: the corpus holds all that the sources hold now, in place of earlier ones. "
        "add: what a corpus of the lineage's earlier runs has is left out, so that the runs' corpora add up.",
    )
    boilerplate: BoilerplateConfig = Field(
        BoilerplateConfig(), title="Repeated lines", description="Lines that repeat within a domain."
    )
    reduce: ReduceConfig = Field(
        ReduceConfig(),
        title="Reduce step",
        description="How much memory the reduce step takes.",
        json_schema_extra={"affects_result": False},
    )


class HoldOutConfig(StageConfig):
    """Which documents are kept from training, to evaluate on.

    A document's own hash decides, language by language, so that a page which was held out once is held out
    whenever it comes back; the bounds only cut or extend that order.
    """

    fraction: float = Field(
        0.02,
        title="Share",
        description="Share of each language's documents that is held out, 0.0001 to 0.5.",
        ge=0.0001,
        le=0.5,
    )
    min_documents: int = Field(
        20,
        title="Least documents",
        description="Documents a language is given at least, 0 to 100,000, but never more than the largest "
        "share.",
        ge=0,
        le=100_000,
    )
    max_share: float = Field(
        0.1,
        title="Largest share",
        description="Share of a language's documents that may be held out to reach the least, 0 to 0.5.",
        ge=0,
        le=0.5,
    )
    max_documents: int = Field(
        2_000,
        title="Most documents",
        description="Documents a language is given at most, 1 to 1,000,000.",
        ge=1,
        le=1_000_000,
    )
    max_bytes: int = Field(
        8_000_000,
        title="Most bytes",
        description="UTF-8 bytes of text that are held out of a language at most, 1,000 to 10,000,000,000 "
        "(evaluation reads all of them).",
        ge=1_000,
        le=10_000_000_000,
    )
    near_threshold: float = Field(
        0.5,
        title="Leak similarity",
        description="Estimated Jaccard similarity to a held-out document from which a document of the corpus "
        "is kept from training too, 0.3 to 1. Lower than the deduplication's: a near copy of the question "
        "must not be learned.",
        ge=0.3,
        le=1,
    )
    contained: float = Field(
        0.5,
        title="Leak by quotation",
        description="Share of a held-out document's 5-unit shingles from which a document that has them, "
        "however long it is, is kept from training too, 0 to 1; 0 switches this off (and reads no text).",
        ge=0,
        le=1,
    )
    salt: str = Field(
        "modelmill",
        title="Salt",
        description="Mixed into each document's hash; another salt holds out other documents. 0 to 100 "
        "characters.",
        max_length=100,
    )
