"""Shards: one mapped array of ids, documents with provenance, damage that is noticed."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import ArtifactDamagedError, ArtifactMissingError
from storage.token_shards import (
    GroupInfo,
    ShardInfo,
    TokenIndex,
    digest_ids,
    open_set,
    open_shard,
    write_index,
    write_shard,
)


def write(path: Path, documents: list[list[int]]) -> ShardInfo:
    return write_shard(
        path,
        doc_ids=[f"doc-{path.stem}-{i}" for i in range(len(documents))],
        urls=[f"https://example.org/{i}" for i in range(len(documents))],
        source_sha256=[hashlib.sha256(bytes([i % 256])).digest() for i in range(len(documents))],
        ids=np.array([token for document in documents for token in document], np.uint16),
        offsets=np.cumsum([0, *map(len, documents)]),
        tokenizer="t" * 64,
        eos=0,
        vocab_size=500,
    )


def write_set(folder: Path) -> TokenIndex:
    infos = [write(folder / f"shard-{i:05d}.arrow", [[1, 2, i, 0], [3, 0]]) for i in range(3)]
    held_out = write(folder / "heldout" / "heldout.arrow", [[7, 0]])
    index = TokenIndex(
        tokenizer="t" * 64,
        vocab_size=500,
        eos=0,
        shards=tuple(infos),
        groups=(GroupInfo(name="", tokens=18, repeats=1, share=1),),
        held_out=held_out.model_copy(update={"name": "heldout/heldout.arrow"}),
    )
    write_index(folder, index)
    return index


@given(st.lists(st.lists(st.integers(0, 65535), min_size=1, max_size=30), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_documents_come_back_as_written(documents: list[list[int]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        info = write(Path(name) / "s.arrow", documents)
        shard = open_shard(Path(name) / "s.arrow")
        assert [row["input_ids"] for row in shard.batch.to_pylist()] == documents
        assert shard.ids.tolist() == [token for document in documents for token in document]
        assert (info.documents, info.tokens) == (len(documents), len(shard.ids))
        assert info.ids_sha256 == digest_ids(shard.ids)
        ends = shard.offsets.tolist()
        for row, (start, stop) in enumerate(pairwise(ends)):
            assert shard.documents(start, stop) == [f"doc-s-{row}"]
        assert shard.documents(0, ends[-1]) == [f"doc-s-{row}" for row in range(len(documents))]


def test_ids_are_the_file_itself_one_batch_uncompressed(tmp_path: Path) -> None:
    write(tmp_path / "s.arrow", [[1, 2, 3, 0], [4, 0]])
    before = pa.total_allocated_bytes()
    shard = open_shard(tmp_path / "s.arrow")
    assert pa.total_allocated_bytes() - before < 64
    assert not shard.ids.flags.writeable
    assert np.array([1, 2, 3, 0, 4, 0], "<u2").tobytes() in (tmp_path / "s.arrow").read_bytes()
    expected = {"format": "modelmill-tokens/1", "tokenizer": "t" * 64, "eos": "0", "vocab_size": "500"}
    assert shard.metadata == expected
    with pa.ipc.open_stream(tmp_path / "s.arrow") as stream:
        assert len(list(stream)) == 1


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "s.arrow", [[1, 2, 0], [3, 0]])
    assert (tmp_path / "a" / "s.arrow").read_bytes() == (tmp_path / "b" / "s.arrow").read_bytes()


def test_datasets_reads_shard_and_set(tmp_path: Path) -> None:
    write_set(tmp_path)
    one = datasets.Dataset.from_file(str(tmp_path / "shard-00001.arrow"))
    assert one[0]["input_ids"] == [1, 2, 1, 0]
    assert one.features["input_ids"] == datasets.List(datasets.Value("uint16"))
    whole = datasets.load_from_disk(str(tmp_path))
    assert len(whole) == 6
    assert whole.features == one.features
    assert len(datasets.load_from_disk(str(tmp_path / "heldout"))) == 1


def test_a_set_opens_by_its_index_and_names_itself(tmp_path: Path) -> None:
    index = write_set(tmp_path)
    tokens = open_set(tmp_path)
    assert tokens.index == index
    assert tokens.index.digest == index.digest
    assert [shard.tokens for shard in tokens.group("")] == [6, 6, 6]
    assert tokens.held_out is not None
    assert tokens.held_out.ids.tolist() == [7, 0]
    other = index.model_copy(update={"groups": (GroupInfo(name="", tokens=18, repeats=2, share=1),)})
    assert other.digest != index.digest


def test_a_truncated_shard_is_noticed(tmp_path: Path) -> None:
    write_set(tmp_path)
    path = tmp_path / "shard-00001.arrow"
    whole = path.read_bytes()
    for size in (len(whole) - 8, len(whole) - 100, 300, 10, 0):
        path.write_bytes(whole[:size])
        with pytest.raises(ArtifactDamagedError, match=r"shard-00001\.arrow"):
            _ = open_set(tmp_path).shards


def test_what_is_missing_or_foreign_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissingError, match=r"has no tokens\.json"):
        open_set(tmp_path)
    write_set(tmp_path)
    (tmp_path / "shard-00002.arrow").unlink()
    with pytest.raises(ArtifactMissingError, match=r"shard-00002\.arrow is not there"):
        _ = open_set(tmp_path).shards
    index = json.loads((tmp_path / "tokens.json").read_text())
    (tmp_path / "tokens.json").write_text(json.dumps({**index, "format": "modelmill-tokens/0"}))
    with pytest.raises(ArtifactDamagedError, match="format modelmill-tokens/0"):
        open_set(tmp_path)
    (tmp_path / "tokens.json").write_text("{}")
    with pytest.raises(ArtifactDamagedError, match="is not an index"):
        open_set(tmp_path)
    table = pa.table({"input_ids": [[1]]})
    with pa.ipc.new_stream(tmp_path / "foreign.arrow", table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ArtifactDamagedError, match="no token shard: it has input_ids of list"):
        open_shard(tmp_path / "foreign.arrow")
