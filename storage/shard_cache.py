"""Token shards of an object store, read through a bounded folder on the local disk.

A shard comes down whole when it is first needed (or before, when asked to), is checked against the index,
and is mapped from there. The folder holds at most a stated number of bytes: what was used longest ago goes
first, and a shard that is gone is simply fetched again. A file that is still mapped stays readable after it
was removed, so nothing in use can break.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import NotFoundError

from storage.errors import ArtifactDamagedError, ArtifactMissingError, needing_room
from storage.token_shards import (
    INDEX,
    Ids,
    PackingPlan,
    PlanInfo,
    ShardInfo,
    ShardView,
    TokenIndex,
    digest_ids,
    open_plan,
    open_shard,
)

CHUNK_BYTES = 8 * 2**20
DOWNLOADS = 4


class ShardCache:
    """Shards of one remote folder in one local folder; safe for threads of one process."""

    def __init__(self, uri: str, folder: Path, max_bytes: int) -> None:
        """``uri`` is the folder with ``tokens.json``; ``max_bytes`` bounds the copies in ``folder``."""
        self.uri, self.folder, self.max_bytes = uri.rstrip("/"), folder, max_bytes
        self._objects = obstore.store.from_url(self.uri)
        self._open: OrderedDict[str, ShardView] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._coming: dict[str, Future[ShardView]] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(DOWNLOADS, thread_name_prefix="shards")
        self.downloads = 0
        """Shards fetched so far."""
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.iterdir():  # of another process: what it was is not known
            left.unlink()

    def index(self) -> TokenIndex:
        """The remote index; raises ArtifactMissingError, ArtifactDamagedError."""
        try:
            return TokenIndex.model_validate_json(self._get(INDEX))
        except ValueError as error:
            raise ArtifactDamagedError(f"{self.uri}/{INDEX} is not an index of tokens: {error}") from error

    def get(self, info: ShardInfo) -> ShardView:
        """The shard, from the folder or fetched now."""
        with self._lock:
            if (view := self._open.get(info.name)) is not None:
                self._open.move_to_end(info.name)
                return view
        return self._start(info).result()

    def prefetch(self, infos: Iterable[ShardInfo]) -> None:
        """Begin to fetch shards, as many of them as the folder can hold at once, and return."""
        room = self.max_bytes
        for info in infos:
            room -= info.bytes
            if room < 0:
                return
            with self._lock:
                here = info.name in self._open
                if here:
                    self._open.move_to_end(info.name)
            if not here:
                self._start(info)

    def plan(self, info: PlanInfo) -> PackingPlan:
        """A packing plan; beside its shards it is small, and not counted."""
        place = self._place(info.name)
        place.write_bytes(self._get(info.name))
        try:
            return open_plan(place)  # mapped: it stays readable without its name
        finally:
            place.unlink()

    def held(self) -> int:
        """Bytes of shards in the folder."""
        with self._lock:
            return sum(self._sizes.values())

    def close(self) -> None:
        """Stop fetching and empty the folder."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            for name in list(self._sizes):
                self._drop(name)

    def _start(self, info: ShardInfo) -> Future[ShardView]:
        with self._lock:
            if (future := self._coming.get(info.name)) is None:
                if (view := self._open.get(info.name)) is not None:
                    future = Future()
                    future.set_result(view)
                    return future
                future = self._coming[info.name] = self._pool.submit(self._fetch, info)
            return future

    def _fetch(self, info: ShardInfo) -> ShardView:
        try:
            with self._lock:
                self._make_room(info.bytes)
                self._sizes[info.name] = info.bytes
            view = self._download(info)
            with self._lock:
                self._open[info.name] = view
                self.downloads += 1
        except BaseException:
            with self._lock:
                self._drop(info.name)
            raise
        else:
            return view
        finally:
            with self._lock:
                self._coming.pop(info.name, None)

    def _make_room(self, wanted: int) -> None:
        while self._open and sum(self._sizes.values()) + wanted > self.max_bytes:
            self._drop(next(iter(self._open)))

    def _drop(self, name: str) -> None:
        self._open.pop(name, None)
        self._sizes.pop(name, None)
        with suppress(FileNotFoundError):
            self._place(name).unlink()

    def _place(self, name: str) -> Path:
        return self.folder / hashlib.sha256(name.encode()).hexdigest()[:32]

    def _download(self, info: ShardInfo) -> ShardView:
        place = self._place(info.name)
        try:
            with needing_room(self.folder, f"bringing {info.name}"), place.open("wb") as file:
                for chunk in obstore.get(self._objects, info.name).stream(min_chunk_size=CHUNK_BYTES):
                    file.write(chunk)
        except (NotFoundError, FileNotFoundError) as error:
            raise ArtifactMissingError(f"{self.uri}/{info.name} is missing: tokenize again") from error
        view = open_shard(place)
        if view.tokens != info.tokens or digest_ids(view.ids) != info.ids_sha256:
            raise ArtifactDamagedError(f"{self.uri}/{info.name} is not what the index says: tokenize again")
        return view

    def _get(self, name: str) -> bytes:
        try:
            return bytes(obstore.get(self._objects, name).bytes())
        except (NotFoundError, FileNotFoundError) as error:
            raise ArtifactMissingError(f"{self.uri} has no {name}: tokenize again") from error


class RemoteShard:
    """A shard that is fetched when its tokens are asked for."""

    def __init__(self, cache: ShardCache, info: ShardInfo) -> None:
        self._cache, self.info = cache, info

    @property
    def tokens(self) -> int:
        """How many it has, from the index."""
        return self.info.tokens

    @property
    def ids(self) -> Ids:
        """The tokens: uint16[tokens], a view of the local copy."""
        return self._cache.get(self.info).ids

    def documents(self, start: int, stop: int) -> list[str]:
        """doc_ids of the documents that tokens ``start`` to ``stop`` - 1 belong to, in order."""
        return self._cache.get(self.info).documents(start, stop)


class RemoteSet:
    """A remote set of shards: what :class:`storage.token_shards.TokenSet` is for a local one."""

    def __init__(self, cache: ShardCache) -> None:
        self.cache = cache
        self.index = cache.index()

    def group(self, name: str) -> list[RemoteShard]:
        """The training shards of one group of the mixture."""
        return [RemoteShard(self.cache, info) for info in self.index.shards if info.group == name]

    @property
    def held_out(self) -> RemoteShard | None:
        """The held-out shard, if the set has one."""
        return RemoteShard(self.cache, self.index.held_out) if self.index.held_out else None

    def plan(self, info: PlanInfo) -> PackingPlan:
        """The packing plan of one group."""
        return self.cache.plan(info)

    def prefetch(self, upcoming: Iterable[tuple[int, int]]) -> None:
        """Begin to fetch (group, shard) pairs, such as a loader's ``upcoming`` gives."""
        groups: list[list[Any]] = [self.group(group.name) for group in self.index.groups]
        self.cache.prefetch(groups[group][shard].info for group, shard in upcoming)
