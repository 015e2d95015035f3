"""Token shards on S3, read through a bounded folder: the same batches, few bytes, nothing damaged taken."""

import errno
import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import obstore
import pytest

from storage.errors import ArtifactDamagedError, ArtifactMissingError, DiskFullError
from storage.shard_cache import RemoteSet, ShardCache
from storage.token_shards import INDEX, GroupInfo, TokenIndex, open_set, write_index, write_shard
from tasks.tokens.loader import Loader, Stream

SHARDS, DOCUMENTS, LENGTH = 5, 8, 50


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A set of five shards on the disk."""
    folder = tmp_path / "local"
    folder.mkdir()
    shards = []
    for number in range(SHARDS):
        names = [f"{number}-{document}" for document in range(DOCUMENTS)]
        shards.append(
            write_shard(
                folder / f"shard-{number}.arrow",
                doc_ids=names,
                urls=names,
                source_sha256=[hashlib.sha256(name.encode()).digest() for name in names],
                ids=np.random.default_rng(number).integers(1, 99, DOCUMENTS * LENGTH).astype(np.uint16),
                offsets=np.arange(DOCUMENTS + 1) * LENGTH,
                tokenizer="none",
                eos=0,
                vocab_size=100,
            )
        )
    groups = (GroupInfo(name="", tokens=SHARDS * DOCUMENTS * LENGTH, repeats=1.0, share=1.0),)
    write_index(
        folder, TokenIndex(tokenizer="none", vocab_size=100, eos=0, shards=tuple(shards), groups=groups)
    )
    return folder


@pytest.fixture
def remote(s3: str, local: Path) -> str:
    """The same set in a bucket."""
    uri = f"{s3}/{uuid.uuid4().hex}"
    objects = obstore.store.from_url(uri)
    for path in local.iterdir():
        obstore.put(objects, path.name, path.read_bytes())
    return uri


@pytest.fixture
def cache(remote: str, local: Path, tmp_path: Path) -> Iterator[ShardCache]:
    """Room for two shards of the five."""
    size = max(info.bytes for info in open_set(local).index.shards)
    made = ShardCache(remote, tmp_path / "cache", max_bytes=2 * size)
    yield made
    made.close()
    assert not list(made.folder.iterdir())


def test_batches_are_those_of_the_disk_within_the_bound(cache: ShardCache, local: Path) -> None:
    near, far = open_set(local), RemoteSet(cache)
    order = {"seq_len": 16, "global_batch": 4, "seed": 3, "block_windows": 8, "pool_blocks": 2}
    digest = near.index.digest
    ours = Loader([Stream(far.group(""))], manifest_digest=far.index.digest, **order)
    theirs = Loader([Stream(near.group(""))], manifest_digest=digest, **order)
    for index in range(2 * theirs.sequences // 4):
        far.prefetch(ours.upcoming(index, 4))
        for mine, wanted in zip(ours.batch(index), theirs.batch(index), strict=True):
            assert np.array_equal(mine, wanted)
        assert ours.documents(index) == theirs.documents(index)
        assert cache.held() <= 4 * cache.max_bytes  # what is on its way comes on top
    assert cache.downloads >= SHARDS


def test_prefetching_stops_at_the_bound(cache: ShardCache) -> None:
    far = RemoteSet(cache)
    far.prefetch([(0, shard) for shard in range(SHARDS)])
    for shard in (0, 1):
        assert len(far.group("")[shard].ids) == DOCUMENTS * LENGTH
    assert cache.downloads == 2
    assert cache.held() <= cache.max_bytes


def test_a_damaged_or_missing_shard_is_said(cache: ShardCache, remote: str) -> None:
    far = RemoteSet(cache)
    objects = obstore.store.from_url(remote)
    content = bytearray(bytes(obstore.get(objects, "shard-0.arrow").bytes()))
    place = content.index(far.group("")[0].ids[:40].tobytes())
    content[place] ^= 1
    cache.close()
    obstore.put(objects, "shard-0.arrow", bytes(content))
    obstore.delete(objects, "shard-1.arrow")
    fresh = ShardCache(remote, cache.folder, cache.max_bytes)
    shards = RemoteSet(fresh).group("")
    with pytest.raises(ArtifactDamagedError, match="not what the index says"):
        _ = shards[0].ids
    with pytest.raises(ArtifactMissingError, match=r"shard-1\.arrow is missing"):
        _ = shards[1].ids
    assert fresh.held() == 0
    fresh.close()
    obstore.delete(objects, INDEX)
    with pytest.raises(ArtifactMissingError, match=r"has no tokens.json"):
        RemoteSet(cache)


def test_a_full_disk_says_what_to_do_and_leaves_no_half_of_a_shard(
    cache: ShardCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = cache.index().shards[0]

    def overflow(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(obstore, "get", overflow)
        with pytest.raises(DiskFullError, match="Free some space"):
            cache.get(info)
    assert (cache.held(), list(cache.folder.iterdir())) == (0, [])
    assert cache.get(info).tokens == info.tokens
