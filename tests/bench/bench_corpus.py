"""Web archives to a deduplicated corpus beside datatrove: pages a second, with one core and with two.

    python tests/bench/bench_corpus.py FILE.warc.gz [FILE.warc.gz ...] [--peers PYTHON] [--rounds 2]

PYTHON is the interpreter of a venv with datatrove[io,processing]==0.10.1, lxml_html_clean and spacy; without
it only our own figures are printed. Every run takes the same files through the same steps: read, extract,
language (ours alone: datatrove's filter downloads its model), Gopher, C4 and FineWeb rules, personal data,
MinHash signatures, clusters, and the corpus written without duplicates. One core means that the kernel holds
the whole process tree to one processor, so that processes beside the main one do not flatter the figure.
Memory is the largest resident size of the whole process tree, added up twice a second from beside it;
what processes share counts once.

The peer reads copies of the files, made before its time is taken, in which responses without an address have
their record id for one: warcio, which it reads with, fails on them. Ours reads the files as they are.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")
SAMPLE_SECONDS = 0.5


def ours(files: list[Path], cores: int, mode: str) -> tuple[int, int]:
    """Our three stages, parts beside each other as a run does it; pages read and documents kept."""
    from tasks.pool_processes import dismiss, start_workers

    with tempfile.TemporaryDirectory() as folder:
        os.environ["MODELMILL_STORE"] = folder
        start_workers("tasks.text.pages", "tasks.text.cleaning")  # while this process imports the stages
        found = chain(files, cores, mode)
    dismiss()  # what workers took is counted when they end
    return found


def chain(files: list[Path], cores: int, mode: str) -> tuple[int, int]:
    """Files to a corpus in the store; pages read and documents kept."""
    from storage.artifacts import Artifact
    from tasks.clean import clean
    from tasks.deduplicate import deduplicate
    from tasks.ingest import ingest
    from tasks.text.config import CleanConfig
    from tasks.text.dedup_config import DeduplicateConfig
    from tasks.text.extract_config import ExtractConfig
    from tasks.web.config import IngestConfig
    from tasks.web.sources import resolve

    reading = IngestConfig()

    def cleaned(file: Path) -> tuple[Artifact, int]:
        (ref,) = resolve(str(file), reading)
        documents = ingest.run_now(ref, reading, ExtractConfig.model_validate({"mode": mode}))
        return clean.run_now(documents, CleanConfig()), documents.stats["records"]

    with ThreadPoolExecutor(cores) as parts:
        found = list(parts.map(cleaned, files))
    corpus = deduplicate.run_now([part for part, _ in found], DeduplicateConfig())
    return sum(pages for _, pages in found), corpus.stats["documents"]


def datatrove(files: list[Path], cores: int, mode: str) -> tuple[int, int]:
    """The steps of its FineWeb recipe; runs in the peer's own interpreter."""
    from datatrove.executor import LocalPipelineExecutor  # type: ignore[import-not-found]
    from datatrove.pipeline.dedup import minhash  # type: ignore[import-not-found]
    from datatrove.pipeline.extractors import Trafilatura  # type: ignore[import-not-found]
    from datatrove.pipeline.filters import (  # type: ignore[import-not-found]
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )
    from datatrove.pipeline.formatters import PIIFormatter  # type: ignore[import-not-found]
    from datatrove.pipeline.readers import ParquetReader, WarcReader  # type: ignore[import-not-found]
    from datatrove.pipeline.writers import ParquetWriter  # type: ignore[import-not-found]

    del mode
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        source.mkdir()
        for file in files:
            (source / file.name).symlink_to(file.resolve())

        def run(name: str, tasks: int, *steps: object) -> int:
            log = f"{folder}/log-{name}"
            done = LocalPipelineExecutor(list(steps), tasks=tasks, workers=cores, logging_dir=log).run()
            first = done.stats[0].stats
            return int(first["documents"].total) if "documents" in first else 0

        signatures, buckets, remove = (f"{folder}/{name}" for name in ("signatures", "buckets", "remove"))
        pages = run(
            "clean",
            cores,
            WarcReader(str(source), glob_pattern="*.warc.gz"),
            Trafilatura(favour_precision=True, timeout=10),
            GopherRepetitionFilter(),
            GopherQualityFilter(),
            C4QualityFilter(filter_no_terminal_punct=False),
            FineWebQualityFilter(),
            PIIFormatter(),
            ParquetWriter(f"{folder}/clean"),
            minhash.MinhashDedupSignature(signatures),
        )
        bands = minhash.MinhashConfig().num_buckets
        run("buckets", bands, minhash.MinhashDedupBuckets(signatures, buckets))
        run("cluster", 1, minhash.MinhashDedupCluster(buckets, remove))
        kept = [minhash.MinhashDedupFilter(remove), ParquetWriter(f"{folder}/corpus")]
        run("corpus", cores, ParquetReader(f"{folder}/clean"), *kept)
        import pyarrow.parquet as pq

        files = list(Path(f"{folder}/corpus").rglob("*.parquet"))
        return pages, sum(pq.read_metadata(file).num_rows for file in files)


