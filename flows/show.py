"""What commands print: the run's table, the evaluation beside its baselines, a plan, a lineage."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from flows.funnel import Step
from flows.tracing import Fate
from storage import takedowns
from storage.artifacts import Artifact
from storage.store import Damage, Store
from tasks.journal import Entry
from tasks.planning import Plan

STATE_STYLE = {"completed": "green", "cached": "cyan", "failed": "red", "stopped": "yellow"}
IN: dict[str, tuple[tuple[str, str], ...]] = {
    "ingest": (("records", "records"),),
    "clean": (("documents_in", "documents"), ("characters_in", "characters")),
    "deduplicate": (("documents_in", "documents"), ("characters_in", "characters")),
    "hold_out": (("documents_in", "documents"),),
    "pretrain": (("corpus_tokens", "tokens"),),
}
OUT: dict[str, tuple[tuple[str, str], ...]] = {
    "fetch": (("documents", "pages"), ("bytes", "bytes")),
    "ingest": (("documents", "documents"), ("rejects", "rejects")),
    "clean": (("documents", "documents"), ("characters", "characters")),
    "deduplicate": (("documents", "documents"), ("characters", "characters")),
    "hold_out": (("documents", "documents"),),
    "exclude": (("documents", "documents kept from training"),),
    "train_tokenizer": (("vocab_size", "entries"),),
    "tokenize": (("tokens", "tokens"), ("documents", "documents"), ("shards", "shards")),
    "pretrain": (("parameters", "parameters"), ("tokens", "tokens seen")),
}
"""Which of a stage's stats its row of the table shows, and their units; a stage may state its own."""
KEY_SHOWN = 12
"""Characters of an artifact's key that people see; commands take any beginning of a key."""
TOP_REASONS = 6
"""As many reasons a stage are named in the terminal; the others are in the run's report."""
PARTS_NAMED = 3
"""More parts than these that fare alike are counted instead of named."""
TRAINED, HELD_OUT = "trained on", "held out"
OUTCOME_STYLE = {"kept": "green", "dropped": "red", TRAINED: "green", HELD_OUT: "cyan"}
VERDICTS = {"cached": "[cyan]cached[/]", "run": "[yellow]runs[/]", "depends": "[dim]depends[/]"}


