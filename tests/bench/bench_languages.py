"""What cleaning keeps of one book in six languages, where Chinese and English are kept.

    python tests/bench/bench_languages.py [--mode fast]

Pages: MODELMILL_TEST_DATA/handbook (or ../shared/data/handbook), 127 in each language, of which about half
were never translated and are English. For each language: pages read; dropped for their language, where the
address counts as a statement of it as by default, and where the text alone does; dropped by another rule;
kept; and what was masked as personal data, of which the book has examples alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
DATA = Path(os.environ.get("MODELMILL_TEST_DATA", ROOT.parent / "shared/data"))
KEPT = ["zh", "en"]
LANGUAGE_RULES = ("language", "language_of_address")


def main() -> None:
    """Print a row for each language."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mode", default="fast", help="how pages are extracted: fast, best or quality")
    options = parser.parse_args()
    print(f"{'':8}{'pages':>7}{'language':>10}{'text alone':>12}{'other rule':>12}{'kept':>6}{'share':>8}")
    with tempfile.TemporaryDirectory() as store:
        os.environ["MODELMILL_STORE"] = store
        for file in sorted((DATA / "handbook").glob("*.warc.gz")):
            by_text, stats = (cleaned(file, options.mode, addresses) for addresses in ("ignore", None))
            pages, kept = stats["documents_in"], stats["documents"]
            foreign, foreign_text = (dropped_for_language(found) for found in (stats, by_text))
            print(
                f"{file.name[9:14]:8}{pages:7}{foreign:10}{foreign_text:12}{pages - kept - foreign:12}"
                f"{kept:6}{kept / pages:8.1%}  masked: {stats['pii']}"
            )


def cleaned(file: Path, mode: str, addresses: str | None) -> dict[str, Any]:
    """The clean stage's statistics for one archive; ``addresses`` None takes the default."""
    from tasks.clean import clean
    from tasks.ingest import ingest
    from tasks.text.config import CleanConfig
    from tasks.text.extract_config import ExtractConfig
    from tasks.web.config import IngestConfig
    from tasks.web.sources import resolve

    (source,) = resolve(str(file), IngestConfig())
    documents = ingest.run_now(source, IngestConfig(), ExtractConfig.model_validate({"mode": mode}))
    language = {"keep": KEPT} | ({"addresses": addresses} if addresses else {})
    found: dict[str, Any] = clean.run_now(documents, CleanConfig.model_validate({"language": language})).stats
    return found


def dropped_for_language(stats: dict[str, Any]) -> int:
    """Pages that a rule on language rejected."""
    return sum(pages for rule, pages in stats["rejected"].items() if rule in LANGUAGE_RULES)


if __name__ == "__main__":
    main()
