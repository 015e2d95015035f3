"""Deduplication beside its peers: signatures a second, planted near-duplicates found, parts, memory.

    python tests/bench/bench_dedup.py [--peers PYTHON] [--texts FILE.parquet] [--documents 20000]

PYTHON is the interpreter of a venv with datatrove[processing]==0.10.1, datasketch, rensa, spacy and
lxml_html_clean; without it only our own figures are printed. FILE has a column ``main_content`` or ``text``;
without it made-up documents are used. All runs take the same texts, one after the other, on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.text.dedup_ledger import Ledger

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

PEERS = ("datatrove", "datasketch", "rensa")
REPEATS = 3


def main() -> None:
    """Print the table."""
    options = _options()
    if options.peer:
        print(json.dumps(_seconds_of_peer(options.peer, json.loads(Path(options.texts).read_text()))))
        return
    if options.reduce:
        print(json.dumps(_reduce(options.documents)))
        return
    texts = _texts(options.texts)
    characters = sum(map(len, texts))
    print(f"{len(texts):,} documents, {characters / 1e6:.1f} M characters")
    _signature_rates(texts, options.peers)
    _recall()
    _orders(texts)
    _memory(options.documents)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--peers", default="")
    parser.add_argument("--texts", default="")
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--reduce", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _texts(path: str) -> list[str]:
    if path:
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        column = "text" if "text" in table.column_names else "main_content"
        return [text for text in table[column].to_pylist() if text]
    rng = random.Random(0)
    return [" ".join(_words(rng, rng.randrange(100, 2000))) for _ in range(500)]


def _words(rng: random.Random, count: int) -> list[str]:
    return [f"word{rng.randrange(20_000)}" for _ in range(count)]


def _best(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _signature_rates(texts: Sequence[str], python: str) -> None:
    from tasks.text.dedup import signature

    signature("warm up")
    ours = _best(lambda: [signature(text) for text in texts])
    print(f"\nsignatures, documents a second\n  modelmill   {len(texts) / ours:8,.0f}")
    with tempfile.TemporaryDirectory() as folder:
        sample = list(texts[:300])
        file = Path(folder) / "texts.json"
        file.write_text(json.dumps(sample))
        our_sample = _best(lambda: [signature(text) for text in sample])
        for peer in PEERS if python else ():
            command = [python, __file__, "--peer", peer, "--texts", str(file)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            theirs = float(out.strip().splitlines()[-1])
            ratio = theirs / our_sample
            print(f"  {peer:11} {len(sample) / theirs:8,.0f}   modelmill is {ratio:.1f} times as fast")


def _seconds_of_peer(peer: str, texts: list[str]) -> float:
    if peer == "datatrove":
        return _datatrove(texts)
    sets = [_shingles(text) for text in texts]  # warm up the regex
    del sets
    work: Callable[[], object]
    if peer == "datasketch":
        from datasketch import MinHash  # type: ignore[import-not-found]

        def work() -> object:
            made = []
            for text in texts:
                one = MinHash(num_perm=128)
                one.update_batch([" ".join(s).encode() for s in _shingles(text)])
                made.append(one)
            return made
    else:
        from rensa import RMinHash

        def work() -> object:
            made = []
            for text in texts:
                one = RMinHash(num_perm=128, seed=42)
                one.update([" ".join(s) for s in _shingles(text)])
                made.append(one.digest())
            return made

    return _best(work)


def _shingles(text: str) -> set[tuple[str, ...]]:
    import re

    words = re.findall(r"\w+", text.lower())
    return set(zip(*(words[i:] for i in range(5)), strict=False))


def _datatrove(texts: list[str]) -> float:
    """Signatures with datatrove's defaults: 5-grams, 14 buckets of 8 hashes."""
    from datatrove.data import Document  # type: ignore[import-not-found]
    from datatrove.pipeline.dedup import MinhashDedupSignature  # type: ignore[import-not-found]

    documents = [Document(text=text, id=str(i)) for i, text in enumerate(texts)]
    seconds = []
    for _ in range(2):  # the first loads the word splitter
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            MinhashDedupSignature(output_folder=folder).run(documents, rank=0, world_size=1)
            seconds.append(time.perf_counter() - start)
    return min(seconds)


def _recall() -> None:
    from tasks.text.dedup import SHINGLE, signature, similarity
    from tasks.text.dedup_cluster import BANDS, ROWS, cluster
    from tasks.text.dedup_config import DeduplicateConfig
    from tasks.text.dedup_units import shingles, units

    han = [chr(code) for code in range(0x4E00, 0x5800)]
    print("\nplanted near-duplicates found (bands of", ROWS, "values:", BANDS, end=")\n")
    for script in ("spaced", "unspaced"):
        rng = random.Random(1)
        by_tenth: dict[float, list[bool]] = {}
        errors = []
        for _ in range(1500):
            base = rng.choices(han, k=500) if script == "unspaced" else _words(rng, rng.randrange(60, 900))
            changed = list(base)
            for _ in range(max(1, round(len(base) * rng.uniform(0.001, 0.06)))):
                changed[rng.randrange(len(base))] = rng.choice(han) if script == "unspaced" else "other"
            joint = "" if script == "unspaced" else " "
            pair = joint.join(base), joint.join(changed)
            sets = [set(shingles(units(text).hashes, SHINGLE).tolist()) for text in pair]
            truth = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
            with tempfile.TemporaryDirectory() as folder:
                ledger = _ledger_of(Path(folder), [signature(text) for text in pair])
                found = len(cluster(ledger, DeduplicateConfig()).rows) == 1
            by_tenth.setdefault(int(truth * 20) / 20, []).append(found)
            errors.append(float(similarity(signature(pair[0]), signature(pair[1]))) - truth)
        row = "  ".join(
            f"{low:.2f}: {sum(f) / len(f):.2f}" for low, f in sorted(by_tenth.items()) if len(f) > 20
        )
        above = [f for low, fs in by_tenth.items() if low >= 0.8 for f in fs]
        print(f"  {script:9} Jaccard .8 and over: {sum(above) / len(above):.3f} of {len(above)};   {row}")
        print(f"            error of the estimate: {(sum(e * e for e in errors) / len(errors)) ** 0.5:.3f}")


