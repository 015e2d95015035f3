"""The Arrow schemas of everything that stages hand to each other as Parquet.

Documents and corpus share one schema, so that a reader of one reads the other:

| column | meaning |
|---|---|
| doc_id | hex sha256 of ``url + "\\n" + text`` as ingested: stable across runs and machines |
| url, domain | where the page was; the domain is the URL's host, lower case |
| fetched_at | when it was fetched, UTC, or null where the source does not say |
| source_file, source_offset | the file it came from and the record's byte offset in it |
| title, date, author, charset | what the page says of itself; empty where it does not |
| stated_language | the BCP 47 tag that the page states, lower case; empty where it states none |
| language, language_score | ISO 639-1 code and confidence in 0..1; empty until cleaned |
| text | the main content, Unicode NFC, paragraphs separated by newlines |
| signals | the measured quality numbers by name; before, ``cut_short`` of a page without its end |
"""

import pyarrow as pa

DOCUMENTS = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("fetched_at", pa.timestamp("us", tz="UTC")),
        pa.field("source_file", pa.string(), nullable=False),
        pa.field("source_offset", pa.int64(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("date", pa.string()),
        pa.field("author", pa.string()),
        pa.field("charset", pa.string()),
        pa.field("stated_language", pa.string()),
        pa.field("language", pa.string()),
        pa.field("language_score", pa.float32()),
        pa.field("text", pa.string(), nullable=False),
        pa.field("signals", pa.map_(pa.string(), pa.float32())),
    ]
)

REJECTS = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("language", pa.string()),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("threshold", pa.float64()),
        pa.field("detail", pa.string()),
        pa.field("excerpt", pa.string()),
    ]
)
"""One row a document that was dropped: the rule, what was measured and where the line was."""

SIGNATURES = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("text_sha256", pa.binary(32), nullable=False),
        pa.field("minhash", pa.binary(), nullable=False),
        pa.field("length", pa.int64(), nullable=False),
    ]
)
"""One row a kept document, in the kept part's order: what deduplication needs without the text.

``minhash`` is the signature's little-endian uint32 values; ``length`` counts characters."""
