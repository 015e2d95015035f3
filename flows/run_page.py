"""A run as one HTML page that needs nothing else: no script, no style sheet, no picture from elsewhere."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.funnel import Step, funnel
from tasks.journal import Entry

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem} h2{font-size:1.15rem;margin-top:2.2rem;border-bottom:1px solid #ddd}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{text-align:left;padding:.2rem .9rem .2rem 0;vertical-align:top} th{font-weight:600}
td.n,th.n{text-align:right} .bar{background:#1f6fb2;height:.8rem;display:inline-block;min-width:1px}
.lost{color:#a33} .gain{color:#2a7a3a} .dim{color:#666}
pre,blockquote{white-space:pre-wrap;overflow-wrap:anywhere}
blockquote{margin:.6rem 0;padding:.2rem 1rem;border-left:3px solid #ccc} img{max-width:100%}
"""
BAR_REM = 18
LENGTH_EDGES = (0, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000)
"""Characters; the last bin is open."""


def run_page(
    entries: Sequence[Entry],
    stats: dict[str, Any],
    *,
    report: dict[str, Any],
    samples: Sequence[dict[str, Any]],
    decision: dict[str, Any],
    lengths: NDArray[np.int64],
    card: str,
    plots: Iterable[Path],
) -> str:
    """The page. ``lengths`` are the corpus documents' characters, ``card`` is the model card's Markdown."""
    title = f"models:/{stats['name']}/{stats['version']}"
    aliases = " ".join(f"@{alias}" for alias in stats["aliases"])
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in stats["reasons"])
    parts = [
        f"<h1>{escape(title)} <span class=dim>{escape(aliases)}</span></h1>",
        f"<p><b>{escape(str(stats['decision']))}</b></p><ul>{reasons}</ul>",
        _section("Stages", _stages(entries)),
        _section("Documents", _funnel(funnel(entries))),
        _section("Length of the corpus's documents", _lengths(lengths)),
        _section("Held-out bits per byte", _bits(report["bits_per_byte"])),
        _section("Against the champion", _comparison(decision)),
        _section("Pictures", "".join(_picture(path) for path in plots)),
        _section("Samples", "".join(_sample(sample) for sample in samples)),
        _section("Model card", f"<details><summary>README.md</summary><pre>{escape(card)}</pre></details>"),
    ]
    head = f"<meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>{content}" if content else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """A table of cells that are HTML already; the columns from number ``numbers`` on (if any) are figures."""

    def line(cells: Sequence[str], tag: str) -> str:
        kinds = ["" if not numbers or i < numbers else " class=n" for i in range(len(cells))]
        return (
            "".join(f"<{tag}{kind}>{cell}</{tag}>" for kind, cell in zip(kinds, cells, strict=True)) + "</tr>"
        )

    body = "".join(f"<tr>{line(row, 'td')}" for row in rows)
    return f"<table><tr>{line([escape(name) for name in head], 'th')}{body}</table>"


def _stages(entries: Sequence[Entry]) -> str:
    rows = []
    for stage in dict.fromkeys(entry.stage for entry in entries):
        own = [entry for entry in entries if entry.stage == stage]
        states = Counter(entry.state for entry in own)
        told = ", ".join(state if len(own) == 1 else f"{n} {state}" for state, n in states.items())
        rows.append((escape(stage), escape(told), f"{sum(entry.seconds for entry in own):.1f} s"))
    return _table(("stage", "state", "time"), rows, numbers=2)


def _funnel(steps: Sequence[Step]) -> str:
    most = max((step.documents_in for step in steps), default=0)
    rows = []
    for step in steps:
        kept = f"{step.documents:,} of {step.documents_in:,}"
        sizes = ("" if size is None else f"{size:,}" for size in (step.characters, step.tokens))
        rows.append((escape(step.stage), kept, _bar(step.documents, most), *sizes))
        for reason, count in step.reasons.most_common():
            rows.append(("", f"<span class=lost>−{count:,}</span>", escape(reason), "", ""))
        for remark, count in step.remarks.most_common():
            rows.append(("", f"{count:,} of these", escape(remark), "", ""))
    return _table(("stage", "kept", "", "characters", "tokens"), rows, numbers=3)


def _bar(value: float, most: float) -> str:
    return f"<span class=bar style='width:{BAR_REM * value / most if most else 0:.2f}rem'></span>"


def _lengths(lengths: NDArray[np.int64]) -> str:
    if not len(lengths):
        return ""
    counts = np.histogram(lengths, bins=[*LENGTH_EDGES, np.inf])[0].tolist()
    ends = [f"to {edge:,}" for edge in LENGTH_EDGES[1:]]
    names = [*ends, f"over {LENGTH_EDGES[-1]:,}"]
    rows = [(name, f"{count:,}", _bar(count, max(counts))) for name, count in zip(names, counts, strict=True)]
    middle = f"<p>Median {np.median(lengths):,.0f} characters.</p>"
    return middle + _table(("characters", "documents", ""), rows)


def _bits(bits: dict[str, Any]) -> str:
    """The model and its baselines by language, then the model's slices with their intervals."""
    languages = sorted({language for row in bits.values() for language in row["by_language"]})
    rows = [
        (
            escape(name),
            f"{row['all']:.4f}",
            _interval(*row["interval"]),
            *(_figure(row["by_language"].get(language)) for language in languages),
        )
        for name, row in bits.items()
    ]
    whole = _table(("", "all", "interval", *languages), rows, numbers=1)
    slices = [
        (
            escape(f"{row['slice']} {row['name']}"),
            f"{row['documents']:,}",
            _figure(row["bits_per_byte"]),
            _interval(row["low"], row["high"]),
        )
        for row in bits["model"]["slices"]
    ]
    return (
        whole
        + "<h3>By slice</h3>"
        + _table(("", "documents", "bits per byte", "interval"), slices, numbers=1)
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def _comparison(decision: dict[str, Any]) -> str:
    """The rules and what they found; then both models by slice, where there was a champion."""
    checks = [
        ("holds" if check["holds"] else "<span class=lost>fails</span>", escape(check["says"]))
        for check in decision.get("checks", [])
    ]
    rules = "<h3>Rules</h3>" + _table(("", ""), checks) if checks else ""
    found = decision.get("comparison")
    if not found:
        return "<p>There was no other champion to compare with.</p>" + rules
    champion = f"version {decision['compared_with']}, the champion"
    head = ("bits per byte", "documents", "this version", champion, "difference", "interval", "better in")
    rows = [
        (
            escape(name) + ("" if row["judged"] else " <span class=dim>(too few to judge)</span>"),
            f"{row['documents']:,}",
            f"{row['challenger']:.4f}",
            f"{row['champion']:.4f}",
            f"<span class={'gain' if row['difference'] < 0 else 'lost'}>{row['difference']:+.4f}</span>",
            f"{row['low']:+.4f} to {row['high']:+.4f}",
            f"{row['probability']:.1%}",
        )
        for name, row in found.items()
    ]
    note = "<p class=dim>Better in: the share of resamples of the documents in which this version is.</p>"
    return _table(head, rows, numbers=1) + note + rules


def _picture(path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    name = escape(path.stem.replace("_", " "))
    return f"<figure><img alt='{name}' src='data:image/png;base64,{content}'></figure>"


def _sample(sample: dict[str, Any]) -> str:
    told = f"temperature {sample['temperature']}, seed {sample['seed']}"
    return (
        f"<blockquote><b>{escape(sample['prompt'])}</b>{escape(sample['text'])}"
        f"<br><span class=dim>{escape(told)}</span></blockquote>"
    )
