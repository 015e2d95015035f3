"""What a run shows in Prefect when it is over: the funnel, the evaluation, and a summary to read."""

from __future__ import annotations

import json
import re
import string
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.funnel import funnel_rows
from flows.run_report import read_decision, write_page
from flows.runs import Outcome
from storage.artifacts import Artifact
from storage.store import open_store
from tasks.journal import Journal

HAIR_SPACE = "\u200a"
PUNCTUATION = re.compile(f"[{re.escape(string.punctuation)}]")
"""What may mean something in Markdown; a backslash before any of it makes it mean itself."""


def publish(name: str, journal: Journal, outcome: Outcome) -> None:
    """Write a whole run's page, and create its Prefect artifacts, under keys that show their history."""
    measures, samples = read_report(outcome.report)
    write_page(  # first, since it needs no Prefect server
        journal.entries, corpus=outcome.corpus, version=outcome.version, measures=measures, samples=samples
    )
    show_funnel(name, journal)
    show_evaluation(name, outcome.report, outcome.version)
    show_summary(name, journal, outcome.version, outcome.report)


def show_summary(name: str, journal: Journal, version: Artifact, report: Artifact) -> None:
    """The version and its decision, the stages, and samples, as a page."""
    measures, samples = read_report(report)
    create_markdown_artifact(
        summary_markdown(journal, version, measures, samples),
        key=f"{_key(name)}-summary",
        description="The run in a page.",
    )


def show_funnel(name: str, journal: Journal) -> None:
    """How many documents came through each stage of a model's run, as a table."""
    create_table_artifact(
        funnel_rows(journal.entries),
        key=f"{_key(name)}-funnel",
        description="How many documents each stage kept, and which rule dropped how many.",
    )


def show_evaluation(name: str, report: Artifact, version: Artifact | None = None) -> None:
    """A model's bits per byte beside the baselines' and the champion's, as a table."""
    decision = read_decision(version) if version is not None else {}
    create_table_artifact(
        evaluation_rows(read_report(report)[0]["bits_per_byte"], decision),
        key=f"{_key(name)}-bits-per-byte",
        description="Bits per byte of held-out text, over all and by language; lower is better.",
    )


def _key(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")


def read_report(report: Artifact) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The measures and the samples of an evaluation's artifact."""
    folder = open_store().open(report)
    measures, samples = (
        json.loads((folder / name).read_text(encoding="utf-8")) for name in ("report.json", "samples.json")
    )
    return measures, samples


def evaluation_rows(
    bits_per_byte: dict[str, Any], decision: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """A row for the model, for each baseline, and for the champion that the gate compared the model with.

    Columns: all, its interval, and each language; of the champion those that were compared.
    """
    rows = [
        {
            "model": name,
            "all": f"{row['all']:.4f}",
            "interval": " to ".join(f"{bound:.4f}" for bound in row["interval"] if bound is not None),
            **{language: f"{value:.4f}" for language, value in row["by_language"].items()},
        }
        for name, row in bits_per_byte.items()
    ]
    return [*rows, *_champion_row(decision or {})]


def _champion_row(decision: dict[str, Any]) -> list[dict[str, Any]]:
    compared = decision.get("comparison")
    if not compared:
        return []
    figures = {name.removeprefix("language "): f"{row['champion']:.4f}" for name, row in compared.items()
               if name == "all" or name.startswith("language ")}  # fmt: skip
    return [{"model": f"champion (version {decision['compared_with']})", "interval": "", **figures}]


def summary_markdown(
    journal: Journal, version: Artifact, report: dict[str, Any], samples: list[dict[str, Any]]
) -> str:
    """The version and its decision, the stages, and samples to read."""
    stats = version.stats
    lines = [
        f"# models:/{stats['name']}/{stats['version']}",
        f"**{stats['decision']}**: " + "; ".join(stats["reasons"]),
        "",
        "| stage | state | seconds |",
        "|---|---|---|",
        *(
            f"| {e.stage} {e.label.replace('|', '&#124;')} | {e.state} | {e.seconds:.1f} |"
            for e in journal.entries
        ),
        "",
        f"Held-out bits per byte: **{report['bits_per_byte']['model']['all']:.4f}**",
        "",
        "## Samples",
        *(_sample(sample["prompt"], sample["text"]) for sample in samples[:4]),
    ]
    if str(stats.get("tracking_uri", "")).startswith("http"):
        address = f"{stats['tracking_uri'].rstrip('/')}/#/models/{stats['name']}/versions/{stats['version']}"
        lines.insert(2, f"\n[The version, its curve and its files in MLflow]({address})")
    return "\n".join(lines)


def _sample(prompt: str, text: str) -> str:
    """A quotation, the prompt in bold, with what the model wrote as it wrote it.

    Markdown closes bold type only before a space where it ends in punctuation, as Chinese prompts do; a hair
    space is not seen.
    """
    words = prompt.strip()
    bold = f"**{_plain(words)}**{HAIR_SPACE}" if words else ""
    gap = " " if words and prompt[-1].isspace() else ""
    return f"> {bold}{gap}{_plain(text.rstrip() if bold else text.strip())}\n"


def _plain(text: str) -> str:
    """Text of which Markdown makes no headings, links or tags, its lines kept as lines of a quotation."""
    return PUNCTUATION.sub(r"\\\g<0>", text).replace("\n", "\\\n> ")
