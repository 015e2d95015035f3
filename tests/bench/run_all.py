"""Every benchmark, one after the other: what ``make bench`` runs.

    python tests/bench/run_all.py [--only extract,clean] [--peers PYTHON] [--nanogpt FOLDER]

PYTHON (or MODELMILL_BENCH_PEERS) is the interpreter of a venv with the peers that cannot share ours, FOLDER
(or MODELMILL_BENCH_NANOGPT) one with nanoGPT's model.py; README.md beside this file says how to make both.
Without them, and where real pages (MODELMILL_TEST_DATA, or ../shared/data) or a library are missing, a
benchmark says what it leaves out. Ends with 1 where one failed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("MODELMILL_TEST_DATA", HERE.parents[2] / "shared/data"))
PEERS = os.environ.get("MODELMILL_BENCH_PEERS", "")
NANOGPT = os.environ.get("MODELMILL_BENCH_NANOGPT", "")
NEEDS = {"extract": ("trafilatura", "resiliparse", "lxml"), "training": ("torch",), "serving": ("torch",)}
"""Libraries without which a benchmark has nothing to measure."""
PAGES = {"corpus": "wcxb", "extract": "wcxb", "ingest": "wcxb", "languages": "handbook", "recipe": "handbook"}
"""Benchmarks of real pages, each with the folder that it cannot do without."""
DATATROVE = {"clean", "corpus", "dedup", "ingest"}
"""Benchmarks beside datatrove."""


def names() -> list[str]:
    """The benchmarks that are there, by name."""
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def why_skipped(name: str) -> str:
    """What a benchmark lacks on this machine; empty if nothing."""
    if name in PAGES and not (DATA / PAGES[name]).is_dir():
        return f"there are no pages in {DATA / PAGES[name]} (set MODELMILL_TEST_DATA)"
    lacking = [need for need in NEEDS.get(name, ()) if importlib.util.find_spec(need) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else ""


def arguments(name: str, peers: str, nanogpt: str) -> list[str]:
    """What a benchmark is started with."""
    found: list[str] = []
    if name in ("corpus", "ingest"):
        found += [str(path) for path in sorted((DATA / "wcxb").glob("*.warc.gz"))]
    if name == "dedup" and (gold := DATA / "wcxb/wcxb-dev-gold.parquet").is_file():
        found += ["--texts", str(gold)]
    if peers and name in DATATROVE:
        found += ["--peer" if name == "clean" else "--peers", peers]
    if name == "corpus":
        found += ["--rounds", "2"]
    if nanogpt and name == "training":
        found += ["--nanogpt", nanogpt]
    return found


def run(name: str, peers: str, nanogpt: str) -> int:
    """Run one benchmark; its exit status, 0 where it is skipped."""
    print(f"\n=== {name}", flush=True)
    if reason := why_skipped(name):
        print(f"skipped: {reason}", flush=True)
        return 0
    if name in DATATROVE and not peers:
        print("without datatrove: give --peers PYTHON", flush=True)
    if name == "training" and not nanogpt:
        print("without nanoGPT: give --nanogpt FOLDER", flush=True)
    started = time.monotonic()
    command = [sys.executable, str(HERE / f"bench_{name}.py"), *arguments(name, peers, nanogpt)]
    code = subprocess.run(
        command, check=False, env={**os.environ, "MODELMILL_TEST_DATA": str(DATA)}
    ).returncode
    print(f"--- {name}: {'failed' if code else 'done'} in {time.monotonic() - started:.0f} s", flush=True)
    return code


def main(given: Sequence[str] | None = None) -> int:
    """Run what was asked for; 1 where one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help=f"some of: {', '.join(names())}")
    parser.add_argument("--peers", default=PEERS, help="interpreter of the peers' venv")
    parser.add_argument("--nanogpt", default=NANOGPT, help="folder with nanoGPT's model.py")
    options = parser.parse_args(given)
    chosen = [name for name in options.only.split(",") if name] or names()
    if unknown := set(chosen) - set(names()):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    failed = [name for name in chosen if run(name, options.peers, options.nanogpt)]
    print(f"\n{len(chosen) - len(failed)} of {len(chosen)} benchmarks ended well", end="")
    print(f"; failed: {', '.join(failed)}" if failed else "")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
