"""Ingestion beside its peers: records read a second, pages brought to documents a second, peak memory.

    python tests/bench/bench_ingest.py FILE.warc.gz [FILE.warc.gz ...] [--peers PYTHON]

PYTHON is the interpreter of a venv with datatrove[io,processing]==0.10.1 and lxml_html_clean (which brings
warcio and trafilatura 1.11); without it only fastwarc stands beside. All take the same files, one after the
other. Rates are a processor second of the whole process tree, so that other work on the machine matters
little; memory is the largest resident size of any one process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")

Work = Callable[[list[Path]], int]


def read_ours(files: list[Path]) -> int:
    """Records, headers parsed, encodings undone, every fault found."""
    from tasks.web.config import IngestConfig
    from tasks.web.readers import read_records

    return sum(1 for file in files for _ in read_records(file, "warc", IngestConfig()))


def read_fastwarc(files: list[Path]) -> int:
    """fastwarc's own iterator."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    count = 0
    for file in files:
        for record in ArchiveIterator(str(file), record_types=WarcRecordType.response, auto_decode="all"):
            record.reader.read()
            count += 1
    return count


def read_warcio(files: list[Path]) -> int:
    """warcio, which datatrove reads with."""
    from warcio.archiveiterator import ArchiveIterator  # type: ignore[import-not-found]

    count = 0
    for path in files:
        with path.open("rb") as file:
            for record in ArchiveIterator(file):
                if record.rec_type == "response":
                    record.content_stream().read()
                    count += 1
    return count


def ingest_ours(files: list[Path], workers: int = 1, mode: str = "fast") -> int:
    """Our stage: WARC to a committed artifact of documents and rejects."""
    from storage.store import open_store
    from tasks.ingest import ingest
    from tasks.pool_processes import dismiss
    from tasks.text.extract_config import ExtractConfig
    from tasks.web.config import IngestConfig, ParallelConfig
    from tasks.web.sources import resolve

    config = IngestConfig(parallel=ParallelConfig(workers=workers))
    count = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MODELMILL_STORE"] = folder
        open_store()
        for file in files:
            (ref,) = resolve(str(file), config)
            artifact = ingest.run_now(ref, config, ExtractConfig.model_validate({"mode": mode}))
            count += artifact.stats["records"]
    dismiss()  # what workers took is counted when they end
    return count


def ingest_datatrove(files: list[Path]) -> int:
    """datatrove's reader and extractor, writing Parquet, as in its FineWeb recipe."""
    from datatrove.executor import LocalPipelineExecutor  # type: ignore[import-not-found]
    from datatrove.pipeline.extractors import Trafilatura  # type: ignore[import-not-found]
    from datatrove.pipeline.readers import WarcReader  # type: ignore[import-not-found]
    from datatrove.pipeline.writers import ParquetWriter  # type: ignore[import-not-found]

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in"
        source.mkdir()
        for file in files:
            (source / file.name).symlink_to(file.resolve())
        steps = [
            WarcReader(str(source), glob_pattern="*.warc.gz"),
            Trafilatura(favour_precision=True, timeout=10),
            ParquetWriter(f"{folder}/out"),
        ]
        stats = LocalPipelineExecutor(steps, tasks=1, workers=1, logging_dir=f"{folder}/log").run()
        return int(stats.stats[0].stats["documents"].total)


WORK: dict[str, Work] = {
    "read: ours": read_ours,
    "read: fastwarc": read_fastwarc,
    "read: warcio": read_warcio,
    "ingest: ours, 1 worker": ingest_ours,
    "ingest: ours, 2 workers": lambda files: ingest_ours(files, workers=2),
    "ingest: datatrove": ingest_datatrove,
}
PEERS = {"read: warcio", "ingest: datatrove"}


def measure(name: str, files: list[Path]) -> dict[str, float]:
    """Pages, processor seconds of the tree, seconds on the clock, and MB of the largest process."""
    if name not in PEERS or "read" in name:
        WORK[name]([])  # imports are not what is measured
    before, started = _processor_seconds(), time.monotonic()
    pages = WORK[name](files)
    seconds, clock = _processor_seconds() - before, time.monotonic() - started
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    memory = max(resource.getrusage(kind).ru_maxrss for kind in kinds) / 1024
    return {"pages": pages, "seconds": seconds, "clock": clock, "memory": memory}


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--peers", default="", help="interpreter of the peers' venv")
    parser.add_argument("--only", default="", help="(used by itself) measure one, print JSON")
    options = parser.parse_args()
    files = [file.resolve() for file in options.files]
    if options.only:
        print(json.dumps(measure(options.only, files)))
        return
    print(f"{'':26}{'pages':>7}{'CPU s':>9}{'clock s':>9}{'pages/CPU s':>13}{'MB':>7}{'ratio':>8}")
    first: dict[str, float] = {}
    for name in WORK:
        if name in PEERS and not options.peers:
            continue
        interpreter = options.peers if name in PEERS else sys.executable
        command = [interpreter, __file__, "--only", name, *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        if done.returncode:
            print(f"{name:26} failed: {done.stderr.strip().splitlines()[-1][:120]}")
            continue
        found = json.loads(done.stdout.strip().splitlines()[-1])
        rate = found["pages"] / found["seconds"]
        ratio = first.setdefault(name.partition(":")[0], rate) / rate
        print(
            f"{name:26}{found['pages']:7.0f}{found['seconds']:9.2f}{found['clock']:9.2f}{rate:13.1f}"
            f"{found['memory']:7.0f}{ratio:7.1f}x"
        )
    print("ratio: our rate (the first line of its kind) over this one's")


if __name__ == "__main__":
    main()
