"""Token shards: Arrow IPC streams whose ids are one flat, memory-mapped uint16 array.

| column | meaning |
|---|---|
| doc_id, url | the document, as in the corpus |
| source_sha256 | 32 bytes: sha256 of its text in UTF-8 |
| input_ids | its tokens, list<uint16>, the end-of-text id at the end |

One record batch, uncompressed, a row a document: a window of tokens is an address in a file, and documents
keep their provenance. The schema's metadata say the format, the tokenizer's digest, the end-of-text id and
the vocabulary size. ``datasets.Dataset.from_file`` opens a shard; ``state.json`` and ``dataset_info.json``
beside the shards make ``datasets.load_from_disk`` open the whole set, and a held-out set has a folder of its
own, which the training set does not list.

A truncated stream may read without error, so completeness comes from ``tokens.json``, which counts and
digests every shard. Its own digest names the data: what a saved position in a training refers to.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from storage.errors import ArtifactDamagedError, ArtifactMissingError

FORMAT = "modelmill-tokens/1"
INDEX = "tokens.json"
MAX_ROWS_TOKENS = 2**31 - 1
"""Arrow's list offsets have 32 bits."""

COLUMNS = (
    pa.field("doc_id", pa.string(), nullable=False),
    pa.field("url", pa.string(), nullable=False),
    pa.field("source_sha256", pa.binary(32), nullable=False),
    pa.field("input_ids", pa.list_(pa.field("item", pa.uint16(), nullable=False)), nullable=False),
)
FEATURES = {
    "doc_id": {"dtype": "string", "_type": "Value"},
    "url": {"dtype": "string", "_type": "Value"},
    "source_sha256": {"dtype": "fixed_size_binary[32]", "_type": "Value"},
    "input_ids": {"feature": {"dtype": "uint16", "_type": "Value"}, "_type": "List"},
}
"""As datasets writes them."""

Ids = NDArray[np.uint16]
PackingPlan = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]
"""Where each sequence's pieces start, how long they are, and the pieces' offsets by sequence."""


class ShardInfo(BaseModel):
    """One shard as the index has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Path inside the set's folder."""
    group: str = ""
    """Which group of the mixture it belongs to."""
    documents: int
    tokens: int
    bytes: int
    ids_sha256: str
    """Of the ids as little-endian uint16."""


class GroupInfo(BaseModel):
    """One group of the mixture: how often an epoch goes over it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    tokens: int
    repeats: float
    share: float
    """Of an epoch's tokens."""


class PlanInfo(BaseModel):
    """The packing plan of one group: which pieces of its documents make up each sequence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    group: str
    length: int
    """Tokens in a sequence."""
    sequences: int
    padding: float
    """Share of places without a token."""


class TokenIndex(BaseModel):
    """What ``tokens.json`` holds: the training shards, the held-out shard, and what the ids mean."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str = FORMAT
    tokenizer: str
    """Digest of the tokenizer."""
    vocab_size: int
    eos: int
    shards: tuple[ShardInfo, ...]
    groups: tuple[GroupInfo, ...]
    held_out: ShardInfo | None = None
    plans: tuple[PlanInfo, ...] = ()

    @property
    def tokens(self) -> int:
        """Training tokens, each counted once."""
        return sum(shard.tokens for shard in self.shards)

    @property
    def digest(self) -> str:
        """Hex sha256 that names this data and its mixture."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class ShardView:
    """A shard opened without copying: its ids are a view of the mapped file."""

    def __init__(self, path: Path, batch: pa.RecordBatch) -> None:
        self.path = path
        self.batch = batch
        lists = batch.column("input_ids")
        self.offsets: NDArray[np.int32] = lists.offsets.to_numpy(zero_copy_only=True)
        """Where each document begins in ``ids``, and the end of the last: int32[documents + 1]."""
        self.ids: Ids = lists.values.to_numpy(zero_copy_only=True)
        """Every document's tokens, one after another: uint16[tokens], read-only."""

    @property
    def tokens(self) -> int:
        """How many there are."""
        return len(self.ids)

    @property
    def metadata(self) -> dict[str, str]:
        """Format, tokenizer digest, eos and vocab_size, as text."""
        found = self.batch.schema.metadata or {}
        return {key.decode(): value.decode() for key, value in found.items()}

    def documents(self, start: int, stop: int) -> list[str]:
        """doc_ids of the documents that tokens ``start`` to ``stop`` - 1 belong to, in order."""
        first = int(np.searchsorted(self.offsets, start, side="right")) - 1
        last = int(np.searchsorted(self.offsets, stop, side="left"))
        return [str(name) for name in self.batch.column("doc_id").slice(first, last - first).to_pylist()]


