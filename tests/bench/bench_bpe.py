"""The tokenizer's training on a large corpus: seconds and peak memory, beside training on all of the text.

    python tests/bench/bench_bpe.py [--megabytes 300] [--limit 600]

Our stage streams the corpus twice and trains on a seeded sample (tokenize.sample_megabytes); the peer is the
same `tokenizers` trainer with the same settings, given every document. Each runs in a process of its own, one
after the other; a peer that is not done after --limit seconds is stopped, and the memory that it had reached
is printed. The texts are those of bench_tokens.py.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

VOCABULARY = 32_768


def ours(work: Path) -> None:
    """The stage, from Parquet parts to a committed tokenizer."""
    from bench_tokens import artifacts

    from tasks.tokenization import train_tokenizer
    from tasks.tokens.config import TokenizeConfig

    corpus, _, excluded = artifacts(work)
    train_tokenizer.run_now(corpus, excluded, TokenizeConfig(vocab_size=VOCABULARY).tokenizer)


def peer(work: Path) -> None:
    """`tokenizers` on every document."""
    from storage.documents import read_batches
    from tasks.tokens import bpe

    def texts() -> Iterator[str]:
        for part in sorted((work / "corpus").glob("*.parquet")):
            for batch in read_batches(part, ["text"]):
                yield from batch["text"].to_pylist()

    bpe.train(texts(), VOCABULARY)


def measure(side: str, work: Path, limit: float) -> str:
    """Seconds and peak memory of one side, in words."""
    from process_memory import resident

    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, __file__, "--side", side, str(work)],
        env={**os.environ, "MODELMILL_HOME": str(work / "home"), "MODELMILL_STORE": str(work / "store")},
        stdout=subprocess.DEVNULL,
    )
    peak = 0
    while process.poll() is None and time.monotonic() - started < limit:
        peak = max(peak, resident(process.pid))
        time.sleep(0.2)
    if process.poll() is None:
        process.kill()
        ended = "  stopped, not done"
    else:
        ended = "" if process.returncode == 0 else f"  failed with {process.returncode}"
    process.wait()
    return f"{time.monotonic() - started:8.1f} s {peak / 1e6:8,.0f} MB{ended}"


def main() -> None:
    """Print one line a side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=300)
    parser.add_argument("--limit", type=float, default=600, help="seconds that a side may take")
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        {"ours": ours, "peer": peer}[options.side[0]](Path(options.side[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "corpus").mkdir()
        from bench_tokens import write_corpus

        size = write_corpus(work / "corpus", options.megabytes)
        print(f"a tokenizer of {VOCABULARY:,} entries from {size / 1e6:,.0f} MB of text", flush=True)
        print(f"  modelmill, sampled {measure('ours', work, options.limit)}", flush=True)
        print(f"  tokenizers, all    {measure('peer', work, options.limit)}", flush=True)


if __name__ == "__main__":
    main()
