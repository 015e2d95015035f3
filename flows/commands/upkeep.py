"""``modelmill gc``: what no registered model and no recent run needs, listed or deleted."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from flows.environment import prepare
from flows.upkeep import sweep


def gc_command(console: Console, apply: bool, keep_runs: int, grace_hours: float) -> None:
    """List what can go, or delete it."""
    prepare()
    swept = sweep(apply=apply, keep_runs=keep_runs, grace_hours=grace_hours)
    table = Table(show_edge=False, pad_edge=False)
    for name in ("artifact", "MB", "made"):
        table.add_column(name)
    for artifact in swept.artifacts:
        table.add_row(
            f"{artifact.kind}/{artifact.key}",
            f"{artifact.bytes / 1e6:,.1f}",
            f"{artifact.created:%Y-%m-%d %H:%M}",
        )
    if swept.artifacts:
        console.print(table)
    verb = "Deleted" if apply else "Would delete (add --apply)"
    size = sum(artifact.bytes for artifact in swept.artifacts) / 1e6
    console.print(f"{verb}: {len(swept.artifacts)} artifacts, {size:,.1f} MB; kept {swept.kept}.")