def write_shard(
    path: Path,
    *,
    doc_ids: Sequence[str] | pa.Array,
    urls: Sequence[str] | pa.Array,
    source_sha256: Sequence[bytes],
    ids: Ids,
    offsets: NDArray[np.integer],
    tokenizer: str,
    eos: int,
    vocab_size: int,
    group: str = "",
) -> ShardInfo:
    """Write one shard, whole or not at all; the same documents give the same bytes.

    Args:
        ids: uint16[tokens]: all documents, one after another, each with the end-of-text id at its end.
        offsets: int[documents + 1]: where each begins, and the end of the last.
        tokenizer: the tokenizer's digest.

    Raises ValueError for more tokens than 32-bit offsets can address, or columns of different length.
    """
    if len(ids) > MAX_ROWS_TOKENS:
        raise ValueError(f"{len(ids):,} tokens are too many for one shard: at most {MAX_ROWS_TOKENS:,}")
    metadata = {"format": FORMAT, "tokenizer": tokenizer, "eos": str(eos), "vocab_size": str(vocab_size)}
    schema = pa.schema(COLUMNS, metadata=metadata)
    lists = pa.ListArray.from_arrays(
        pa.array(offsets.astype(np.int32)), pa.array(ids, pa.uint16()), type=schema.field("input_ids").type
    )
    columns = [
        pa.array(doc_ids, pa.string()),
        pa.array(urls, pa.string()),
        pa.array(source_sha256, pa.binary(32)),
        lists,
    ]
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    partial = path.with_name(f".{path.name}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(batch)
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.rename(path)
    return ShardInfo(
        name=path.name,
        group=group,
        documents=len(batch),
        tokens=len(ids),
        bytes=path.stat().st_size,
        ids_sha256=digest_ids(ids),
    )


def digest_ids(ids: Ids) -> str:
    """Hex sha256 of ids as little-endian uint16."""
    return hashlib.sha256(np.ascontiguousarray(ids, dtype="<u2").data).hexdigest()


def open_shard(path: Path) -> ShardView:
    """Map a shard into memory; nothing is read until it is used.

    Raises ArtifactMissingError where there is no file and ArtifactDamagedError where it is no token shard.
    """
    batch = _open_batch(path)
    found = batch.schema.field("input_ids").type if "input_ids" in batch.schema.names else None
    if found != COLUMNS[3].type:
        raise ArtifactDamagedError(f"{path} is no token shard: it has input_ids of {found}")
    return ShardView(path, batch)


def _open_batch(path: Path) -> pa.RecordBatch:
    try:
        return pa.ipc.open_stream(pa.memory_map(str(path), "r")).read_next_batch()
    except FileNotFoundError as error:
        raise ArtifactMissingError(f"{path} is not there: tokenize again") from error
    except (pa.ArrowInvalid, OSError, StopIteration) as error:
        raise ArtifactDamagedError(f"{path} cannot be read as a stream of tokens: {error}") from error


PLAN = pa.schema(
    [
        pa.field("starts", pa.large_list(pa.field("item", pa.int64(), nullable=False)), nullable=False),
        pa.field("lengths", pa.large_list(pa.field("item", pa.int32(), nullable=False)), nullable=False),
    ]
)
"""One row a packed sequence: where its pieces begin in the run of their group's tokens, and how long."""


def write_plan(
    path: Path, starts: NDArray[np.int64], lengths: NDArray[np.int32], offsets: NDArray[Any]
) -> None:
    """Write a packing plan, laid out as the shards are: flat arrays with ``offsets`` a sequence."""
    columns = [
        pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(values), type=field.type)
        for values, field in zip((starts, lengths), PLAN, strict=True)
    ]
    path.parent.mkdir(exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, PLAN) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=PLAN))


