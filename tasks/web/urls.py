"""Addresses: made canonical, kept in scope, found in pages."""

from __future__ import annotations

import html
import re
import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit, urlunsplit

MAX_URL = 2048
REDIRECTS = frozenset({301, 302, 303, 307, 308})
"""Statuses of responses whose Location is where to ask."""
MAX_SEGMENT_REPEATS = 3
"""A path in which a segment occurs more often than this is a trap (a relative link that climbs for ever)."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SAFE = "!#$%&'()*+,/:;=?@[]~"
_TAG = re.compile(rb"<(a|area|base|link|iframe|frame|meta)\s([^<>]*)>", re.IGNORECASE)
_HIDDEN = re.compile(rb"<!--|<script")
_END_OF_HIDDEN = {b"<!--": b"-->", b"<script": b"</script"}
_META_CHARSET = re.compile(rb"<meta\s[^<>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_META_BYTES = 4096
_ATTRIBUTE = re.compile(
    rb"""(?:^|[\s"'])(href|src|rel|type)\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+)""", re.IGNORECASE
)
_REFRESH = re.compile(
    rb"\bcontent\s*=\s*[\"']?\s*[\d.]+\s*[;,]\s*url\s*=\s*([^\"'\s>]{1,2048}|'[^']{1,2048}')", re.IGNORECASE
)
_FEED_TYPES = ("application/rss+xml", "application/atom+xml")


def canonical_url(url: str, base: str = "") -> str:
    """The one form of an http(s) address, or an empty string for anything else.

    Scheme and host in lower case, IDNA host, no default port, no fragment, dot segments resolved, every
    byte that needs it percent-encoded.
    """
    try:
        joined = urljoin(base, url.strip()) if base else url.strip()
        parts = urlsplit(joined)
        host = (parts.hostname or "").rstrip(".")
        port = parts.port
        host = host.encode("idna").decode() if not host.isascii() else host
    except (ValueError, UnicodeError):
        return ""
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS or not host or len(joined) > MAX_URL:
        return ""
    netloc = f"[{host}]" if ":" in host else host
    if port is not None and port != _DEFAULT_PORTS[scheme]:
        netloc += f":{port}"
    path = urlsplit(urljoin(f"http://h{'' if parts.path[:1] == '/' else '/'}{parts.path}", "")).path or "/"
    return urlunsplit((scheme, netloc, _quoted(_without_dots(path)), _quoted(parts.query), ""))


def redirect_target(headers: Mapping[str, str], url: str) -> str:
    """Where a response's Location leads, canonical; empty where it leads nowhere.

    Servers write addresses there as they are: bytes that are no ASCII are UTF-8, or go back as they came.
    """
    location = headers.get("location", "").strip()
    try:
        raw = location.encode("latin-1")  # how headers are read
        location = raw.decode("utf-8")
    except UnicodeEncodeError:
        pass  # it was read as UTF-8
    except UnicodeDecodeError:
        location = quote(raw, safe=_SAFE)
    return canonical_url(location, url)


def _quoted(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe=_SAFE)


def _without_dots(path: str) -> str:
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            if len(kept) > 1:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/".join(kept) or "/"


def host_of(url: str) -> str:
    """The host of an address, lower case, without port; empty where there is none."""
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which addresses a crawl may take."""

    kind: str
    """``prefix``, ``host`` or ``any``."""
    seeds: tuple[str, ...]
    include: tuple[re.Pattern[str], ...] = ()
    """Where there are any, an address must match one."""
    exclude: tuple[re.Pattern[str], ...] = ()

    def allows(self, url: str) -> bool:
        """Whether an address (canonical) is in scope, not excluded and no trap."""
        if _matches(self.exclude, url) or (self.include and not _matches(self.include, url)):
            return False
        parts = urlsplit(url)
        if _is_trap(parts):
            return False
        return self.kind == "any" or any(_below(parts, urlsplit(seed), self.kind) for seed in self.seeds)

    def secured(self, url: str) -> str:
        """A link's address, by https where a seed of its host is: sites that moved there still write http."""
        found, scheme, rest = url.partition("http://")
        netloc = rest.partition("/")[0]
        secure = any(seed.startswith(f"https://{netloc}/") for seed in self.seeds)
        return f"https://{rest}" if scheme and not found and secure else url

    def widened(self, url: str) -> Scope:
        """This scope and that of one more seed: where a seed redirects to, the site is.

        A seed that turns out to be a folder (``/news`` leads to ``/news/``) is meant as that folder, and not
        as a page in the one above.
        """
        folder = url.partition("://")[2]
        seeds = tuple(seed for seed in self.seeds if f"{seed.partition('://')[2]}/" != folder)
        return Scope(self.kind, (*seeds, url), self.include, self.exclude)


def _matches(patterns: Iterable[re.Pattern[str]], url: str) -> bool:
    """Whether a pattern is found in an address as it is sent or as people write it (``/新闻/``)."""
    return any(pattern.search(form) for form in {url, unquote(url)} for pattern in patterns)


def _below(parts: SplitResult, seed: SplitResult, kind: str) -> bool:
    if parts.netloc != seed.netloc or (parts.scheme != seed.scheme and seed.scheme == "https"):
        return False
    folder = seed.path[: seed.path.rfind("/") + 1]
    return kind == "host" or parts.path.startswith(folder)


def _is_trap(parts: SplitResult) -> bool:
    segments = [segment for segment in parts.path.split("/") if segment]
    return any(segments.count(segment) > MAX_SEGMENT_REPEATS for segment in set(segments))


@dataclass(frozen=True, slots=True)
class Links:
    """What a page points to, canonical, in order of appearance, each once."""

    pages: tuple[str, ...]
    feeds: tuple[str, ...]


def find_links(content: bytes, url: str, charset: str = "") -> Links:
    """The links of a page of at most a few MB, found by a scan that no markup can make slow or crash.

    A parser would see a little more and can be brought down by nesting; a crawler needs neither.
    """
    pages: dict[str, None] = {}
    feeds: dict[str, None] = {}
    base = url
    if not charset and (stated := _META_CHARSET.search(content, 0, _META_BYTES)):
        charset = stated[1].decode("ascii", "replace")
    met: set[tuple[bytes, bytes]] = set()
    for tag, attributes in _tags(content):
        found = {name.lower(): value for name, value in _ATTRIBUTE.findall(attributes)}
        if tag == b"meta":  # the front page of many a site is nothing but the way to another
            refresh = _REFRESH.search(attributes) if b"refresh" in attributes.lower() else None
            found = {b"href": refresh[1]} if refresh else {}
        address = found.get(b"href") or found.get(b"src", b"")
        plain = tag == b"a" and len(found) == 1
        key = (address.strip(b"\"'").partition(b"#")[0], b"" if plain else attributes)
        if key in met or not key[0]:
            continue  # most links of a page are to few addresses, and making them canonical costs most
        met.add(key)
        values = {name: _value(value, charset) for name, value in found.items()}
        target = canonical_url(values.get(b"href") or values.get(b"src", ""), base)
        if tag == b"base":
            base = target or base
        elif not target:
            continue
        elif tag == b"link":
            if values.get(b"type", "").lower() in _FEED_TYPES:
                feeds[target] = None
            elif values.get(b"rel", "").lower() in ("next", "prev", "alternate", "canonical"):
                pages[target] = None
        elif "nofollow" not in values.get(b"rel", "").lower():
            pages[target] = None
    return Links(tuple(pages), tuple(feeds))


def _tags(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    for found in _TAG.finditer(_visible(content)):
        yield found[1].lower(), found[2]


def _visible(content: bytes) -> bytes:
    """Content less its comments and scripts, each of which may speak of the other; in one pass, where a
    pattern could take a square."""
    lower = content.lower()
    kept, position = [], 0
    while found := _HIDDEN.search(lower, position):
        kept.append(content[position : found.start()])
        closing = _END_OF_HIDDEN[found[0]]
        end = lower.find(closing, found.start())
        if end < 0:
            return b"".join(kept)
        position = end + len(closing)
    return b"".join([*kept, content[position:]])


def _value(raw: bytes, charset: str) -> str:
    """An attribute's value; browsers send an address with its path in UTF-8, its query as the page has it."""
    raw = raw.strip(b"\"' \t\r\n")
    try:
        return html.unescape(raw.decode("utf-8"))
    except UnicodeDecodeError:
        path, mark, query = raw.partition(b"?")
    for encoding in (charset or "latin-1", "latin-1"):
        try:
            return html.unescape(path.decode(encoding) + mark.decode() + quote(query, safe=string.printable))
        except (UnicodeDecodeError, LookupError):
            continue
    return ""


def unique(urls: Iterable[str]) -> list[str]:
    """Addresses in order, each once, empty ones left out."""
    return [url for url in dict.fromkeys(urls) if url]
