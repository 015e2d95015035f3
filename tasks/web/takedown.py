"""What must not be used any more, as rules that documents' addresses are held against.

A rule is ``url ADDRESS`` (that page, however its address is spelt) or ``domain HOST`` (that host and every
host below it).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from functools import reduce
from urllib.parse import quote

import pyarrow as pa

from tasks.web.urls import canonical_url, host_of

REASON = "taken_down"
_WHOLE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_NOT_IN_HOSTS = re.compile(r"[\s/?#@\\]|^[^:]*:[^:]*$")
"""One colon stands before a port, more of them in an address of IPv6."""
_ENCODED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")


class TakedownError(ValueError):
    """What was given to be taken down is no address or no host."""


def rule(kind: str, value: str) -> str:
    """The rule for an address or a host as a person writes it.

    Raises TakedownError, with what would be right, where the value cannot be one.
    """
    value = value.strip()
    if kind == "domain":
        return f"domain {_host(value)}"
    if not is_whole(value):
        raise TakedownError(
            f"{value!r} is no whole address: wanted is one page's, with its scheme and without spaces, such "
            "as https://example.org/page"
        )
    return f"url {value}"


def is_whole(address: str) -> bool:
    """Whether an address has its scheme and no spaces."""
    return _WHOLE.fullmatch(address) is not None


def _host(value: str) -> str:
    host = value.lower().strip(".")
    if host and not _NOT_IN_HOSTS.search(host):
        return host
    named = host_of(value if "://" in value else f"//{value}")
    if not named or _NOT_IN_HOSTS.search(named):
        raise TakedownError(f"{value!r} is no host: a domain is a host's name alone, such as example.org")
    whole = f", or --url {value}" if is_whole(value) else ""
    raise TakedownError(f"{value!r} is more than a host: did you mean --domain {named}{whole}?")


def spellings(host: str) -> list[str]:
    """A host as it is given, in letters (``例子.中国``) and as the network has it (``xn--…``), each once."""
    found = {host: None}
    with suppress(UnicodeError):
        ascii_host = host.encode("idna")
        found |= {ascii_host.decode(): None, ascii_host.decode("idna"): None}
    return list(found)


def addresses(url: str) -> list[str]:
    """A page's address as it is given and as sources spell it, each once.

    Letters stand for themselves (``/页``) or encoded, in either case (``/%E9%A1%B5``, ``/%e9%a1%b5``),
    the host as in :func:`spellings`; all but the given one are without a fragment.
    """
    canonical = canonical_url(url)
    host = host_of(canonical)
    forms = [
        canonical,
        _ENCODED.sub(lambda found: found[0].upper(), canonical),
        _ENCODED.sub(lambda found: found[0].lower(), canonical),
        _ENCODED.sub(_in_letters, canonical),
    ]
    found = [form.replace(f"//{host}", f"//{name}", 1) for form in forms for name in spellings(host)]
    return list(dict.fromkeys([url, *(found if canonical else ())]))


def _in_letters(encoded: re.Match[str]) -> str:
    """What is encoded, where it is all letters beyond ASCII: ``%2F`` is another address than ``/``."""
    try:
        letters = bytes.fromhex(encoded[0].replace("%", "")).decode()
    except UnicodeDecodeError:
        return encoded[0]
    return "".join(quote(letter, safe="") if letter.isascii() else letter for letter in letters)


def match(urls: pa.ChunkedArray, domains: pa.ChunkedArray, wanted: str) -> pa.ChunkedArray:
    """Which rows a rule means, as booleans; ``domains`` are hosts in lower case, null where there is none."""
    import pyarrow.compute as pc  # here: runs without rules need not wait for it

    kind, _, value = wanted.partition(" ")
    if kind == "url":
        return pc.is_in(urls, value_set=pa.array(addresses(value), pa.string()))
    found = [pc.or_(pc.equal(domains, host), pc.ends_with(domains, f".{host}")) for host in spellings(value)]
    return pc.fill_null(reduce(pc.or_, found), False)


def hits(urls: pa.ChunkedArray, domains: pa.ChunkedArray, rules: Sequence[str]) -> list[str]:
    """Those of the rules that mean at least one of the rows, in their order."""
    return [wanted for wanted in rules if match(urls, domains, wanted).index(True).as_py() >= 0]


def overlapping(wanted: str, rules: Sequence[str]) -> list[str]:
    """Those of the rules that mean some of the pages that ``wanted`` means, in their order."""
    return [other for other in rules if _means(other, wanted) or _means(wanted, other)]


def _means(wanted: str, other: str) -> bool:
    """Whether a rule means the page, or the host itself, that another one names."""
    kind, _, value = other.partition(" ")
    url, host = (value, host_of(value)) if kind == "url" else ("", value)
    return bool(hits(pa.chunked_array([pa.array([url])]), pa.chunked_array([pa.array([host])]), [wanted]))
