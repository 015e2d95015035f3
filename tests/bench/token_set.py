"""Token shards of real pages, for the benchmarks that train: web archives through every stage up to shards.

Pages are those of MODELMILL_TEST_DATA (or ../shared/data): the handbook in its languages and wcxb, of which
the default rules keep English and Chinese.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

DATA = Path(os.environ.get("MODELMILL_TEST_DATA", Path(__file__).resolve().parents[3] / "shared/data"))
ARCHIVES = ("handbook/*.warc.gz", "wcxb/*.warc.gz")


def archives(patterns: Sequence[str] = ARCHIVES) -> list[Path]:
    """The web archives that are at hand, in order; raises FileNotFoundError where none is."""
    found = [path for pattern in patterns for path in sorted(DATA.glob(pattern))]
    if not found:
        raise FileNotFoundError(f"{DATA} has no web archives (set MODELMILL_TEST_DATA to a folder that does)")
    return found


def make_token_set(files: Sequence[Path], store: Path) -> tuple[Path, Path]:
    """Bring web archives to shards under the default configuration; folders of the token set and tokenizer.

    Everything on the way is in ``store``, so that a second call takes it from there.
    """
    os.environ["MODELMILL_STORE"] = str(store)
    from flows.config import Learning
    from storage.store import open_store
    from tasks.clean import clean
    from tasks.deduplicate import deduplicate
    from tasks.hold_out import exclude, hold_out
    from tasks.ingest import ingest
    from tasks.text.config import CleanConfig
    from tasks.text.dedup_config import DeduplicateConfig
    from tasks.tokenization import tokenize, train_tokenizer
    from tasks.web.config import IngestConfig
    from tasks.web.sources import resolve

    config, reading = Learning(), IngestConfig()
    sources = [source for file in files for source in resolve(str(file), reading)]
    cleaned = [clean.run_now(ingest.run_now(source, reading), CleanConfig()) for source in sources]
    corpus = deduplicate.run_now(cleaned, DeduplicateConfig())
    heldout = hold_out.run_now(corpus, config.hold_out)
    excluded = exclude.run_now(corpus, heldout, config.hold_out)
    tokenizer = train_tokenizer.run_now(corpus, excluded, config.tokenize.tokenizer)
    shards = tokenize.run_now(corpus, heldout, excluded, tokenizer, config.tokenize)
    return open_store().open(shards), open_store().open(tokenizer)
