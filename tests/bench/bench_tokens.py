"""Text to committed shards beside datasets.map, and the loader beside Hugging Face's torch format.

Both sides get the same Parquet documents, the same tokenizer and the same machine, one after the other, in
rounds, and the ratio is that of the best rounds. Batches are read in a process with the environment of a
training, whose allocator keeps memory: for both sides. Real pages are used where they are at hand (see
tests/conftest.py), else the source files of the standard library.

Run: python tests/bench/bench_tokens.py [--megabytes 20] [--rounds 3]
"""

import argparse
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("MODELMILL_TEST_DATA", ROOT.parent / "shared/data"))
SEQ_LEN, BATCH = 1024, 32


def texts() -> Iterator[tuple[str, str]]:
    """(language, text) of real pages, or of the standard library's sources."""
    warcs = sorted(DATA.glob("handbook/handbook-[ez]*.warc.gz")) + sorted(DATA.glob("wcxb/*.warc.gz"))
    if not warcs:
        for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
            if text := path.read_text(encoding="utf-8", errors="replace"):  # packages have empty files
                yield "en", text
        return
    from fastwarc.warc import ArchiveIterator, WarcRecordType
    from resiliparse.extract.html2text import extract_plain_text

    for warc in warcs:
        with warc.open("rb") as file:
            for record in ArchiveIterator(file, record_types=WarcRecordType.response):
                html = record.reader.read(2_000_000).decode("utf-8", "replace")
                text = extract_plain_text(html, main_content=True)
                if len(text) > 200:
                    yield ("zh" if "zh-CN" in warc.name else "en"), text


def write_corpus(folder: Path, megabytes: float, parts: int = 4) -> int:
    """Documents of about that many bytes in a few parts; returns the bytes.

    Where there is less text, copies follow in which each line's words are in another order, so that neither
    side profits from having seen a text before more than real text would let it.
    """
    from storage.documents import PartWriter
    from storage.schemas import DOCUMENTS

    originals, total, number = list(texts()), 0, 0
    writers = [PartWriter(folder / f"part-{index:05d}.parquet", DOCUMENTS) for index in range(parts)]
    while total < megabytes * 1e6:
        for language, original in originals:
            turn = number // len(originals)
            text = "\n".join(_turned(line, turn) for line in original.split("\n")) if turn else original
            row = {"url": f"https://example.org/{number}", "domain": "example.org", "source_file": "bench"}
            name = hashlib.sha256(f"{number}{text}".encode()).hexdigest()
            writers[number % parts].write(
                {**row, "doc_id": name, "source_offset": number, "language": language, "text": text}
            )
            total, number = total + len(text.encode()), number + 1
            if total >= megabytes * 1e6:
                break
    for writer in writers:
        writer.__exit__(None, None, None)
    return total


def _turned(line: str, turn: int) -> str:
    words = line.split(" ")
    return " ".join(words[turn % len(words) :] + words[: turn % len(words)])


def artifacts(work: Path) -> tuple[Any, Any, Any]:
    """What comes before tokenizing: the corpus, one held-out document, nothing excluded."""
    from storage.artifacts import Recipe
    from storage.documents import PartWriter
    from storage.schemas import DOCUMENTS
    from storage.store import Draft, open_store
    from tasks.hold_out import EXCLUDED

    def corpus(draft: Draft) -> dict[str, Any]:
        for path in (work / "corpus").glob("*.parquet"):
            shutil.copy(path, draft.path)
        return {}

    def heldout(draft: Draft) -> dict[str, Any]:
        with PartWriter(draft.path / "heldout.parquet", DOCUMENTS) as writer:
            row = dict.fromkeys(("url", "domain", "source_file", "language"), "en")
            writer.write({**row, "doc_id": "0" * 64, "source_offset": 0, "text": "held out"})
        return {}

    def excluded(draft: Draft) -> dict[str, Any]:
        with PartWriter(draft.path / "excluded.parquet", EXCLUDED):
            return {}

    corpus_, heldout_, excluded_ = (
        open_store().make(Recipe(stage=maker.__name__, code={}, inputs={}), (), maker)
        for maker in (corpus, heldout, excluded)
    )
    return corpus_, heldout_, excluded_


