"""WARC and WET read with bounds: a broken record costs itself alone and becomes a named fault."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from tasks.web.frames import (
    GZIP_MAGIC,
    ZSTD_MAGIC,
    Compression,
    FalseStartsError,
    Frame,
    FrameError,
    compression_of,
    find_frame,
    open_frame,
    zstd_dictionary,
)
from tasks.web.records import Fault, ReadLimits

Headers = dict[str, str]
"""Header names in lower case; of a repeated name, the first value."""

_RECORD_START = re.compile(rb"WARC/\d\.\d{1,2}\r?\n")  # 0.18 is a version too: ClueWeb09's
_BLANK_LINES = re.compile(rb"[\r\n]++")
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_LONGEST_START = 12
_DAMAGED_HEAD = 2**20
_READ_IN_VAIN = 256 * 2**20
"""Compressed bytes of a range's broken frames up to which what they hold is searched for other frames."""


@dataclass(frozen=True, slots=True)
class WarcRecord:
    """One WARC record as it stands in the file: its headers and its undecoded block."""

    offset: int
    headers: Headers
    block: bytes

    @property
    def type(self) -> str:
        """``response``, ``revisit``, ``conversion``...; empty where the header is missing."""
        return self.headers.get("warc-type", "").lower()

    @property
    def url(self) -> str:
        """The target's address, or the record's id where it has none; without the angle brackets that some
        writers put around it."""
        return (self.headers.get("warc-target-uri") or self.headers.get("warc-record-id", "")).strip("<>")


