"""Extracted text made clean: line ends, control characters, spaces at line ends, empty lines."""

from __future__ import annotations

import re

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff\ud800-\udfff]")
_BLANKS = re.compile(r"(?<![ \t])[ \t]++\n")
_GAPS = re.compile(r"\n{3,}")
_LOW = bytes([*range(9), *range(11, 32), 127])
_HIGH = (
    re.compile(rb"\xc2[\x80-\x84\x86-\x9f]"),
    re.compile(rb"\xef(?:\xbb\xbf|\xbf[\xbe\xbf])"),
    re.compile(rb"\xed[\xa0-\xbf]"),
)
"""What of _CONTROLS is not in _LOW, in UTF-8. Three patterns: each is searched for by its first byte."""


def tidy(text: str) -> str:
    """No control characters or lone surrogates, no space at line ends, at most one empty line in a row."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if _has_controls(text):
        text = _CONTROLS.sub("", text)
    if " \n" in text or "\t\n" in text:  # most texts have none, and the patterns stop at every space
        text = _BLANKS.sub("\n", text)
    if "\n\n\n" in text:
        text = _GAPS.sub("\n\n", text)
    return text.strip()


def _has_controls(text: str) -> bool:
    """Whether _CONTROLS would find anything: told from UTF-8 in a tenth of its time."""
    raw = text.encode("utf-8", "surrogatepass")
    return len(raw.translate(None, _LOW)) < len(raw) or any(pattern.search(raw) for pattern in _HIGH)
