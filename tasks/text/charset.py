"""From a page's bytes to its text: which charset it is in, whatever its headers say.

Evidence in order of strength: a byte order mark; bytes that are well-formed UTF-8, but for a few (other
charsets hardly ever are, and old pages often carry a wrong label); the HTTP header; the page's own
``<meta>``; statistics. Each label is read as browsers read it (WHATWG Encoding), widened to its superset
where Python has one: GBK as GB18030, Big5 as Big5-HKSCS, Shift-JIS as Windows-31J. Latin-1 is what servers
say that know nothing of their pages, and makes some text of any bytes: it is not believed of what is plainly
no Western text. Nor is a label of one Chinese charset where the other makes plainer Chinese of the bytes.
"""

from __future__ import annotations

import codecs
import re

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

from tasks.text.common_ideographs import RIVALS, is_plainly
from tasks.text.extract_errors import ExtractionError

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"\x84\x31\x95\x33", "gb18030"),
)
WIDER = {
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "big5": "big5hkscs",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "euc-kr": "cp949",
    "iso-8859-1": "cp1252",
    "windows-1252": "cp1252",
    "us-ascii": "cp1252",
    "ascii": "cp1252",
}
CODE_PAGES = {
    **dict.fromkeys(["cp932", "windows-932"], "cp932"),
    **dict.fromkeys(["cp936", "ms936", "windows-936"], "gb18030"),
    **dict.fromkeys(["cp949", "ms949", "uhc"], "cp949"),
    **dict.fromkeys(["cp950", "ms950", "windows-950", "big5hkscs"], "big5hkscs"),
}
"""Names that are no labels for browsers, and that East Asian pages and detectors use all the same."""
SAMPLE_BYTES = 64 * 2**10
CONTROL_SAMPLE = 8 * 2**10
META_BYTES = 4096
"""Browsers look at the first 1,024 bytes; pages that put their scripts first need more."""
BAD_SHARE = 0.01
"""Share of characters that do not decode up to which a label is still believed: broken bytes happen."""
CONTROL_SHARE = 0.1
WESTERN_PAIRS = 0.5
"""Share of bytes over 127 that stand beside another, from which a page in Latin-1 would be a strange one: in
Portuguese, full of "ção", it is a third."""
LATIN = "\u02ff"
"""Last character of Latin letters and what modifies them."""

