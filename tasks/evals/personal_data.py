"""Pieces of personal data in a text, found by the rules that mask them in training text."""

from __future__ import annotations

import re

from tasks.text.config import PiiConfig
from tasks.text.pii import PLACEHOLDERS, mask

_PLACEHOLDER = re.compile("|".join(re.escape(name) for name in PLACEHOLDERS.values()))


def find_pieces(text: str) -> list[str]:
    """What masking would replace, as it stands in the text; placeholders that stand there are none."""
    masked, counts = mask(text, PiiConfig())
    if not counts:
        return []
    around = [re.escape(part) for part in _PLACEHOLDER.split(masked)]
    found = re.fullmatch("(.+?)".join(around), text, re.DOTALL)
    return [piece for piece in found.groups() if not _PLACEHOLDER.fullmatch(piece)] if found else []