def plain(part: Path, work: Path) -> Path:
    """The part with the columns that datasets can read (it has no maps) and needs."""
    import pyarrow.parquet as pq

    path = work / f"plain-{part.name}"
    pq.write_table(pq.read_table(part, columns=["doc_id", "url", "text"]), path, compression="zstd")
    return path


def best(rounds: int, *sides: Callable[[int], float]) -> list[float]:
    """Seconds of each side's fastest round, as the sides tell them; the sides take turns."""
    found = [[side(index) for side in sides] for index in range(rounds)]
    return [min(times) for times in zip(*found, strict=True)]


def timed(work: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def bench_encoding(work: Path, megabytes: float, rounds: int, vocab_size: int) -> Path:
    """Parquet to committed shards beside datasets.map and save_to_disk."""
    from storage.store import open_store
    from tasks.tokenization import tokenize, train_tokenizer
    from tasks.tokens.config import TokenizeConfig

    (work / "corpus").mkdir()
    size = write_corpus(work / "corpus", megabytes)
    corpus, heldout, excluded = artifacts(work)
    config = TokenizeConfig(vocab_size=vocab_size, sample_megabytes=4)
    tokenizer = train_tokenizer.run_now(corpus, excluded, config.tokenizer)
    folder = open_store().open(tokenizer)
    for path in sorted((work / "corpus").glob("*.parquet")):
        plain(path, work)
    made = {}

    def ours(index: int) -> float:
        home = work / f"ours-{index}"
        os.environ["MODELMILL_STORE"] = str(home)
        for artifact in (corpus, heldout, excluded, tokenizer):
            (home / artifact.kind).mkdir(parents=True)
            (home / artifact.kind / artifact.key).symlink_to(work / "store" / artifact.kind / artifact.key)
        seconds = timed(lambda: tokenize.run_now(corpus, heldout, excluded, tokenizer, config))
        made["ours"] = open_store().open(tokenize.run_now(corpus, heldout, excluded, tokenizer, config))
        return seconds

    def mapped(processes: int) -> Callable[[int], float]:
        def run(index: int) -> float:
            made["map"] = work / f"map-{processes}-{index}"
            command = [sys.executable, __file__, "--peer", str(work), str(folder), str(made["map"])]
            environment = {**os.environ, "TOKENIZERS_PARALLELISM": "true" if processes == 1 else "false"}
            told = subprocess.run(
                [*command, str(processes)], env=environment, check=True, capture_output=True, text=True
            )
            return float(told.stdout.split()[-1])

        return run

    times = best(rounds, ours, mapped(1), mapped(os.cpu_count() or 2))
    print(f"text to committed shards, {size / 1e6:.1f} MB, vocabulary {vocab_size:,}")
    for name, seconds in zip(("modelmill", "datasets.map", "datasets.map num_proc"), times, strict=True):
        print(f"  {name:24s} {seconds:8.2f} s {size / seconds / 1e6:8.1f} MB/s")
    print(f"  ratio to the better of the two: {min(times[1:]) / times[0]:.1f}   ids identical: {_same(made)}")
    return made["ours"]


def peer(work: Path, tokenizer: Path, out: Path, processes: int) -> float:
    """Seconds from the same documents in Parquet to a saved dataset, in a process of its own."""
    import datasets
    from transformers import AutoTokenizer

    datasets.disable_progress_bars()
    auto = AutoTokenizer.from_pretrained(tokenizer)
    files = [str(path) for path in sorted(work.glob("plain-*.parquet"))]

    def encode(rows: dict[str, list[str]]) -> dict[str, Any]:
        ids = auto(rows["text"], return_attention_mask=False)["input_ids"]
        return {"input_ids": [[*some, auto.eos_token_id] for some in ids]}

    def run() -> None:
        documents = datasets.Dataset.from_parquet(files, cache_dir=f"{out}.cache")
        kwargs = {
            "batched": True,
            "remove_columns": ["text"],
            "num_proc": processes if processes > 1 else None,
        }
        documents.map(encode, **kwargs).save_to_disk(str(out))

    return timed(run)


def _same(made: dict[str, Path]) -> bool:
    import datasets

    ours, theirs = (datasets.load_from_disk(str(made[name])) for name in ("ours", "map"))
    if len(ours) != len(theirs):
        return False
    pairs = zip(ours.sort("doc_id"), theirs.sort("doc_id"), strict=True)
    return all(a["doc_id"] == b["doc_id"] and a["input_ids"] == b["input_ids"] for a, b in pairs)


def bench_loading(folder: Path, rounds: int) -> None:
    """Random 32 x 1,024 batches: the loader beside a DataLoader over windows in torch format."""
    import datasets
    import numpy as np
    import torch

    from storage.token_shards import open_set
    from tasks.tokens.loader import Loader, Stream

    tokens = open_set(folder)
    loader = Loader([Stream(tokens.shards)], seq_len=SEQ_LEN, global_batch=BATCH, seed=1, manifest_digest="")
    flat = np.concatenate([shard.ids for shard in tokens.shards])
    width = SEQ_LEN + 1
    windows = flat[: len(flat) // width * width].reshape(-1, width)
    features = datasets.Features({"input_ids": datasets.List(datasets.Value("uint16"), length=width)})
    rows = datasets.Dataset.from_dict({"input_ids": windows}, features=features).with_format("torch")
    theirs = torch.utils.data.DataLoader(rows, batch_size=BATCH, shuffle=True, drop_last=True)
    batches = min(len(theirs), 200)

    def read_ours(index: int) -> float:
        started = time.perf_counter()
        for number in range(index * 1000, (index + 1) * 1000):
            x, y = loader.batch(number)
            torch.from_numpy(x), torch.from_numpy(y)
        return time.perf_counter() - started

    def read_theirs(_: int) -> float:
        started = time.perf_counter()
        for number, batch in enumerate(theirs):
            ids = batch["input_ids"].long()
            _, _ = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
            if number + 1 == batches:
                break
        return time.perf_counter() - started

    ours, hf = best(rounds, read_ours, read_theirs)
    rates = [BATCH * SEQ_LEN * count / seconds / 1e6 for count, seconds in ((1000, ours), (batches, hf))]
    print(f"random batches of {BATCH} x {SEQ_LEN:,} from {len(flat) / 1e6:.1f} M tokens")
    print(f"  modelmill {rates[0]:8.1f} Mtok/s\n  HF torch format {rates[1]:8.1f} Mtok/s")
    print(f"  ratio {rates[0] / rates[1]:.1f}")


def main() -> None:
    """Run both benchmarks and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--peer", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--loading", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loading:
        bench_loading(arguments.loading, arguments.rounds)
        return
    if arguments.peer:
        *paths, processes = arguments.peer
        print(peer(*map(Path, paths), int(processes)))
        return
    from tasks.gpt.supervisor import training_environment

    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        os.environ["MODELMILL_HOME"] = str(work / "home")
        os.environ["MODELMILL_STORE"] = str(work / "store")
        folder = bench_encoding(work, arguments.megabytes, arguments.rounds, arguments.vocab_size)
        command = [sys.executable, __file__, "--loading", str(folder), "--rounds", str(arguments.rounds)]
        subprocess.run(command, check=True, env=training_environment(tuned_allocator=True, threads=0))
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(f"peak memory {peak / 1024:.0f} MB, both sides together")


if __name__ == "__main__":
    main()