def _orders(texts: Sequence[str]) -> None:
    """Whether the texts and near copies of half of them fall into the same clusters, however they come."""
    from tasks.text.dedup import signature_row

    rng = random.Random(2)
    copies = [_near_copy(text, rng) for text in texts[::2]]
    rows = [signature_row(f"{number:064x}", text) for number, text in enumerate([*texts, *copies])]
    found = []
    for parts, order in ((1, 0), (1, 1), (2, 2), (2, 3), (5, 4), (5, 5)):
        shuffled = random.Random(order).sample(rows, len(rows))
        with tempfile.TemporaryDirectory() as folder:
            found.append(_clusters(Path(folder), [shuffled[number::parts] for number in range(parts)]))
    same = sum(each == found[0] for each in found)
    print(f"\n{len(rows):,} documents as 1, 2 and 5 parts, each in two orders")
    print(f"  {same} of {len(found)} give the same clusters ({len(found[0]):,} documents go)")


def _near_copy(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    words[rng.randrange(len(words))] = "other"
    return " ".join(words)


def _clusters(folder: Path, parts: Sequence[Sequence[dict[str, Any]]]) -> dict[str, str]:
    """Names of the documents that go, each with the one that stays."""
    from tasks.text.dedup_cluster import cluster
    from tasks.text.dedup_config import DeduplicateConfig
    from tasks.text.dedup_ledger import Ledger, records_of

    names = [row["doc_id"] for part in parts for row in part]
    with Ledger(folder) as ledger:
        for part in parts:
            ids = [row["doc_id"] for row in part]
            columns = [[row[name] for row in part] for name in ("text_sha256", "minhash", "length")]
            ledger.add(records_of(ids, ids, *columns, [None] * len(part), earlier=False))
        found = cluster(ledger, DeduplicateConfig())
    return {names[row]: names[stays] for row, stays in zip(found.rows, found.survivors, strict=True)}


def _ledger_of(folder: Path, signatures: Sequence[object]) -> Ledger:
    import numpy as np

    from tasks.text.dedup_ledger import Ledger, records_of

    ledger = Ledger(folder)
    rows = [np.asarray(one, "<u4").tobytes() for one in signatures]
    names = [f"{i:064x}" for i in range(len(rows))]
    ledger.add(
        records_of(
            names,
            names,
            [os.urandom(32) for _ in rows],
            rows,
            [1] * len(rows),
            [None] * len(rows),
            earlier=False,
        )
    )
    return ledger


def _memory(documents: int) -> None:
    print("\nreduce step (a fifth are near-duplicates)")
    for count in (documents // 10, documents):
        command = [sys.executable, __file__, "--reduce", "--documents", str(count)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = json.loads(out.strip().splitlines()[-1])
        print(
            f"  {count:9,} documents: {count / found['seconds']:9,.0f} a second, "
            f"peak {found['peak_mb']:.0f} MB ({found['base_mb']:.0f} MB of it before), {found['gone']:,} go"
        )


def _reduce(documents: int) -> dict[str, float]:
    """Cluster random signatures, each fifth a near copy of the one before, and report the peak memory."""
    import numpy as np

    from tasks.text.dedup import BINS
    from tasks.text.dedup_cluster import cluster
    from tasks.text.dedup_config import DeduplicateConfig
    from tasks.text.dedup_ledger import Ledger, records_of

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder)) as ledger:
        for start in range(0, documents, 500):
            values = rng.integers(0, 2**32, (500, BINS), dtype=np.uint32)
            values[4::5, 12:] = values[3::5, 12:]
            names = [f"{start + i:064x}" for i in range(500)]
            noise = [rng.bytes(32) for _ in names]
            ledger.add(
                records_of(
                    names, names, noise, [v.tobytes() for v in values], [1] * 500, [None] * 500, earlier=False
                )
            )
        base = _peak_mb()
        start_s = time.perf_counter()
        gone = len(cluster(ledger, DeduplicateConfig()).rows)
        seconds = time.perf_counter() - start_s
    peak = _peak_mb()
    return {"seconds": seconds, "base_mb": base, "peak_mb": peak, "gone": gone}


def _peak_mb() -> float:
    """The process's own high-water mark; ru_maxrss would count that of the parent it was forked from."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
