"""What must not be used any more, as rules that documents' addresses are held against.

A rule is ``url ADDRESS`` (that page, whether written as given or in its canonical form) or ``domain HOST``
(that host and every host below it).
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tasks.web.urls import canonical_url, host_of

REASON = "taken_down"


class TakedownError(ValueError):
    """What was given to be taken down is no address or no host."""


def rule(kind: str, value: str) -> str:
    """The rule for an address or a host as a person writes it.

    Raises TakedownError where the value cannot be one.
    """
    value = value.strip()
    if kind == "domain":
        value = (host_of(value) if "://" in value else value).lower().strip(".")
        if not value or "/" in value or " " in value:
            raise TakedownError("a domain is a host's name such as example.org, without a path")
    elif not value or any(c.isspace() for c in value):
        raise TakedownError("an address is one page's, such as https://example.org/page, without spaces")
    return f"{kind} {value}"


def match(urls: pa.ChunkedArray, domains: pa.ChunkedArray, wanted: str) -> pa.ChunkedArray:
    """Which rows a rule means, as booleans; ``domains`` are hosts in lower case, null where there is none."""
    kind, _, value = wanted.partition(" ")
    if kind == "url":
        return pc.is_in(urls, value_set=pa.array([value, canonical_url(value) or value], pa.string()))
    exact, below = pc.equal(domains, value), pc.ends_with(domains, f".{value}")
    return pc.fill_null(pc.or_(exact, below), False)


def hits(urls: pa.ChunkedArray, domains: pa.ChunkedArray, rules: Sequence[str]) -> list[str]:
    """Those of the rules that mean at least one of the rows, in their order."""
    return [wanted for wanted in rules if pc.any(match(urls, domains, wanted)).as_py()]
