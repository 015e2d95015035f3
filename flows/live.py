"""A run as it happens, in the terminal: one line a stage, one bar for what is working."""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from tasks.progress import Event, listening

LINES_PER_STAGE = 12
"""Parts of a mapped stage that get a line of their own when they end; of more, only failures do."""
MARKS = {"completed": "[green]✓[/]", "cached": "[cyan]↻[/]", "failed": "[red]✗[/]", "stopped": "[yellow]■[/]"}


class LiveRun:
    """Shows progress events while its block runs; use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._bars: dict[tuple[str, str], TaskID] = {}
        self._lines: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._listening = listening(self._on_event)

    def __enter__(self) -> Self:
        self._progress.start()
        self._listening.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.__exit__(kind, error, trace)
        self._progress.stop()

    def _on_event(self, event: Event) -> None:
        with self._lock:
            if event.state == "started":
                self._bar(event)
            elif event.state == "progress":
                self._move(event)
            elif event.state == "note":
                self._progress.console.print(Text(f"  {event.detail['text']}", style="dim"))
            else:
                self._close(event)

    def _bar(self, event: Event) -> TaskID:
        place = (event.stage, event.label)
        if place not in self._bars:
            self._bars[place] = self._progress.add_task(_name(event), total=None, figures="")
        return self._bars[place]

    def _move(self, event: Event) -> None:
        total = f" of {event.total:,.0f}" if event.total else ""
        figures = [f"{event.done:,.0f}{total} {event.unit}", *(f"{k} {v}" for k, v in event.detail.items())]
        self._progress.update(
            self._bar(event), completed=event.done, total=event.total, figures=" · ".join(figures)
        )

    def _close(self, event: Event) -> None:
        bar = self._bars.pop((event.stage, event.label), None)
        seconds = 0.0
        if bar is not None:
            seconds = self._progress.tasks[self._progress.task_ids.index(bar)].elapsed or 0.0
            self._progress.remove_task(bar)
        self._lines[event.stage] += 1
        if self._lines[event.stage] > LINES_PER_STAGE and event.state not in ("failed", "stopped"):
            return
        took = "cached" if event.state == "cached" else f"{seconds:.1f} s"
        self._progress.console.print(Text.from_markup(f"{MARKS[event.state]} {_name(event)} [dim]{took}[/]"))


def _name(event: Event) -> str:
    """Markup; a part's label is a file's name, which may hold brackets of its own."""
    return f"{event.stage} [dim]{escape(event.label)}[/]" if event.label else event.stage
