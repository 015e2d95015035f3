"""Pieces of personal data in a text, found by the rules that mask them in training text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tasks.text.config import PiiConfig
from tasks.text.pii import PLACEHOLDERS, mask

_PLACEHOLDER = re.compile("|".join(re.escape(name) for name in PLACEHOLDERS.values()))


def find_pieces(text: str) -> list[str]:
    """What masking would replace, as it stands in the text; placeholders that stand there are none."""
    masked, counts = mask(text, PiiConfig())
    around, names = _PLACEHOLDER.split(masked), _PLACEHOLDER.findall(masked)
    if not counts or not text.startswith(around[0]):
        return []
    found, begin = [], len(around[0])
    for number, name in enumerate(names):
        ends = list(_ends(text, begin, around[number + 1], last=number + 1 == len(names)))
        if not ends:  # masking has changed more than it replaced
            break
        end = _longest(around[number], text, begin, ends, name)
        found.append(text[begin:end])
        begin = end + len(around[number + 1])
    return [piece for piece in found if not _PLACEHOLDER.fullmatch(piece)]


def _ends(text: str, begin: int, after: str, *, last: bool) -> Iterator[int]:
    """Where a piece that begins there may end: before what comes after it, which may stand in it, too."""
    if last:
        end = len(text) - len(after)
        if end > begin and text.endswith(after):
            yield end
        return
    end = text.find(after, begin + 1)
    while end >= 0:
        yield end
        end = text.find(after, end + 1)


def _longest(before: str, text: str, begin: int, ends: list[int], name: str) -> int:
    """The last of the first ends in a row up to which masking takes one piece, after what stands before it.

    That may be its label. The first end where masking takes none so, for it may have looked further.
    """
    found = 0
    for end in ends:
        if mask(before + text[begin:end], PiiConfig())[0] == before + name:
            found = end
        elif found:
            break
    return found or ends[0]
