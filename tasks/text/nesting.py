"""How deep the elements of a page nest for a parser that follows the HTML standard.

An end tag often closes nothing: within a table what began outside of it, within a block the inline element
around it, which the parser then opens again in all that follows. So a page whose tags all come in pairs can
nest as deep as it has tags, and have many more elements than tags. Here the standard's stack of open elements
and its list of active formatting elements are kept (WHATWG HTML, 13.2.4 and 13.2.6), and no tree: each tag
takes constant time, whatever the page. Moved content (foster parents, the adoption agency) is counted where
the stack has it, which is at least as deep.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator

from tasks.text.elements import (
    BLOCKS,
    BODIES,
    FONT_ATTRIBUTES,
    FORMATTING,
    HEADINGS,
    HOLDS_HTML,
    IGNORED,
    MARKING,
    OUT_OF_FOREIGN,
    SCOPES,
    SEEN,
    SPECIAL,
    TABLE,
    UNDER_ITEMS,
    VOID,
    WITHIN_FORMATTING,
)
from tasks.text.tags import RAW, overloaded, tags

_ISLANDS = tuple(f"!{name}" for names in HOLDS_HTML.values() for name in sorted(names))
"""Names in the stack of what holds HTML in drawings and formulas; others in them begin with a colon there."""
_FONT = re.compile(rf"\b(?:{'|'.join(sorted(FONT_ATTRIBUTES))})\b".encode(), re.IGNORECASE)
_ENDED_FORM = "/form"
"""Name in the stack of a form that ended before what is in it."""
ALIKE = 3
"""Formatting elements alike that the standard keeps open again at most."""
DEEP = 8
"""Blocks up to which the standard looks for one to put a formatting element into."""
MOST_WORK = 500_000
"""Elements opened again, and formatting elements looked through, from which a page counts as too deep."""


def too_deep(page: bytes, limit: int) -> bool:
    """Whether elements nest deeper than ``limit``, or are such that parsers need time without end.

    So are elements with too many attributes, and misnesting that makes more work than MOST_WORK.
    """
    open_elements = _Open()
    for closing, name, attributes, text in tags(page):
        if text:
            open_elements.reopen()
        if closing:
            open_elements.end(name)
        elif overloaded(attributes):
            return True
        else:
            open_elements.start(name, attributes)
        if open_elements.depth > limit or open_elements.work > MOST_WORK:
            return True
    return False


class _Formatting:
    """An entry of the list of active formatting elements."""

    __slots__ = ("attributes", "name", "place")

    def __init__(self, name: str, attributes: bytes) -> None:
        self.name, self.attributes = name, attributes
        self.place = -1
        """Where the element is in the stack; -1 where it is closed and will be opened again."""


class _Open:
    """The stack of open elements; of some kinds, where in it the innermost ones are."""

    def __init__(self) -> None:
        self.depth = self.work = 0
        self.in_form = False
        self.names: list[str] = []
        """One that was taken out of the middle is empty, so that the others keep their places."""
        self.entries: dict[int, _Formatting] = {}
        self.active: list[_Formatting | None] = []
        """None is a marker."""
        self.places: defaultdict[str, list[int]] = defaultdict(list)
        self.special: list[int] = []
        self.scopes: list[int] = []
        self.barriers: list[int] = []
        """Special elements across which no item is ended."""

    def last(self, *names: str) -> int:
        """The innermost place of an element of these names, or -1."""
        return max(self.places[name][-1] if self.places[name] else -1 for name in names)

    @staticmethod
    def _innermost(places: list[int]) -> int:
        return places[-1] if places else -1

    def push(self, name: str) -> int:
        """Open an element; gives its place."""
        place = len(self.names)
        self.names.append(name)
        self.places[name].append(place)
        self.depth += 1
        island = name.startswith("!")
        if island or name in SPECIAL:
            self.special.append(place)
            if island or name in SCOPES:
                self.scopes.append(place)
            if name not in UNDER_ITEMS:
                self.barriers.append(place)
            if name in MARKING:
                self.active.append(None)
        return place

    def pop_to(self, place: int) -> None:
        """Close the element at a place and all within it."""
        while len(self.names) > place:
            name = self.names.pop()
            if not name:
                continue
            self.depth -= 1
            self._forget(name, len(self.names))
            if entry := self.entries.pop(len(self.names), None):
                entry.place = -1
            if name in MARKING:
                while self.active and self.active.pop() is not None:
                    pass

    def remove(self, place: int) -> None:
        """Close the element at a place and nothing within it."""
        name, self.names[place] = self.names[place], ""
        self.depth -= 1
        self._forget(name, place)
        self.entries.pop(place, None)

    def _forget(self, name: str, place: int) -> None:
        for known in (self.places[name], self.special, self.scopes, self.barriers):
            if known and known[-1] >= place:
                at = bisect_left(known, place)
                if known[at] == place:
                    del known[at]

    def reopen(self) -> None:
        """Open again the formatting elements that a block's end has closed."""
        first = len(self.active)
        while first and (entry := self.active[first - 1]) is not None and entry.place < 0:
            first -= 1
        for entry in self.active[first:]:
            if entry is not None:
                entry.place = self.push(entry.name)
                self.entries[entry.place] = entry
                self.work += 1

    def start(self, name: str, attributes: bytes) -> None:
        """What a start tag does."""
        if name in RAW or name in IGNORED:
            return
        if name in VOID:
            if name in SEEN:
                self.reopen()
            return
        if self._is_foreign():
            if name not in OUT_OF_FOREIGN and not (name == "font" and _FONT.search(attributes)):
                if not attributes.endswith(b"/"):
                    self.push(self._foreign_name(name))
                return
            inner = self.last(*_ISLANDS)
            roots = [self.places[root] for root in HOLDS_HTML]
            self.pop_to(min(known[at] for known in roots if (at := bisect_right(known, inner)) < len(known)))
        if name in TABLE:
            self._start_in_table(name)
            return
        self._end_before(name, attributes)
        if name in FORMATTING:
            self._start_formatting(name, attributes)
        elif name == "select" and self._end_in_scope(name):
            return
        elif name != "form" or not self.in_form:
            self.in_form |= name == "form"
            if name not in SPECIAL or name in WITHIN_FORMATTING:
                self.reopen()
            if not (name in HOLDS_HTML and attributes.endswith(b"/")):
                self.push(name)

    def _is_foreign(self) -> bool:
        return self.last("svg", "math") > self.last(*_ISLANDS)

    def _foreign_name(self, name: str) -> str:
        root = "svg" if self.last("svg") > self.last("math") else "math"
        return name if name in HOLDS_HTML else f"!{name}" if name in HOLDS_HTML[root] else f":{name}"

    def _end_before(self, name: str, attributes: bytes) -> None:
        """End what cannot stand around a start tag."""
        if name in BLOCKS or name == "table":
            self._end_paragraph()
        top = self.names[-1] if self.names else ""
        if (name in HEADINGS and top in HEADINGS) or (name in ("option", "optgroup") and top == "option"):
            self.pop_to(len(self.names) - 1)
        elif name in ("li", "dd", "dt"):
            alike = ("li",) if name == "li" else ("dd", "dt")
            if (at := self.last(*alike)) >= 0 and at >= self.barriers[-1]:
                self.pop_to(at)
        elif name == "button":
            self._end_in_scope(name)
        elif name in ("a", "nobr"):
            self._end_formatting(name)
        elif name == "table" and self._in_table():
            self.pop_to(self.last("table"))

    def _end_paragraph(self) -> None:
        at = self.last("p")
        if at >= 0 and at > max(self._innermost(self.scopes), self.last("button")):
            self.pop_to(at)

    def _end_in_scope(self, *names: str) -> bool:
        """Close the innermost element of these names, if no other hides it; says whether it did."""
        at = self.last(*names)
        if at < 0 or at < self._innermost(self.scopes):
            return False
        self.pop_to(at)
        return True

    def _in_table(self) -> bool:
        """Whether a table is open, and no cell of it."""
        table = self.last("table")
        return table >= 0 and table > self.last("td", "th", "caption", "template")

    def _start_in_table(self, name: str) -> None:
        table = self.last("table")
        if table < 0:
            return
        body, row = self.last(*BODIES), self.last("tr")
        if name in ("td", "th") and row > table:
            self.pop_to(row + 1)
        elif name in ("td", "th", "tr"):
            self.pop_to((body if body > table else table) + 1)
            if body < table:
                self.push("tbody")
            if name != "tr":
                self.push("tr")
        else:
            self.pop_to(table + 1)
        self.push(name)

    def _start_formatting(self, name: str, attributes: bytes) -> None:
        self.reopen()
        entry = _Formatting(name, attributes)
        alike = [
            other for other in self._since_marker() if other.name == name and other.attributes == attributes
        ]
        if len(alike) >= ALIKE:
            self._unlist(alike[-1])
        entry.place = self.push(name)
        self.entries[entry.place] = entry
        self.active.append(entry)

    def _since_marker(self) -> Iterator[_Formatting]:
        """The active formatting elements since the last marker, last first."""
        for entry in reversed(self.active):
            if entry is None:
                break
            self.work += 1
            yield entry

    def _unlist(self, entry: _Formatting) -> None:
        self.active.remove(entry)
        self.entries.pop(entry.place, None)

    def end(self, name: str) -> None:
        """What an end tag does."""
        if self._is_foreign():
            at = self.last(f":{name}", *([name] if name in HOLDS_HTML else ()))
            if at > self.last(*_ISLANDS):
                self.pop_to(at)
                return
        if name == "p":
            self._end_paragraph()
        elif name in FORMATTING:
            self._end_formatting(name)
        elif name == "form":
            self._end_form()
        elif name in HEADINGS:
            self._end_in_scope(*HEADINGS)
        elif name == "table" or name in TABLE:
            at = self.last(name)
            if at >= 0 and at >= self.last("table", "template"):
                self.pop_to(at)
        elif name in SPECIAL:
            if name != "li" or self.last("li") > self.last("ol", "ul"):
                self._end_in_scope(name)
        else:
            self._end_other(name)

    def _end_other(self, name: str) -> None:
        island, at = self.last(f"!{name}"), self.last(name)
        if island >= 0 or at > self._innermost(self.special):
            self.pop_to(max(island, at))

    def _end_form(self) -> None:
        """A form that ends before what is in it stays around that."""
        self.in_form = False
        at = self.last("form")
        if 0 <= at == len(self.names) - 1:
            self.pop_to(at)
        elif at > self._innermost(self.scopes):
            self._forget("form", at)
            self.names[at] = _ENDED_FORM

    def _end_formatting(self, name: str) -> None:
        """The standard's adoption agency, so far as the stack's depth goes."""
        entry = next((each for each in self._since_marker() if each.name == name), None)
        if entry is None:
            self._end_other(name)
        elif entry.place < 0:
            self.active.remove(entry)
        elif entry.place > self._innermost(self.scopes):
            within = len(self.special) - bisect_right(self.special, entry.place)
            if not within:
                self.active.remove(entry)
                self.pop_to(entry.place)
            elif within < DEEP:
                place, block = entry.place, self.special[-within]
                self._unlist(entry)
                self.remove(place)
                self.work += block - place
                for between in range(place + 1, block):
                    if self.names[between] and between not in self.entries:
                        self.remove(between)
