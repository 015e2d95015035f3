"""``modelmill run``: check everything, then run the flow and show what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from flows import show
from flows.embedded import embedded_prefect
from flows.environment import joined, prepare
from flows.live import LiveRun
from flows.loading import load_config
from flows.prefect_outage import answering
from storage.store import open_store

if TYPE_CHECKING:
    from flows.config import PipelineConfig

STOPPED = (
    "[yellow]Stopped.[/] Nothing finished is lost: the same command goes on from here, training from its "
    "last checkpoint."
)


def run_command(console: Console, preset: str, file: Path | None, sets: Sequence[str]) -> None:
    """Run the pipeline; raises ConfigError or SourceError before anything is started."""
    started, clock = datetime.now(UTC), time.monotonic()
    config = load_config(preset, file, sets)
    home = prepare()
    server = embedded_prefect()
    from flows.parts import check_inputs

    check_inputs(config)
    sources, under = escape(", ".join(config.sources)), escape(str(home))
    title = f"modelmill [bold]{config.name}[/] from {sources}; everything is under {under}"
    console.print(title, soft_wrap=True)
    if line := joined():
        console.print(line, highlight=False, soft_wrap=True)
    stopped = False
    try:
        with LiveRun(console), answering():
            from flows.pipeline import pipeline

            server.wait()
            pipeline(config)
    except KeyboardInterrupt:
        stopped = True
        raise
    finally:
        show_run(console, config, started)
        if stopped:
            console.print(STOPPED)
    console.print(f"[dim]{time.monotonic() - clock:.1f} s in all[/]")


def show_run(console: Console, config: PipelineConfig, started: datetime) -> None:
    """The stages of the run that began at ``started`` and, if it got so far, the model."""
    from flows.funnel import funnel
    from flows.run_report import page_of
    from flows.runs import entries_of, own_note

    store = open_store()
    if (note := own_note(store, config.name, started)) is None:
        return  # nothing was begun
    if not (entries := entries_of(store, note)):
        return  # it was refused before its first stage
    console.print(show.stage_table(entries))
    console.print()
    console.print(show.funnel_table(funnel(entries)))
    console.print()
    found = {entry.stage: entry.artifact for entry in entries if entry.artifact is not None}
    samples: list[dict[str, Any]] = []
    if "evaluate" in found:
        folder = store.open(found["evaluate"])
        report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        console.print(show.bits_table(report["bits_per_byte"]))
        samples = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
        if samples:
            console.print(show.sample_panel(samples[0]))
    if "register" in found:
        stats = found["register"].stats
        console.print(show.version_line(stats))
        if (page := page_of(stats)).is_file():
            console.print(f"Report: {page.as_uri()}", highlight=False, soft_wrap=True)
        show.next_steps(console, stats, samples[0]["prompt"] if samples else "The ")