_META = re.compile(
    rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([a-zA-Z0-9_:.-]{2,40})|<\?xml[^>]{0,100}encoding=[\"']([a-zA-Z0-9_.-]{2,40})",
    re.IGNORECASE,
)
_CONTROLS = bytes([*range(9), *range(14, 32), 127])
_HIGH = re.compile(rb"[\x80-\xff]++")
_HZ = re.compile(rb"~\{((?:[!-w][!-~])+)~\}")
_HZ_COMMON = frozenset({0x21, 0x23, *range(0x30, 0x58)})
"""First bytes of marks and of the 3,755 most common characters."""
HZ_FEWEST, HZ_SHARE = 10, 0.8
_SURROGATES = re.compile("[\ud800-\udfff]")


def decode(html: bytes, declared: str = "") -> tuple[str, str]:
    """A page's text, and the name of the charset it was in (a Python codec's name).

    Args:
        html: the page's bytes.
        declared: the charset of the HTTP header, or empty. An unknown one is ignored.

    Raises:
        ExtractionError: ``binary``, if no charset makes text of the bytes.
    """
    source = as_utf8(html)
    if source is not None:
        try:
            text = source.decode("utf-8")
        except UnicodeDecodeError:
            return decode_other(html, declared)
        refuse_controls(text, "utf-8")
        return text.replace("\x00", "") if b"\x00" in html else text, "utf-8"
    return decode_other(html, declared)


def as_utf8(html: bytes) -> bytes | None:
    """The page without its mark if it may be UTF-8, or None if it shows another charset.

    Whether it is UTF-8 only decoding tells: who needs a part of the page can do with decoding that part.
    """
    name, length = _shown(html)
    if name in ("", "utf-8"):
        return html[length:] if length else html
    return None


def decode_other(html: bytes, declared: str) -> tuple[str, str]:
    """What decode gives for a page that is not well-formed UTF-8."""
    name, length = _shown(html)
    if name == "hz":
        return _HZ.sub(_as_gb, html).replace(b"~~", b"~").decode("gb18030", "replace"), name
    text, name = (html[length:].decode(name, "replace"), name) if name else _from_labels(html, declared)
    name = name.removesuffix("_ext")
    refuse_controls(text, name)
    if b"\x00" in html:  # ten times as fast as to look into the text
        text = text.replace("\x00", "")
    if name.startswith(("utf-16", "utf-32")):
        text = _SURROGATES.sub("\ufffd", text)
    return text, name


def _shown(html: bytes) -> tuple[str, int]:
    """The charset that a mark, escapes or zero bytes show, and the length of its mark; ``""`` for none."""
    for mark, name in BYTE_ORDER_MARKS:
        if html.startswith(mark):
            return name, len(mark)
    sample = html[:SAMPLE_BYTES]
    if b"\x1b" in sample and b"\x1b$" in sample and sample.isascii():
        return "iso2022_kr" if b"\x1b$)C" in sample else "iso2022_jp_ext", 0
    if b"~{" in sample and sample.isascii() and _is_hz(sample):
        return "hz", 0
    return _without_mark(html) if b"\x00" in sample else "", 0


def _is_hz(sample: bytes) -> bool:
    """Whether what stands between HZ's escapes (RFC 1843) is Chinese: its common characters and marks."""
    firsts = b"".join(pairs[::2] for pairs in _HZ.findall(sample))
    common = sum(map(_HZ_COMMON.__contains__, firsts))
    return common >= max(HZ_FEWEST, HZ_SHARE * len(firsts))


def _as_gb(escaped: re.Match[bytes]) -> bytes:
    return bytes(byte | 0x80 for byte in escaped[1])


def known_codec(label: str) -> str:
    """The Python codec for a charset's label as browsers read it; empty if there is none."""
    label = label.strip().strip("\"'").lower()
    if label in CODE_PAGES:
        return CODE_PAGES[label]
    name = map_encoding_to_html5(label, fallback_utf8=False)
    name = name or map_encoding_to_html5(label.replace("_", "-"), fallback_utf8=False)
    if not name:
        return ""
    name = WIDER.get(name.lower(), name.lower())
    try:
        return codecs.lookup(name).name
    except LookupError:
        return ""


def declared_in_page(html: bytes) -> str:
    """The charset that the page's own meta element or XML declaration names; empty if none."""
    found = _META.search(html[:META_BYTES])
    if not found:
        return ""
    return (found[1] or found[2]).decode("ascii")


def _from_labels(html: bytes, declared: str) -> tuple[str, str]:
    """Decode what is not UTF-8 by its labels, then by statistics, then by whichever loses least."""
    names = []
    for label in (declared, declared_in_page(html)):
        name = known_codec(label) if label else ""
        if name and not name.startswith("utf-16"):  # a label in ASCII bytes proves that it is not UTF-16
            names.append(name)
    sample = _sample(html)
    detected = known_codec(detect_encoding(sample, html5_compatible=False) or "") or "cp1252"
    if "cp1252" in names and _is_other_script(sample, detected):
        names = [name for name in names if name != "cp1252"]
    if RIVALS.get(detected) in names and is_plainly(detected, sample):
        names.insert(0, detected)
    best: tuple[float, str, str] | None = None
    for name in dict.fromkeys(["utf-8", *names, detected, "cp1252"]):
        text = html.decode(name, "replace")
        share = text.count("\ufffd") / max(1, len(text) - _ascii_count(html))
        if share <= BAD_SHARE:
            return text, name
        if best is None or share < best[0]:
            best = (share, text, name)
    assert best is not None
    return best[1], best[2]


def _sample(html: bytes) -> bytes:
    """The page from its first character that is not ASCII: scripts and styles before it say nothing."""
    first = _HIGH.search(html)
    start = first.start() if first else 0
    return html[start : start + SAMPLE_BYTES]


def _is_other_script(sample: bytes, detected: str) -> bool:
    """Whether bytes are no Western text, and are one in other letters in the charset that was detected."""
    runs = [len(run) for run in _HIGH.findall(sample)]
    if sum(length for length in runs if length > 1) < WESTERN_PAIRS * sum(runs):
        return False
    letters = [each for each in sample.decode(detected, "replace") if each > "\x7f" and each.isalpha()]
    return sum(each > LATIN for each in letters) > len(letters) / 2


def _ascii_count(html: bytes) -> int:
    return len(html) - len(html.translate(None, bytes(range(128))))


def _without_mark(html: bytes) -> str:
    """UTF-16 that carries no mark shows in where its zero bytes are: all over, or around its first tag."""
    sample = html[:4096]
    tag = sample.find(b"<")
    if tag >= 0 and not sample[:tag].strip(b"\0 \t\r\n") and sample[tag + 1 : tag + 4 : 2] == b"\0\0":
        return "utf-16-be" if tag % 2 else "utf-16-le"
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if max(even, odd) < 0.3 * len(sample) / 2:
        return ""
    if even <= odd / 10:
        return "utf-16-le"
    return "utf-16-be" if odd <= even / 10 else ""


def refuse_controls(text: str, name: str) -> None:
    """Raise ExtractionError ``binary`` for a text whose beginning is mostly control characters."""
    sample = text[:CONTROL_SAMPLE]
    if _controls(sample) > CONTROL_SHARE * len(sample):
        raise ExtractionError(
            "binary", f"more than {CONTROL_SHARE:.0%} of it is control characters as {name}"
        )


def _controls(sample: str) -> int:
    """How many control characters and replacement characters a text has."""
    content = sample.encode("utf-8", "surrogatepass")
    return len(content) - len(content.translate(None, _CONTROLS)) + sample.count("\ufffd")
