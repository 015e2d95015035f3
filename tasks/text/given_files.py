"""Files that the user names, lists and texts, packed or not: what is in them, or what is wrong with them."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path


class GivenFileError(ValueError):
    """A file that the user named cannot be used; the message names it and says what is expected."""


def unpacked(path: Path) -> bytes:
    """A file's content, out of its gzip members where its name ends in .gz.

    Raises GivenFileError where the file cannot be read or they are broken.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise GivenFileError(f"{path} cannot be read: {error.strerror}") from error
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise GivenFileError(f"{path} is no whole gzip file ({error}): fetch it again") from error


def given_text(path: Path) -> str:
    """As :func:`unpacked`, as text without a byte-order mark; GivenFileError where it is no UTF-8."""
    try:
        return unpacked(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise GivenFileError(
            f"{path} is no UTF-8 text ({error.reason} at byte {error.start:,}): save it as UTF-8"
        ) from error
