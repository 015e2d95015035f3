"""``modelmill gc``: what no registered model and no recent run needs, listed or deleted."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.environment import prepare
from flows.upkeep import sweep


def gc_command(console: Console, apply: bool, keep_runs: int, grace_hours: float) -> None:
    """List what can go, or delete it."""
    prepare()
    swept = sweep(apply=apply, keep_runs=keep_runs, grace_hours=grace_hours)
    table = Table(show_edge=False, pad_edge=False)
    for name in ("artifact", "MB", "made"):
        table.add_column(name, overflow="fold")
    for row in swept.rows():
        table.add_row(*map(Text, row))  # a home's name may hold brackets, which would be a style
    if table.rows:
        console.print(table)
    verb = "Deleted" if apply else "Would delete (add --apply)"
    left = f", {len(swept.leftovers)} leftovers" if swept.leftovers else ""
    console.print(
        f"{verb}: {len(swept.artifacts)} artifacts{left}, {swept.megabytes:,.1f} MB; kept {swept.kept}."
    )
