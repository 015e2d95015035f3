"""What a training process tells: JSON lines in a file of its own, a line an event, flushed at once.

Each start writes a new file, ``metrics-0001.jsonl``, ``metrics-0002.jsonl`` and so on. A resumed run repeats
the steps since its checkpoint with the same values, so the curve is: all files in order, a later line of a
step in place of an earlier one, a torn last line ignored. Kinds of events:

| kind | fields |
|---|---|
| plan | what is about to run: parameters, tokens, epochs, FLOPs, device, precision |
| resumed | step |
| step | step, tokens, loss, lr, grad_norm: deterministic |
| held_out | step, loss: deterministic |
| pace | step, tokens_per_second, step_ms, mfu, memory_bytes, seconds_left |
| checkpoint | step, seconds |
| note | text: one line for a person |
| alive | nothing: a sign of life while no step ends |
| halted | reason, step, batch, documents, checkpoint |
| stopped | step: asked to end, saved |
| finished | step, best_step, best_loss |
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

PATTERN = "metrics-*.jsonl"


class MetricsWriter:
    """Appends events to the next free metrics file of a folder; without a folder it is silent."""

    def __init__(self, folder: Path | None) -> None:
        self._file: IO[str] | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            number = 1 + max((int(p.stem.split("-")[1]) for p in folder.glob(PATTERN)), default=0)
            self._file = (folder / f"metrics-{number:04d}.jsonl").open("x", encoding="utf-8")

    def write(self, kind: str, **fields: Any) -> None:
        """One event, visible to a reader of the file at once."""
        if self._file is not None:
            self._file.write(json.dumps({"kind": kind, **fields}) + "\n")
            self._file.flush()

    def sync(self) -> None:
        """Make everything written so far survive a power loss."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """No more events."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_events(folder: Path) -> Iterator[dict[str, Any]]:
    """Every event of every start, oldest first; lines torn by a kill are left out."""
    for path in sorted(folder.glob(PATTERN)):
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                event = parse(line)
                if event is not None:
                    yield event


def parse(line: str) -> dict[str, Any] | None:
    """One line's event, or None where it is not whole."""
    if not line.endswith("\n"):
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def curve(folder: Path) -> list[dict[str, Any]]:
    """Rows of the learning curve by step: step, tokens, loss, heldout_loss, lr, grad_norm."""
    steps: dict[int, dict[str, Any]] = {}
    held_out: dict[int, float] = {}
    for event in read_events(folder):
        if event["kind"] == "step":
            steps[event["step"]] = {key: event[key] for key in ("step", "tokens", "loss", "lr", "grad_norm")}
        elif event["kind"] == "held_out":
            held_out[event["step"]] = event["loss"]
        elif event["kind"] == "resumed":  # what came after it is taken again, or not at all after a rewind
            steps = {step: row for step, row in steps.items() if step <= event["step"]}
    return [{**row, "heldout_loss": held_out.get(step)} for step, row in sorted(steps.items())]