def open_plan(path: Path) -> PackingPlan:
    """A packing plan's starts, lengths and offsets, mapped; raises as :func:`open_shard`."""
    starts, lengths = (_open_batch(path).column(name) for name in ("starts", "lengths"))
    return starts.values.to_numpy(), lengths.values.to_numpy(), starts.offsets.to_numpy()


def write_dataset_files(folder: Path, names: Sequence[str], fingerprint: str) -> None:
    """Write what ``datasets.load_from_disk(folder)`` needs to open the named shards, in this order."""
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": fingerprint[:16],
        "_format_kwargs": {},
        "_output_all_columns": False,
        **dict.fromkeys(("_format_columns", "_format_type", "_split")),
    }
    info = {"citation": "", "description": "", "features": FEATURES, "homepage": "", "license": ""}
    for name, value in (("state.json", state), ("dataset_info.json", info)):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_index(folder: Path, index: TokenIndex) -> None:
    """Write ``tokens.json`` and the dataset files; a held-out set gets its own beside its shard."""
    write_dataset_files(folder, [shard.name for shard in index.shards], index.digest)
    if index.held_out is not None:
        place = folder / index.held_out.name
        write_dataset_files(place.parent, [place.name], index.held_out.ids_sha256)
    (folder / INDEX).write_text(index.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_index(folder: Path) -> TokenIndex:
    """The index of a set.

    Raises ArtifactMissingError where there is none, ArtifactDamagedError where it is of another format.
    """
    try:
        text = (folder / INDEX).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ArtifactMissingError(
            f"{folder} has no {INDEX}: it holds no tokens, or not all of them"
        ) from error
    try:
        index = TokenIndex.model_validate_json(text)
    except ValueError as error:
        raise ArtifactDamagedError(f"{folder / INDEX} is not an index of tokens: {error}") from error
    if index.format != FORMAT:
        raise ArtifactDamagedError(f"{folder / INDEX} is of format {index.format}, this reads {FORMAT}")
    return index


class TokenSet:
    """A set of shards in a local folder, opened by its index."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = read_index(folder)

    @cached_property
    def shards(self) -> list[ShardView]:
        """The training shards, in the index's order."""
        return [self._open(info) for info in self.index.shards]

    @cached_property
    def held_out(self) -> ShardView | None:
        """The held-out shard, if the set has one."""
        return self._open(self.index.held_out) if self.index.held_out else None

    def group(self, name: str) -> list[ShardView]:
        """The training shards of one group of the mixture."""
        pairs = zip(self.index.shards, self.shards, strict=True)
        return [view for info, view in pairs if info.group == name]

    def plan(self, info: PlanInfo) -> PackingPlan:
        """The packing plan of one group."""
        return open_plan(self.folder / info.name)

    def _open(self, info: ShardInfo) -> ShardView:
        view = open_shard(self.folder / info.name)
        found = (view.tokens, len(view.batch), view.path.stat().st_size)
        if found != (info.tokens, info.documents, info.bytes):
            raise ArtifactDamagedError(
                f"{view.path} has {found[0]:,} tokens of {found[1]:,} documents in {found[2]:,} bytes, the "
                f"index says {info.tokens:,} of {info.documents:,} in {info.bytes:,}: delete the folder and "
                f"tokenize again"
            )
        return view


def open_set(folder: Path) -> TokenSet:
    """Open a tokenize artifact's folder; raises as :func:`read_index`, and on use as :func:`open_shard`."""
    return TokenSet(folder)