WORK: dict[str, tuple[Callable[[list[Path], int, str], tuple[int, int]], int]] = {
    "modelmill, one core": (ours, 1),
    "modelmill, two cores": (ours, 2),
    "datatrove, one core": (datatrove, 1),
}


def measure(name: str, files: list[Path], mode: str) -> dict[str, float]:
    """Pages, documents kept, seconds on the clock and of the processors, on as many as the name says."""
    work, cores = WORK[name]
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, processors[:cores])
    started = time.monotonic()
    pages, kept = work(files, cores, mode)
    seconds, times = time.monotonic() - started, os.times()
    spent = times.user + times.system + times.children_user + times.children_system
    return {"pages": pages, "kept": kept, "seconds": seconds, "spent": spent}


def addressed(files: list[Path], folder: Path) -> list[Path]:
    """Copies of WARC files in which every record has an address; the other members are as they were."""
    from fastwarc.warc import ArchiveIterator

    for file in files:
        content = file.read_bytes()
        added: dict[int, bytes] = {}
        starts = []
        for record in ArchiveIterator(BytesIO(content), parse_http=False):
            starts.append(record.stream_pos)
            if "WARC-Target-URI" not in record.headers:
                record.headers["WARC-Target-URI"] = record.record_id
                record.write(plain := BytesIO())
                added[record.stream_pos] = gzip.compress(plain.getvalue(), mtime=0)
        ends = [*starts[1:], len(content)]
        members = (added.get(start, content[start:end]) for start, end in zip(starts, ends, strict=True))
        (folder / file.name).write_bytes(b"".join(members))
    return [folder / file.name for file in files]


def watched(command: list[str]) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run a command to its end; what came of it, and the largest resident size of its process tree in MB."""
    from process_memory import resident

    largest, ended = 0, threading.Event()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)

    def watch() -> None:
        nonlocal largest
        while not ended.wait(SAMPLE_SECONDS):
            largest = max(largest, resident(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, errors = process.communicate()
    ended.set()
    watcher.join()
    return subprocess.CompletedProcess(command, process.returncode, out, errors), largest / 2**20


def fastest(commands: dict[str, list[str]], rounds: int) -> dict[str, dict[str, float]]:
    """Each one's fastest round of several, with the largest memory; one that fails is named and left out.

    They take turns, so that a busy moment of the machine hits all alike.
    """
    best: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for name, command in commands.items():
            done, memory = watched(command)
            if done.returncode:
                print(f"{name:24} failed: {done.stderr.strip().splitlines()[-1][:160]}")
                continue
            found = json.loads(done.stdout.strip().splitlines()[-1])
            before = best.get(name, found | {"memory": 0})
            fewer = min(found, before, key=lambda each: each["seconds"])
            best[name] = fewer | {"memory": max(memory, before["memory"])}
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--peers", default="", help="interpreter of the peers' venv")
    parser.add_argument("--mode", default="fast", help="how our side extracts: fast, best or quality")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each, in turns; the fastest counts")
    parser.add_argument("--only", default="", help="(used by itself) measure one, print JSON")
    options = parser.parse_args()
    files = [file.resolve() for file in options.files]
    if options.only:
        print(json.dumps(measure(options.only, files, options.mode)))
        return
    with tempfile.TemporaryDirectory() as folder:
        commands = {}
        for name in WORK:
            peer = name.startswith("datatrove")
            if peer and not options.peers:
                continue
            interpreter = options.peers if peer else sys.executable
            given = addressed(files, Path(folder)) if peer else files
            commands[name] = [interpreter, __file__, "--only", name, "--mode", options.mode, *map(str, given)]
        report(fastest(commands, options.rounds))


def report(results: dict[str, dict[str, float]]) -> None:
    """Print a row for each."""
    print(
        f"{'':24}{'pages':>7}{'kept':>7}{'seconds':>9}{'pages/s':>9}{'CPU s':>8}{'MB':>7}{'to the first':>14}"
    )
    rates = {name: found["pages"] / found["seconds"] for name, found in results.items()}
    first = next(iter(rates.values()), 1.0)
    for name, found in results.items():
        print(
            f"{name:24}{found['pages']:7.0f}{found['kept']:7.0f}{found['seconds']:9.1f}{rates[name]:9.1f}"
            f"{found['spent']:8.1f}{found['memory']:7.0f}{rates[name] / first:13.2f}x"
        )
    print(
        "pages a second, imports and the workers' starts included; CPU s: processor seconds of all processes"
    )


if __name__ == "__main__":
    main()
