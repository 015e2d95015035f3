"""What a page states about itself for machines: its meta elements and its JSON-LD."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tasks.text.markup import Markup

HEAD_BYTES = 400_000
"""Meta elements are looked for this far; some frameworks put megabytes of styles first."""
MOST_METAS = 2000
META_BYTES = 50_000
"""A meta element that is longer is broken."""
JSON_LD_CHARACTERS = 1_000_000
DEEPEST = 12
ARTICLE_TYPES = (
    "article",
    "posting",
    "report",
    "review",
    "recipe",
    "product",
    "course",
    "webpage",
    "question",
)
BODIES = ("articleBody", "description", "text", "reviewBody", "reviewText")
BODY_CHARACTERS = 200_000
KINDS = (
    ("article", "posting"),
    ("product",),
    ("discussion", "question", "qapage"),
    ("itemlist", "collection"),
    ("comment",),
)

_META = re.compile(rb"<.{4}\s((?:[^>\"']++|\"[^\"]*+\"|'[^']*+')*+)>", re.DOTALL)
_ATTRIBUTE = re.compile(r"([a-zA-Z:-]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))")
_TAG = re.compile(r"<[^<>]*>")


@dataclass(frozen=True, slots=True)
class Statements:
    """A page's meta elements by lower-case name, and its JSON-LD objects, works first."""

    metas: dict[str, str]
    linked: list[dict[str, Any]]

    def kinds(self) -> tuple[bool, ...]:
        """For each of KINDS, whether the page calls itself one."""
        types = [str(thing.get("@type", "")) for thing in self.linked]
        said = " ".join([*types, self.metas.get("og:type", "")]).lower()
        return tuple(any(name in said for name in names) for names in KINDS)

    def article(self) -> str:
        """The longest text of an article in the JSON-LD, markup removed; empty if there is none."""
        bodies = [body for thing in self.linked if isinstance(body := thing.get("articleBody"), str)]
        return _TAG.sub(" ", html.unescape(max(bodies, key=len, default="")))

    def bodies(self) -> str:
        """The texts and descriptions in the JSON-LD, markup and line ends removed."""
        texts = (" ".join(_TAG.sub(" ", text).split()) for text in _bodies(self.linked, 0))
        return " ".join(texts)[:BODY_CHARACTERS]


def read_statements(markup: Markup) -> Statements:
    """A page's meta elements and JSON-LD; what is malformed counts as absent."""
    return Statements(_metas(markup), _linked_data(markup))


def _bodies(value: Any, depth: int) -> Iterator[str]:
    if depth > DEEPEST:
        return
    if isinstance(value, list):
        for each in value:
            yield from _bodies(each, depth + 1)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key in BODIES and isinstance(each, str):
                yield each
            elif isinstance(each, dict | list):
                yield from _bodies(each, depth + 1)


def _metas(markup: Markup) -> dict[str, str]:
    """The first content of each named meta element, by lower-case name, property or itemprop."""
    found: dict[str, str] = {}
    for position in markup.marks[b"<meta"][:MOST_METAS]:
        if position > HEAD_BYTES:
            break
        element = _META.match(markup.source, position, position + META_BYTES)
        if not element:
            continue
        text = element[1].decode("utf-8")
        attributes = {name.lower(): a or b or c for name, a, b, c in _ATTRIBUTE.findall(text)}
        key = attributes.get("property") or attributes.get("name") or attributes.get("itemprop")
        key = key or attributes.get("http-equiv")
        if key and (content := attributes.get("content", "").strip()):
            found.setdefault(key.lower(), content)
    return found


def _linked_data(markup: Markup) -> list[dict[str, Any]]:
    """The page's JSON-LD objects, those that describe a work first; broken JSON counts as none."""
    objects: list[dict[str, Any]] = []
    for script in markup.linked:
        if len(script) > JSON_LD_CHARACTERS:
            continue
        try:
            objects.extend(_flatten(json.loads(script, strict=False)))
        except (ValueError, RecursionError):
            continue
    return sorted(objects, key=_work_rank)


def _flatten(value: Any) -> Iterator[dict[str, Any]]:
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, dict):
            yield each
            for inner in ("@graph", "mainEntity"):
                if inner in each:
                    yield from _flatten(each[inner])


def _work_rank(thing: dict[str, Any]) -> int:
    kind = str(thing.get("@type", "")).lower()
    return next((rank for rank, name in enumerate(ARTICLE_TYPES) if name in kind), len(ARTICLE_TYPES))
