"""The funnel follows documents from what was read to the tokens that are trained on, and adds up."""

from typing import Any

from rich.console import Console

from flows.funnel import funnel, funnel_rows
from flows.show import funnel_table
from storage.artifacts import Artifact, Recipe
from storage.store import open_store
from tasks.journal import Entry

READ = {
    "records": 60, "documents": 58, "rejects": 2, "reasons": {"no_text": 2}, "remarks": {"cut_short": 3},
}  # fmt: skip
TAKEN_DOWN = {"records": 58, "documents": 57, "reasons": {"taken_down": 1}}
CLEANED: dict[str, Any] = {
    "documents_in": 57, "documents": 40, "characters_in": 7000, "characters": 4500,
    "rejected": {"gopher.min_words": 17},
}  # fmt: skip
UNIQUE = {
    "documents_in": 80, "documents": 70, "characters_in": 9000, "characters": 8000,
    "rejected": {"exact_text": 10},
}  # fmt: skip
EXCLUDED = {
    "documents": 14,
    "held_out": 10,
    "taken_down": 1,
    "same_url": 0,
    "near_duplicate": 3,
    "quotation": 0,
}
"""Of the ten held-out documents, two are of an earlier run's corpus alone."""
TOKENIZED = {
    "documents": 57, "tokens": 2200, "skipped": {"excluded": 12, "empty": 1},
    "languages": {"en": {"characters": 6000}, "zh": {"characters": 500}},
}  # fmt: skip


def entry(stage: str, stats: dict[str, Any], label: str = "") -> Entry:
    recipe = Recipe(stage=stage, code={}, inputs={"label": label})
    artifact: Artifact = open_store().make(recipe, (), lambda _draft: stats)
    return Entry(stage, label, "completed", 1.0, artifact)


def entries() -> list[Entry]:
    """Two parts, one of which held something that was taken down."""
    return [
        entry("ingest", READ, "a"),
        entry("ingest", READ, "b"),
        entry("take_down", TAKEN_DOWN, "b"),
        entry("clean", {**CLEANED, "documents_in": 58, "rejected": {"gopher.min_words": 18}}, "a"),
        entry("clean", CLEANED, "b"),
        entry("deduplicate", UNIQUE),
        entry("hold_out", {"documents": 10}),
        entry("exclude", EXCLUDED),
        entry("tokenize", TOKENIZED),
    ]


def test_each_step_takes_in_what_the_one_before_it_kept_and_says_where_the_rest_went(home: object) -> None:
    steps = funnel(entries())
    assert [(step.stage, step.documents_in, step.documents) for step in steps] == [
        ("ingest", 120, 116), ("take_down", 116, 115), ("clean", 115, 80), ("deduplicate", 80, 70),
        ("exclude", 70, 58), ("tokenize", 58, 57),
    ]  # fmt: skip
    assert all(step.documents_in - step.reasons.total() == step.documents for step in steps)
    assert steps[4].reasons == {"held_out": 8, "near_duplicate": 3, "taken_down": 1}
    assert steps[5].reasons == {"empty": 1}


def test_text_is_counted_in_characters_where_a_stage_counts_them_and_in_tokens_at_the_end(
    home: object,
) -> None:
    steps = funnel(entries())
    assert [step.characters for step in steps] == [None, 14_000, 9000, 8000, None, 6500]
    assert [step.tokens for step in steps] == [None] * 5 + [2200]


def test_a_run_that_ended_with_its_corpus_has_a_funnel_up_to_it(home: object) -> None:
    assert [step.stage for step in funnel(entries()[:6])] == ["ingest", "take_down", "clean", "deduplicate"]
    assert funnel([]) == []


def test_fetching_is_told_of_where_crawls_lost_pages(home: object) -> None:
    whole = [entry("fetch", {"documents": None}, "file"), entry("fetch", {"records": 9, "documents": 9}, "a")]
    assert funnel([*whole, *entries()]) == funnel(entries())
    lost = entry("fetch", {"records": 9, "documents": 7, "reasons": {"network": 2}}, "b")
    step = funnel([*whole, lost, *entries()])[0]
    assert (step.stage, step.documents_in, step.documents) == ("fetch", 18, 16)


def test_the_tables_have_every_figure(home: object) -> None:
    rows = funnel_rows(entries())
    assert rows[-2] == {
        "stage": "tokenize", "rule": "", "in": 58, "kept": 57, "share": "98.3%", "characters": 6500,
        "tokens": 2200,
    }  # fmt: skip
    assert (rows[-1]["rule"], rows[-1]["kept"]) == ("empty", "−1")
    assert len({tuple(row) for row in rows}) == 1, "every row has the same columns"
    console = Console(record=True, width=200)
    console.print(funnel_table(funnel(entries())))
    last = [cell.strip() for cell in console.export_text().splitlines()[-1].split("│")]
    assert last == ["tokenize", "58", "57", "6,500", "2,200", "empty 1"]


def test_what_was_kept_with_something_amiss_is_told_beside_what_was_dropped(home: object) -> None:
    rows = funnel_rows(entries())
    assert [(row["rule"], row["kept"]) for row in rows[1:3]] == [
        ("no_text", "−4"),
        ("cut_short", "6 of these"),
    ]
    console = Console(record=True, width=200)
    console.print(funnel_table(funnel(entries())))
    assert "no_text 4; kept: cut_short 6" in console.export_text()
