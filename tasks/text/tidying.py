"""Extracted text made clean: line ends, control characters, spaces at line ends, empty lines."""

from __future__ import annotations

import re
import unicodedata

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff\ud800-\udfff]")
_LINE_MARKS = re.compile("(?<![\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff])[\u200b\u2060]+")
_GAPS = re.compile(r"\n{3,}")
_LOW = bytes([*range(9), *range(11, 32), 127])
_HIGH = (
    re.compile(rb"\xc2[\x80-\x84\x86-\x9f]"),
    re.compile(rb"\xef(?:\xbb\xbf|\xbf[\xbe\xbf])"),
    re.compile(rb"\xed[\xa0-\xbf]"),
)
"""What of _CONTROLS is not in _LOW, in UTF-8. Three patterns: each is searched for by its first byte."""

MOST_MARKS = 48
"""Combining marks in a row from which those after the first NEEDED_MARKS go: no writing has so many, and
normalizing takes the square of their number."""
NEEDED_MARKS = 30
"""As many as Unicode's stream-safe text has in a row (UAX 15, section 13)."""
_STEP = MOST_MARKS // 3
_SAMPLED_RUN = re.compile(rb"[^\0]{3}")
_RUN = re.compile(rb"[^\0]{%d,}" % MOST_MARKS)


def nfc(text: str) -> str:
    """Text in Unicode NFC, without endless runs of combining marks."""
    return unicodedata.normalize("NFC", without_endless_marks(text))


def without_endless_marks(text: str) -> str:
    """Text whose runs of MOST_MARKS combining marks or more are cut to NEEDED_MARKS."""
    # Three samples in a row are marks wherever so long a run is: a look at few characters clears most texts.
    if text.isascii() or not _SAMPLED_RUN.search(_classes(text[::_STEP])):
        return text
    pieces, position = [], 0
    for run in _RUN.finditer(_classes(text)):
        pieces.append(text[position : run.start() + NEEDED_MARKS])
        position = run.end()
    return "".join([*pieces, text[position:]])


def _classes(text: str) -> bytes:
    """Each character's combining class, 0 to 254; 0 for all but marks."""
    return bytes(map(unicodedata.combining, text))


def tidy(text: str) -> str:
    """No control characters or lone surrogates, no space at line ends, at most one empty line in a row.

    Hyphens that show only at a line's end, and marks without width of where one may or must not end, go: they
    are typesetting, and cut words into what occurs nowhere else. Between words of Thai, Khmer and their like
    such marks stay, for want of spaces. Spaces that do not break stay: they hold the lines of listings
    together that are laid out with them.
    """
    if "\xad" in text:
        text = text.replace("\xad", "")
    if "\u200b" in text or "\u2060" in text:
        text = _LINE_MARKS.sub("", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if _has_controls(text):
        text = _CONTROLS.sub("", text)
    if " \n" in text or "\t\n" in text:
        text = "\n".join([line.rstrip(" \t") for line in text.split("\n")])
    if "\n\n\n" in text:
        text = _GAPS.sub("\n\n", text)
    return text.strip()


def _has_controls(text: str) -> bool:
    """Whether _CONTROLS would find anything: told from UTF-8 in a tenth of its time."""
    raw = text.encode("utf-8", "surrogatepass")
    return len(raw.translate(None, _LOW)) < len(raw) or any(pattern.search(raw) for pattern in _HIGH)