def stage_table(journal: Sequence[Entry]) -> Table:
    """One row a stage: state, time, what went in and what came out."""
    table = Table(title="Stages", title_justify="left", show_edge=False, pad_edge=False)
    for name, justify in (
        ("stage", "left"),
        ("state", "left"),
        ("time", "right"),
        ("in", "left"),
        ("out", "left"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for stage in dict.fromkeys(entry.stage for entry in journal):
        entries = [entry for entry in journal if entry.stage == stage]
        table.add_row(stage, _states(entries), _time(entries), _flow("in", entries), _flow("out", entries))
    return table


def _states(entries: Sequence[Entry]) -> Text:
    counts = {state: sum(e.state == state for e in entries) for state in STATE_STYLE}
    present = [(state, n) for state, n in counts.items() if n]
    text = Text()
    for i, (state, n) in enumerate(present):
        text.append(", " if i else "")
        text.append(state.capitalize() if len(entries) == 1 else f"{n} {state}", style=STATE_STYLE[state])
    return text


def _time(entries: Sequence[Entry]) -> str:
    seconds = sum(e.seconds for e in entries)
    return f"{seconds:.1f} s"


def _flow(side: str, entries: Sequence[Entry]) -> str:
    """What went in or came out, summed over a stage's parts; of a stage that ran again, the last time's."""
    sums: dict[str, float] = {}
    for entry in [*(entry for entry in entries if entry.label), *[e for e in entries if not e.label][-1:]]:
        stats = entry.artifact.stats if entry.artifact else {}
        for unit, count in _figures(side, entry.stage, stats):
            sums[unit] = sums.get(unit, 0) + count
    return ", ".join(f"{_count(n)} {_unit(unit, n)}" for unit, n in sums.items())


def _unit(unit: str, n: float) -> str:
    """A unit's plural, or its singular; of several words the first is what is counted."""
    counted, space, rest = unit.partition(" ")
    return f"{counted.removesuffix('s')}{space}{rest}" if n == 1 else unit


def _figures(side: str, stage: str, stats: dict[str, Any]) -> Iterator[tuple[str, float]]:
    stated = stats.get(side)
    if isinstance(stated, dict):
        yield from stated.items()
        return
    for name, unit in (IN if side == "in" else OUT).get(stage, ()):
        value = stats.get(name)
        if isinstance(value, int | float):
            yield unit, value


def _count(n: float) -> str:
    return f"{n:,.3f}" if isinstance(n, float) and not n.is_integer() else f"{n:,.0f}"


def funnel_table(steps: Sequence[Step]) -> Table:
    """How many documents each stage kept, what dropped most of the others, and how much text that leaves."""
    table = Table(title="Documents", title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("stage")
    for name in ("in", "kept", "characters", "tokens"):
        table.add_column(name, justify="right")
    table.add_column("dropped by")
    for step in steps:
        top = step.reasons.most_common(TOP_REASONS)
        rest = step.reasons.total() - sum(count for _, count in top)
        causes = [*top, ("other reasons", rest)] if rest else top
        dropped = ", ".join(f"{reason} {count:,}" for reason, count in causes)
        if step.remarks:
            remarks = ", ".join(f"{remark} {count:,}" for remark, count in step.remarks.most_common())
            dropped = f"{dropped}; kept: {remarks}" if dropped else f"kept: {remarks}"
        sizes = ("" if size is None else f"{size:,}" for size in (step.characters, step.tokens))
        table.add_row(step.stage, f"{step.documents_in:,}", f"{step.documents:,}", *sizes, dropped)
    return table


def bits_table(report: dict[str, Any]) -> Table:
    """Held-out bits per byte of the model and its baselines, by language."""
    languages = sorted({language for row in report.values() for language in row.get("by_language", {})})
    table = Table(
        title="Held-out bits per byte (lower is better)",
        min_width=len("Held-out bits per byte (lower is better)"),
        title_justify="left",
        show_edge=False,
        pad_edge=False,
    )
    for name in ("", "all", *languages):
        table.add_column(name, justify="left" if not name else "right")
    for name, row in report.items():
        cells = [f"{row['all']:.4f}", *(_bits(row.get("by_language", {}).get(lang)) for lang in languages)]
        table.add_row(f"[bold]{name}[/]" if name == "model" else name, *cells)
    return table


def _bits(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def sample_panel(sample: dict[str, Any]) -> Panel:
    """A prompt and how the model went on."""
    text = Text(sample["prompt"], style="bold").append(sample["text"], style="default")
    return Panel(text, title="sample", title_align="left", border_style="dim", expand=False)


def version_line(stats: dict[str, Any]) -> Text:
    """The registered version, its aliases, and why it has or has not become champion."""
    aliases = " ".join(f"@{alias}" for alias in stats["aliases"])
    line = Text(f"models:/{stats['name']}/{stats['version']}", style="bold")
    line.append(f" {aliases}" if aliases else "", style="green")
    return line.append(f" {stats['decision']}: {'; '.join(stats['reasons'])}", style="default")


def plan_table(plan: Plan) -> Table:
    """What a run would do, stage by stage, and why; parts of one fate share a row."""
    table = Table(show_edge=False, pad_edge=False)
    for name in ("stage", "part", "", "because"):
        table.add_column(name)
    alike: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for step in plan.steps:
        alike.setdefault((step.stage, step.verdict, tuple(step.reasons)), []).append(step.label)
    for (stage, verdict, reasons), parts in alike.items():
        label = "\n".join(parts) if len(parts) <= PARTS_NAMED else f"{len(parts):,} parts"
        table.add_row(stage, Text(label), VERDICTS[verdict], Text("\n".join(reasons)))
    return table


def lineage_tree(store: Store, root: Artifact) -> Tree:
    """An artifact, what it was made from, and so on down to the sources, each with what came out of it."""
    seen: set[tuple[str, str]] = set()

    def grow(artifact: Artifact) -> Tree:
        name = Text.assemble((artifact.kind, "bold"), " ", artifact.key[:KEY_SHOWN])
        if (artifact.kind, artifact.key) in seen:
            return Tree(name.append(" (above)", style="dim"))
        source = f" {artifact.stats['source']}" if "source" in artifact.stats else ""
        made = _flow("out", [Entry(artifact.kind, "", "completed", 0, artifact)])
        tree = Tree(name.append(source, style="cyan").append(f" {made}", style="dim"))
        seen.add((artifact.kind, artifact.key))
        for parent in artifact.parents:
            found = store.find(parent.kind, parent.key)
            if found is None:
                gone = f"{parent.kind} {parent.key[:KEY_SHOWN]} is gone from the store"
                tree.add(Text(gone, style="red"))
            else:
                tree.children.append(grow(found))
        return tree

    return grow(root)


def fate_table(fates: Sequence[Fate], *, goes_on: bool = False) -> Table:
    """What each artifact says of a page or a domain, a row each; the address only where there are several.

    One that ``goes_on`` is printed below another of several addresses, whose head it shares.
    """
    several = goes_on or len({fate.url for fate in fates}) > 1
    title = None if several else Text(fates[0].url, overflow="fold")
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False, show_header=not goes_on)
    for name in ("stage", "page", "outcome", "because") if several else ("stage", "outcome", "because"):
        table.add_column(name, overflow="fold")
    for fate in fates:
        table.add_row(fate.stage, *([Text(fate.url)] if several else []), *_fate(fate))
    return table


def fate_counts(fates: Iterable[Fate]) -> str:
    """A line a stage: how many documents it kept and dropped, and how many tokens are trained on."""
    counts: dict[str, Counter[str]] = {}
    tokens: Counter[str] = Counter()
    for fate in fates:
        counts.setdefault(fate.stage, Counter())[outcome := _outcome(fate)] += 1
        if outcome == TRAINED:
            tokens[fate.stage] += fate.tokens or 0
    lines = []
    for stage, own in counts.items():
        told = [f"{count:,} {outcome}" for outcome, count in own.items()]
        if tokens[stage]:
            told.append(f"{tokens[stage]:,} tokens")
        lines.append(f"{stage}: {', '.join(told)}")
    return "\n".join(lines)


def _outcome(fate: Fate) -> str:
    if fate.part.startswith("heldout"):
        return HELD_OUT
    return {"tokens": TRAINED, "present": "kept", "dropped": "dropped"}[fate.outcome]


def _fate(fate: Fate) -> tuple[str, str]:
    """What became of a document in an artifact, and where or why."""
    outcome = _outcome(fate)
    told = f"[{OUTCOME_STYLE[outcome]}]{outcome}[/]"
    if fate.outcome == "dropped":
        return told, escape(_reason(fate))
    kind, _, key = fate.artifact.partition("/")
    place = f"{kind}/{key[:KEY_SHOWN]}/{fate.part}"
    if fate.outcome == "present":
        return told, place
    return told, f"{fate.tokens:,} tokens: {place} from token {fate.position:,}"


def _reason(fate: Fate) -> str:
    """The rule, what it measured, and what it says beside; of a repetition, what is repeated."""
    measured = (
        f" (measured {fate.value:g}, limit {fate.threshold:g})"
        if fate.value is not None and fate.threshold is not None
        else ""
    )
    more = f"repeats {fate.repeats}" if fate.repeats else fate.detail
    return f"{fate.reason}{measured}{'; ' if more else ''}{more}"


def takedown_table(entries: Iterable[takedowns.Entry], title: str) -> Table:
    """What was put on the takedown list or withdrawn from it, a row each."""
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for name in ("what", "", "when", "reason"):
        table.add_column(name, overflow="fold")
    for entry in entries:
        done = Text("withdrawn", style="yellow") if entry.withdrawn else Text("taken down")
        table.add_row(Text(entry.rule), done, entry.at, Text(entry.reason))
    return table


def damage_table(damages: Iterable[Damage], store_uri: str) -> Table:
    """Files that are not what their manifests say."""
    table = Table(show_edge=False, pad_edge=False)
    for name in ("artifact", "file", "problem"):
        table.add_column(name, overflow="fold")
    for damage in damages:
        kind, key, file = damage.path.removeprefix(store_uri).lstrip("/").split("/", 2)
        table.add_row(f"{kind}/{key[:KEY_SHOWN]}", Text(file), Text(damage.problem, style="red"))
    return table


def next_steps(console: Console, stats: dict[str, Any], prompt: str) -> None:
    """What to try next: two commands about the version that was registered, one with the run's options."""
    aliases = stats["aliases"]
    which = f"@{'champion' if 'champion' in aliases else aliases[0]}" if aliases else f"/{stats['version']}"
    model = f"models:/{stats['name']}{which}"
    program = _program()
    generate = f'{program} generate --model {model} "{prompt}"'
    explain = shlex.join([program, "explain", *sys.argv[2:]])
    lines = [generate, f"{program} lineage {model}", explain]
    console.print(Group("Next:", *(Text(f"  {line}", style="bold") for line in lines)))


def _program() -> str:
    """How this command is written where people are: its name, or its path where no search finds the name."""
    name, given = "modelmill", sys.argv[0]
    return given if Path(given).name == name and shutil.which(name) is None else name
