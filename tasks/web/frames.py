"""Frames: the independently compressed pieces of a file, each read with bounds, each able to fail alone.

A WARC is a row of gzip members or zstd frames, one a record, so a broken one need not cost the next: after
a fault the reader looks for the next start of a frame. fastwarc's own iterator needs half the time (0.4 ms
less for a page of 250 kB, of which extraction takes ten times that) but stops at the first broken record, and
where a length is too long it hands on the following records' bytes as this one's; so the framing is ours.
"""

from __future__ import annotations

import zlib
from io import DEFAULT_BUFFER_SIZE, BytesIO, RawIOBase
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, cast

import zstandard

CHUNK = 64 * 2**10
GZIP_MAGIC = b"\x1f\x8b\x08"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ZSTD_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
ZSTD_DICTIONARY = 0x184D2A5D
ZSTD_MAX_WINDOW = 128 * 2**20
GZIP_LOOK = 1024
"""Compressed bytes of a gzip member that are looked into for its content's first ones: its header with a
file's name, and the tables of its first block."""
ZSTD_LOOK = 512
"""Compressed bytes of a zstd frame that are taken at a time, up to its first block's end."""
LONGEST_LOOK = 128 * 2**10 + 32
"""Bytes of the longest first block of a zstd frame, with the headers before it."""
SEARCHED = 2**20
"""Bytes of a file that are searched for a frame's start at a time, at most."""
LOOKED_AT = 16
"""Bytes looked into for each byte searched, from which a stretch is left."""

Compression = Literal["plain", "gzip", "zstd"]


class FrameError(Exception):
    """A frame that cannot be decompressed further; ``reason`` is the fault's name."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Frame(Protocol):
    """One independently compressed piece of a file."""

    offset: int
    """Byte in the file where it starts."""

    @property
    def consumed(self) -> int:
        """Compressed bytes read so far; after the end, the frame's length in the file."""

    def read(self) -> bytes:
        """The next piece of decompressed bytes, at most ``CHUNK``; empty at the frame's end.

        Raises FrameError where the bytes are cut short or are not what they should be.
        """


def compression_of(path: Path) -> Compression:
    """What a file is compressed with, by its first bytes, not by its name."""
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith(GZIP_MAGIC):
        return "gzip"
    if head == ZSTD_MAGIC or int.from_bytes(head, "little") in ZSTD_SKIPPABLE:
        return "zstd"
    return "plain"


class PlainFrame:
    """The rest of an uncompressed file as one frame."""

    def __init__(self, file: BinaryIO, offset: int) -> None:
        self._file = file
        self.offset = offset
        self.consumed = 0
        file.seek(offset)

    def read(self) -> bytes:
        """The next piece of the file."""
        data = self._file.read(CHUNK)
        self.consumed += len(data)
        return data


class GzipFrame:
    """One gzip member."""

    def __init__(self, file: BinaryIO, offset: int) -> None:
        self._file = file
        self.offset = offset
        self._inflate = zlib.decompressobj(wbits=31)
        self._taken = 0
        file.seek(offset)

    @property
    def consumed(self) -> int:
        """Compressed bytes read so far; of a broken member, those before the piece that could not be read."""
        left = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
        return self._taken - len(left)

    def read(self) -> bytes:
        """The next inflated piece; a bomb costs no more memory than this piece."""
        while not self._inflate.eof:
            unread = self._inflate.unconsumed_tail
            raw = unread or self._file.read(CHUNK)
            try:
                data = self._inflate.decompress(raw, CHUNK)
                self._taken += 0 if unread else len(raw)
            except zlib.error as error:
                raise FrameError("bad_compression", f"gzip member at byte {self.offset}: {error}") from None
            if data:
                return data
            if not raw and not self._inflate.eof:
                raise FrameError("truncated", f"the gzip member at byte {self.offset} is cut short")
        return b""


class ZstdFrame:
    """One zstd frame, whose blocks' headers are read with it, so that no byte after its end is taken."""

    def __init__(self, file: BinaryIO, offset: int, dictionary: bytes = b"") -> None:
        self.offset = offset
        self._blocks = _ZstdBlocks(file, offset)
        engine = _zstd_engine(dictionary)
        self._stream = engine.stream_reader(cast(BinaryIO, self._blocks), read_size=CHUNK)

    @property
    def consumed(self) -> int:
        """Compressed bytes read so far."""
        return self._blocks.taken

    def read(self) -> bytes:
        """The next decompressed piece."""
        try:
            data = bytes(self._stream.read(CHUNK))
        except zstandard.ZstdError as error:
            raise FrameError("bad_compression", f"zstd frame at byte {self.offset}: {error}") from None
        if not data and not self._blocks.ended:
            raise FrameError("truncated", f"the zstd frame at byte {self.offset} is cut short")
        return data


class SkippedFrame:
    """A zstd frame that holds no content, as parallel compressors put between the others."""

    def __init__(self, offset: int, consumed: int) -> None:
        self.offset = offset
        self.consumed = consumed

    def read(self) -> bytes:
        """Nothing."""
        return b""


def _zstd_engine(dictionary: bytes) -> zstandard.ZstdDecompressor:
    trained = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
    return zstandard.ZstdDecompressor(dict_data=trained, max_window_size=ZSTD_MAX_WINDOW)