def read_warc(
    path: Path, limits: ReadLimits, start: int = 0, end: int | None = None
) -> Iterator[WarcRecord | Fault]:
    """Every record whose frame starts in the bytes ``start`` to ``end``, in order; faults where they are.

    Units of one file (:func:`units`) can so be read in any process: together they give what a whole reading
    gives. Raises OSError where the file itself cannot be read.
    """
    compression = _packing(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        dictionary, first = zstd_dictionary(file) if compression == "zstd" else (b"", 0)
        stop = size if end is None else min(end, size)
        reading = _Reading(file, compression, stop, limits, dictionary)
        offset: int | None = max(start, first)
        if start and offset is not None:
            offset = yield from reading.search(offset)
        while offset is not None and offset < stop:
            offset = yield from reading.frame(offset)


def _packing(path: Path) -> Compression:
    """A WARC's compression; where no record starts its first frame, that of most of what starts in it."""
    found = compression_of(path)
    with path.open("rb") as file:
        if found != "plain" and _starts_a_record(file, found):
            return found
        file.seek(0)
        head = file.read(_DAMAGED_HEAD)
    if _RECORD_START.match(head):
        return "plain"  # whatever is in its records: gzip bodies have the same magic
    marks: dict[Compression, bytes] = {"plain": b"WARC/1.", "gzip": GZIP_MAGIC, "zstd": ZSTD_MAGIC}
    return max(marks, key=lambda name: head.count(marks[name]))  # of equals the first, plain


def _starts_a_record(file: BinaryIO, compression: Compression) -> bool:
    """Whether the file's first frame decompresses to a record; damaged bytes can look like its magic."""
    try:
        dictionary, first = zstd_dictionary(file) if compression == "zstd" else (b"", 0)
        return open_frame(file, compression, first, dictionary).read().startswith(b"WARC/")
    except FrameError:
        return False


class _Reading:
    """The reading of one range of a file, frame by frame."""

    def __init__(
        self, file: BinaryIO, compression: Compression, stop: int, limits: ReadLimits, dictionary: bytes
    ) -> None:
        self._file, self._compression, self._stop = file, compression, stop
        self._limits, self._dictionary = limits, dictionary
        self._vain = 0
        """Compressed bytes of the frames that broke."""

    def frame(self, offset: int) -> Generator[WarcRecord | Fault, None, int | None]:
        """Yield one frame's records; return the next frame's offset, or None at the end."""
        frame: Frame | None = None
        try:
            frame = open_frame(self._file, self._compression, offset, self._dictionary)
            reader = _FrameReader(frame, self._limits, self._stop if self._compression == "plain" else None)
            yield from reader.records()
        except FrameError as error:
            yield Fault("", offset, error.reason, error.detail)
            return (yield from self.search(offset + self._passed(frame)))
        if reader.broken:
            return (yield from self.search(offset + self._passed(frame)))
        return offset + frame.consumed

    def _passed(self, broken: Frame | None) -> int:
        """How many bytes of a broken frame are not searched for another: the fewest, as the damage may have
        been long before it shows. Frames that lie in each other would so be read without end."""
        consumed = broken.consumed if broken else 0
        self._vain += consumed
        return max(1, consumed) if self._vain > _READ_IN_VAIN else 1

    def search(self, start: int) -> Generator[Fault, None, int | None]:
        """Return where the next frame starts, or None; yield what was left on the way."""
        while start < self._stop:
            try:
                return find_frame(
                    self._file, self._compression, start, b"WARC/", self._stop, self._dictionary
                )
            except FalseStartsError as error:
                yield Fault("", start, error.reason, error.detail)
                start = error.end
        return None


class _FrameReader:
    """Cuts one frame's decompressed bytes into records."""

    def __init__(self, frame: Frame, limits: ReadLimits, stop: int | None) -> None:
        self._frame = frame
        self._limits = limits
        self._stop = stop
        self._buffer = bytearray()
        self._position = 0  # of the buffer's first byte in the decompressed stream
        self._ended = False
        self._idle_from = 0  # stream position of the last whole record's end
        self._blankless = 0  # no blank line ends before here: what looks like many records is searched once
        self.broken = False
        """Whether the frame was left before its end."""

    def records(self) -> Iterator[WarcRecord | Fault]:
        """Yield the frame's records; a FrameError of the decompression comes after the whole ones."""
        while self._skip_blank_lines():
            offset = self._offset()
            if self._stop is not None and offset >= self._stop:
                return  # the next unit's record
            yield self._record(offset)
            if self.broken:
                return

    def _record(self, offset: int) -> WarcRecord | Fault:
        opening = self._fill(_LONGEST_START)[:_LONGEST_START]
        if not _RECORD_START.match(opening):
            self._resync(1)
            return Fault("", offset, "not_a_record", f"no WARC header at byte {offset}: {bytes(opening)!r}")
        head = self._head()
        if head is None:
            self._resync(1)
            return Fault(
                "", offset, "bad_header", f"no end of the WARC header within {self._limits.header_bytes}"
            )
        headers = parse_headers(bytes(self._buffer[:head]))
        url = headers.get("warc-target-uri", "").strip("<>")
        length = content_length(headers)
        if length is None:
            self._resync(head)
            return Fault(url, offset, "bad_length", f"Content-Length is {headers.get('content-length')!r}")
        if length > self._limits.record_bytes:
            self._resync(head)
            return Fault(url, offset, "too_large", f"{length} bytes, {self._limits.record_bytes} allowed")
        return self._body(offset, url, headers, head, length)

    def _body(self, offset: int, url: str, headers: Headers, head: int, length: int) -> WarcRecord | Fault:
        end = head + length
        try:
            available = len(self._fill(end))
        except FrameError as error:
            self.broken = True
            return Fault(url, offset, error.reason, f"{error.detail}, {length} bytes of content expected")
        if available < end:
            self._resync(head)
            return Fault(
                url, offset, "truncated", f"{available - head} of {length} bytes of content are there"
            )
        if not self._ends_cleanly(end):
            self._resync(head)
            return Fault(url, offset, "wrong_length", f"the content does not end after {length} bytes")
        block = bytes(self._buffer[head:end])  # copied only where the length holds
        self._drop(end)
        self._idle_from = self._position
        return WarcRecord(offset, headers, block)

    def _ends_cleanly(self, end: int) -> bool:
        """Whether a record's end is followed by what may follow: blank lines, a record, the frame's end."""
        try:
            after = bytes(self._fill(end + _LONGEST_START)[end : end + _LONGEST_START])
        except FrameError:
            return True  # the damage comes later, and is met there
        return not after.strip(b"\r\n") or after[:1] in b"\r\n" or bool(_RECORD_START.match(after))

    def _head(self) -> int | None:
        """Length of the header block with the blank line that ends it, or None where there is none."""
        size = max(0, self._blankless - self._position)
        while True:
            found = _HEADER_END.search(self._buffer, max(0, size - 4))
            if found:
                return found.end()
            size = len(self._buffer)
            self._blankless = self._position + size
            if size > self._limits.header_bytes or len(self._fill(size + 1)) == size:
                return None

    def _skip_blank_lines(self) -> bool:
        """Go to the next record; False at the frame's end."""
        while True:
            rest = self._fill(1)
            if not rest:
                return False
            if not (blank := _BLANK_LINES.match(rest)):
                return True
            self._drop(blank.end())

    def _resync(self, skip: int) -> None:
        """Drop ``skip`` bytes and what follows up to the next start of a record, or the frame's end."""
        self._drop(skip)
        while True:
            found = _next_start(self._buffer)
            if found is not None:
                self._drop(found)
                return
            self._drop(max(0, len(self._buffer) - _LONGEST_START))
            if self._is_bomb():
                self.broken = True
                return
            try:
                if len(self._fill(len(self._buffer) + 1)) <= _LONGEST_START and self._ended:
                    self._buffer.clear()
                    return
            except FrameError:
                self.broken = True
                return

    def _is_bomb(self) -> bool:
        idle = self._position - self._idle_from
        ratio = self._position / max(1, self._frame.consumed)
        return idle > self._limits.skip_bytes and ratio > self._limits.skip_ratio

    def _fill(self, size: int) -> bytearray:
        """Have at least ``size`` bytes in the buffer, or all there are; returns the buffer."""
        while len(self._buffer) < size and not self._ended:
            data = self._frame.read()
            self._buffer += data
            self._ended = not data
        return self._buffer

    def _drop(self, size: int) -> None:
        self._position += min(size, len(self._buffer))
        del self._buffer[:size]

    def _offset(self) -> int:
        if self._stop is not None:
            return self._frame.offset + self._position
        return self._position or self._frame.offset


def _next_start(buffer: bytearray) -> int | None:
    """Where in the buffer a record starts at the beginning of a line."""
    for found in _RECORD_START.finditer(buffer):
        if found.start() == 0 or buffer[found.start() - 1] in b"\r\n":
            return found.start()
    return None


def parse_headers(block: bytes) -> Headers:
    """The named fields of a WARC or HTTP header block; its first line is left out, odd lines are ignored.

    Folded lines are joined; bytes that are not UTF-8 are read as Latin-1, as HTTP once had it.
    """
    try:
        text = block.decode("utf-8")
    except UnicodeDecodeError:
        text = block.decode("latin-1")
    headers: Headers = {}
    name = ""
    for line in text.split("\n")[1:]:
        if line[:1] in (" ", "\t") and name:
            headers[name] += " " + line.strip()
            continue
        key, colon, value = line.partition(":")
        name = key.strip().lower() if colon else ""
        if name:
            headers.setdefault(name, value.strip())
    return headers


def content_length(headers: Headers) -> int | None:
    """The stated length in bytes, or None where it is absent or no number."""
    value = headers.get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 16 else None


def units(path: Path, unit_bytes: int) -> list[tuple[int, int]]:
    """Cut a WARC into byte ranges of about ``unit_bytes`` for :func:`read_warc`; at least one range.

    Any cut is a right one: a record belongs to the range in which its frame starts. An uncompressed file, or
    one that is a single gzip stream, cannot be entered in the middle with certainty: it is one range.
    """
    size = path.stat().st_size
    compression = _packing(path)
    if compression == "plain" or size <= unit_bytes:
        return [(0, size)]
    count = -(-size // unit_bytes)
    cuts = [size * i // count for i in range(count + 1)]
    return list(pairwise(cuts))


def read_record(frame: Frame, limits: ReadLimits) -> WarcRecord | Fault | None:
    """The first record of a frame; None where it is empty. Raises FrameError as the frame does."""
    return next(_FrameReader(frame, limits, None).records(), None)
