"""The lines of a file of JSON rows: decompressed, of bounded length, and in UTF-8 whatever it was saved in.

Chinese data comes in GB18030 as Windows saves it, and in UTF-16 as PowerShell does. UTF-16 shows in the first
bytes; another charset is told by the first lines that are not ASCII, if these are not UTF-8, and holds for
the file.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from resiliparse.parse.encoding import detect_encoding

from tasks.web.frames import (
    Compression,
    FalseStartsError,
    Frame,
    FrameError,
    compression_of,
    find_frame,
    open_frame,
    zstd_dictionary,
)
from tasks.web.records import Fault

SAMPLE_BYTES = 64 * 2**10
"""Of lines that are not ASCII, from which a charset is told."""
FEWEST = 24
"""Bytes beyond ASCII below which no charset is told: two characters of Chinese look like many things."""
WIDER = {"big5": "big5hkscs", "shift_jis": "cp932"}
"""Charsets as they are meant, which have some characters more than the standards of their names."""
_UTF16 = (
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"{\0", "utf-16-le"),
    (b"\0{", "utf-16-be"),
)


def row_lines(path: Path, limit: int) -> Iterator[bytes | Fault]:
    """The lines of a file, in UTF-8; one of over ``limit`` bytes, or a break in the file, is a fault in its
    place. Lines that are in no charset to be told stay as they are."""
    return _in_utf8(_cut(pieces(path), limit))


def pieces(path: Path) -> Iterator[bytes | Fault]:
    """The decompressed bytes of a file, in UTF-8 where they begin as UTF-16, with its breaks."""
    found = _unpacked(path)
    head = next(found, b"")
    codec = (
        "" if isinstance(head, Fault) else next((name for mark, name in _UTF16 if head.startswith(mark)), "")
    )
    whole = chain([head], found)
    return _from_utf16(whole, codec) if codec else whole


def _from_utf16(found: Iterator[bytes | Fault], codec: str) -> Iterator[bytes | Fault]:
    new = codecs.getincrementaldecoder(codec)
    decoder = new("replace")
    for piece in found:
        if isinstance(piece, Fault):
            decoder = new("replace")
            yield piece
        else:
            yield decoder.decode(piece).encode("utf-8", "replace")


def _in_utf8(lines: Iterator[bytes | Fault]) -> Iterator[bytes | Fault]:
    for line in lines:
        if isinstance(line, Fault) or line.isascii():
            yield line
            continue
        sample = [line, *_ahead(lines)]
        charset = _charset([each for each in sample if isinstance(each, bytes) and not each.isascii()])
        for each in chain(sample, lines):
            yield each if isinstance(each, Fault) or not charset else _decoded(each, charset)
        return


def _ahead(lines: Iterator[bytes | Fault]) -> Iterator[bytes | Fault]:
    """Lines up to so many bytes of those that are not ASCII; 16 times as many in all."""
    told = total = 0
    while told < SAMPLE_BYTES and total < 16 * SAMPLE_BYTES and (line := next(lines, None)) is not None:
        size = 0 if isinstance(line, Fault) else len(line)
        total += size
        told += 0 if isinstance(line, Fault) or line.isascii() else size
        yield line


def _charset(lines: list[bytes]) -> str:
    """The charset of most of these lines; empty for UTF-8, and where none can be told."""
    if 2 * sum(_is_in(line, "utf-8") for line in lines) >= len(lines):
        return ""
    sample = b"\n".join(lines)
    if len(sample) - len(sample.translate(None, bytes(range(128, 256)))) < FEWEST:
        return ""
    found = detect_encoding(sample, html5_compatible=False) or ""
    charset = WIDER.get(found, found)
    try:
        codecs.lookup(charset)
    except LookupError:
        return ""
    return charset if 2 * sum(_is_in(line, charset) for line in lines) > len(lines) else ""


def _is_in(line: bytes, charset: str) -> bool:
    try:
        line.decode(charset)
    except UnicodeDecodeError:
        return False
    return True


def _decoded(line: bytes, charset: str) -> bytes | Fault:
    try:
        return line.decode(charset).encode("utf-8")
    except UnicodeDecodeError as error:
        return Fault("", 0, "bad_text", f"no {charset}, in which most of the file is: {error.reason}")


def _cut(found: Iterator[bytes | Fault], limit: int) -> Iterator[bytes | Fault]:
    """Lines of at most ``limit`` bytes; a longer one, or a break in the file, is a fault in its place."""
    buffer, too_long = bytearray(), False
    for piece in found:
        if isinstance(piece, Fault):
            yield piece
            if buffer:
                yield bytes(buffer)
            buffer, too_long = bytearray(), False
            continue
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            buffer += piece[start:end]
            if too_long or len(buffer) > limit:
                yield Fault("", 0, "too_large", f"a line over {limit} bytes")
            else:
                yield bytes(buffer)
            buffer, too_long, start = bytearray(), False, end + 1
        buffer += piece[start:]
        if len(buffer) > limit:
            buffer, too_long = bytearray(), True
    if too_long:
        yield Fault("", 0, "too_large", f"a line over {limit} bytes")
    elif buffer:
        yield bytes(buffer)


def _unpacked(path: Path) -> Iterator[bytes | Fault]:
    """The decompressed bytes of a file, frame after frame; after a broken one from the next that begins with
    a row."""
    compression, size = compression_of(path), path.stat().st_size
    with path.open("rb") as file:
        dictionary, offset = zstd_dictionary(file) if compression == "zstd" else (b"", 0)
        while offset < size:
            frame: Frame | None = None
            try:
                frame = open_frame(file, compression, offset, dictionary)
                while piece := frame.read():
                    yield piece
                offset += frame.consumed
            except FrameError as error:
                yield Fault("", offset, error.reason, error.detail)
                read = frame.consumed if frame else 0
                offset = _next_rows(file, compression, offset + max(1, read), size, dictionary)


def _next_rows(file: BinaryIO, compression: Compression, start: int, size: int, dictionary: bytes) -> int:
    """Where the next frame starts that begins with a row, or the file's end."""
    while start < size:
        try:
            found = find_frame(file, compression, start, b"{", size, dictionary)
        except FalseStartsError as error:
            start = error.end
        else:
            return size if found is None else found
    return size