class _ZstdBlocks(RawIOBase):
    """The bytes of one zstd frame (RFC 8878, section 3.1), block by block up to the last one's end."""

    def __init__(self, file: BinaryIO, offset: int) -> None:
        super().__init__()
        file.seek(offset)
        head = file.read(6)
        if head[:4] != ZSTD_MAGIC or len(head) < 6:
            raise FrameError("bad_compression", f"no zstd frame at byte {offset}")
        file.seek(offset)
        descriptor = head[4]
        single_segment = descriptor >> 5 & 1
        content_size_bytes = (1 if single_segment else 0, 2, 4, 8)[descriptor >> 6]
        dictionary_bytes = (0, 1, 2, 4)[descriptor & 3]
        self._file = file
        self._left = 5 + (1 - single_segment) + dictionary_bytes + content_size_bytes
        """Bytes up to the next block's header, or to the frame's end."""
        self._checksum = 4 if descriptor >> 2 & 1 else 0
        self._last = False
        self.taken = 0

    @property
    def ended(self) -> bool:
        """Whether all of the frame has been read."""
        return self._last and not self._left

    def read(self, size: int = DEFAULT_BUFFER_SIZE) -> bytes:
        """The next bytes, of one block at most; none at the frame's end, or where the file ends."""
        header = b""
        if not self._left and not self._last:
            header = self._file.read(3)
            number = int.from_bytes(header, "little")
            self._last, kind = bool(number & 1), number >> 1 & 3
            self._left = (1 if kind == 1 else number >> 3) + (self._checksum if self._last else 0)
        data = self._file.read(min(size - len(header), self._left))
        self._left -= len(data)
        self.taken += len(header) + len(data)
        return header + data


def open_frame(file: BinaryIO, compression: Compression, offset: int, dictionary: bytes = b"") -> Frame:
    """The frame that starts at ``offset``; FrameError where none does."""
    if compression == "gzip":
        return GzipFrame(file, offset)
    if compression == "zstd":
        file.seek(offset)
        head = file.read(8)
        if int.from_bytes(head[:4], "little") in ZSTD_SKIPPABLE:
            return SkippedFrame(offset, 8 + int.from_bytes(head[4:], "little"))
        return ZstdFrame(file, offset, dictionary)
    return PlainFrame(file, offset)


def zstd_dictionary(file: BinaryIO) -> tuple[bytes, int]:
    """The dictionary that a .warc.zst may carry in a skippable first frame, and the byte after it."""
    file.seek(0)
    head = file.read(8)
    if int.from_bytes(head[:4], "little") != ZSTD_DICTIONARY:
        return b"", 0
    length = int.from_bytes(head[4:], "little")
    data = file.read(min(length, ZSTD_MAX_WINDOW))
    if data[:4] == ZSTD_MAGIC:
        data = zstandard.ZstdDecompressor().stream_reader(BytesIO(data)).read(ZSTD_MAX_WINDOW)
    return bytes(data), 8 + length


class FalseStartsError(FrameError):
    """So much that only looks like frames that a part of a file was left; ``end`` is the byte after it."""

    def __init__(self, start: int, end: int) -> None:
        super().__init__("false_starts", f"bytes {start} to {end} are full of what looks like frames")
        self.end = end


def find_frame(
    file: BinaryIO, compression: Compression, start: int, opening: bytes, end: int, dictionary: bytes = b""
) -> int | None:
    """First byte in ``start`` to ``end`` at which a frame starts whose content begins with ``opening``.

    The magic alone occurs by chance once in 16 MB of compressed data, hence the look inside. Each look is
    short, and bounded in number: bytes full of magics would else hold a worker for minutes.

    Raises:
        FalseStartsError: a stretch of the file has more of them than LOOKED_AT allows for.
    """
    magic = {"gzip": GZIP_MAGIC, "zstd": ZSTD_MAGIC, "plain": opening}[compression]
    look = _Look(compression, opening, dictionary)
    begin, stretch = start, CHUNK
    while begin < end:
        file.seek(begin)
        piece = file.read(stretch + look.longest)
        last, looked_at = min(stretch, end - begin), 0
        found = piece.find(magic, 0, last + len(magic) - 1)
        while found >= 0:
            if compression == "plain" or look.begins(piece, found):
                return begin + found
            looked_at += look.bytes
            if looked_at > LOOKED_AT * stretch:
                raise FalseStartsError(begin + found, begin + last)
            found = piece.find(magic, found + 1, last + len(magic) - 1)
        if len(piece) < stretch:
            return None
        begin, stretch = begin + stretch, min(2 * stretch, SEARCHED)  # mostly the next frame is near
    return None


class _Look:
    """Tells what a frame's content begins with, from its first bytes."""

    def __init__(self, compression: Compression, opening: bytes, dictionary: bytes) -> None:
        self._gzip = compression == "gzip"
        self.longest = {"gzip": GZIP_LOOK, "zstd": LONGEST_LOOK, "plain": len(opening)}[compression]
        """Compressed bytes of a frame that the longest look takes."""
        self._opening = opening
        self._engine = _zstd_engine(dictionary)
        self.bytes = 0
        """Compressed bytes that the last look took."""

    def begins(self, piece: bytes, start: int) -> bool:
        """Whether the frame that starts here begins with the opening."""
        try:
            if self._gzip:
                self.bytes = GZIP_LOOK
                raw = piece[start : start + GZIP_LOOK]
                return zlib.decompressobj(wbits=31).decompress(raw, len(self._opening)) == self._opening
            source = BytesIO(piece)
            source.seek(start)
            try:
                head = self._engine.stream_reader(source, read_size=ZSTD_LOOK).read(len(self._opening))
            finally:
                self.bytes = source.tell() - start
            return bytes(head) == self._opening
        except (zlib.error, zstandard.ZstdError):
            return False
