"""Reading files of questions with known answers: JSON Lines, one item a line, bad lines counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Z = 1.959964
"""Of a two-sided interval of 95 %."""


@dataclass
class Skipped:
    """Lines that could not be read, counted by reason."""

    reasons: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str) -> None:
        """Count one more."""
        self.reasons[reason] = self.reasons.get(reason, 0) + 1


def read_items(path: Path, most: int, skipped: Skipped) -> Iterator[dict[str, Any]]:
    """The first ``most`` JSON objects of a file; what is none is counted and left out."""
    read = 0
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        for line in lines:
            if read == most:
                return
            if not line.strip():
                continue
            read += 1
            try:
                item = json.loads(line)
                json.dumps(item, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                skipped.add("half a surrogate pair, which is no character")
                continue
            except (ValueError, RecursionError):
                skipped.add("no JSON")
                continue
            if isinstance(item, dict):
                yield item
            else:
                skipped.add("no JSON object")


def names_of(files: Sequence[Path]) -> list[str]:
    """What the report calls each file: its name, and its folder's before it where another has the same."""
    stems = Counter(path.stem for path in files)
    return [path.stem if stems[path.stem] == 1 else f"{path.parent.name}/{path.stem}" for path in files]


def accuracy(right: Sequence[bool]) -> dict[str, Any]:
    """Share of right answers with Wilson's interval (Wilson 1927), which holds for few items, too."""
    n = len(right)
    if not n:
        return {"items": 0}
    share = sum(right) / n
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * float(np.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n)))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return {"accuracy": round(share, 6), "low": round(low, 6), "high": round(high, 6), "items": n}
