"""What a run shows in Prefect when it is over."""

import json
import logging
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from flows.reporting import evaluation_rows, summary_markdown
from flows.run_page import run_page
from flows.run_report import page_of, write_page
from storage.artifacts import Recipe
from storage.store import Draft, open_store
from tasks.journal import Entry, Journal

BITS = {
    "model": {"all": 1.5, "interval": [1.4, 1.6], "by_language": {"en": 1.4, "zh": 1.9}},
    "bigram": {"all": 2.0, "interval": [None, None], "by_language": {"en": 2.0}},
}


class Version:
    """The part of a registration's artifact that is read."""

    def __init__(self, **more: str) -> None:
        self.stats: dict[str, Any] = {
            "name": "mini",
            "version": "3",
            "decision": "refused",
            "reasons": ["it leaks"],
            **more,
        }


TAG = re.compile("<([^>]*)>")


def rendered(markdown: str) -> str:
    """The page's HTML by a CommonMark parser."""
    return str(MarkdownIt("commonmark").render(markdown))


def page(prompt: str = "The ", wrote: str = "a\nb", **more: str) -> str:
    version: Any = Version(**more)
    journal = Journal([Entry("clean", "a.warc", "cached", 0.1)])
    return summary_markdown(journal, version, {"bits_per_byte": BITS}, [{"prompt": prompt, "text": wrote}])


def test_a_table_has_a_name_for_every_column() -> None:
    """The pages cannot show a table with a column that has none."""
    rows = evaluation_rows(BITS)
    figures = {"all": "1.5000", "interval": "1.4000 to 1.6000", "en": "1.4000", "zh": "1.9000"}
    assert rows[0] == {"model": "model", **figures}
    assert all(name for row in rows for name in row)


def compared(challenger: float, champion: float) -> dict[str, float]:
    difference = challenger - champion
    return {
        "challenger": challenger, "champion": champion, "difference": difference, "low": difference - 0.125,
        "high": difference + 0.125, "probability": 0.99, "documents": 1200, "judged": champion != 2,
    }  # fmt: skip


DECISION = {
    "checks": [{"holds": False, "says": "language zh: 1.9 against <1.8>"}],
    "comparison": {
        "all": compared(1.5, 1.75),
        "language zh": compared(2.0, 1.75),
        "domain a.org": compared(1, 2),
    },
    "compared_with": "2",
}


def test_the_champion_that_the_gate_compared_with_is_a_row_of_the_table() -> None:
    row = evaluation_rows(BITS, DECISION)[-1]
    assert row == {"model": "champion (version 2)", "interval": "", "all": "1.7500", "zh": "1.7500"}


def run_html(decision: dict[str, Any]) -> str:
    bits = {name: {**row, "slices": []} for name, row in BITS.items()}
    stats = {**Version().stats, "aliases": ["champion"]}
    return run_page(
        [Entry("clean", "a.warc", "completed", 0.1)], stats, report={"bits_per_byte": bits}, samples=[],
        decision=decision, lengths=np.array([300, 700]), card="", plots=[],
    )  # fmt: skip


def test_the_page_holds_both_models_by_slice_and_what_each_rule_found() -> None:
    page = run_html(DECISION)
    assert "version 2, the champion" in page
    assert "<td>language zh</td><td class=n>1,200</td><td class=n>2.0000</td><td class=n>1.7500</td>" in page
    assert "<span class=lost>+0.2500</span></td><td class=n>+0.1250 to +0.3750</td>" in page
    assert "<td>domain a.org <span class=dim>(too few to judge)</span></td>" in page
    assert "<span class=gain>-0.2500</span>" in page
    assert "against &lt;1.8&gt;" in page
    assert "no other champion" in run_html({"checks": [], "comparison": {}, "compared_with": ""})


def test_a_run_that_found_its_version_registered_leaves_the_versions_page(home: Path) -> None:
    version: Any = Version()
    page = page_of(version.stats)
    page.parent.mkdir(parents=True)
    page.write_text("of the run that registered it", encoding="utf-8")
    entries = [Entry("pretrain", "", "cached", 0.1), Entry("register", "", "cached", 0.1)]
    nothing: Any = None
    assert write_page(entries, corpus=nothing, version=version, measures={}, samples=[]) == page
    assert page.read_text(encoding="utf-8") == "of the run that registered it"


def test_an_mlflow_that_went_away_after_the_registration_costs_the_run_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, run_log: list[logging.LogRecord]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store = open_store()

    def decide(draft: Draft) -> dict[str, Any]:
        (draft.path / "decision.json").write_text(json.dumps(DECISION), encoding="utf-8")
        return {**Version().stats, "aliases": [], "run_id": "1"}

    version = store.make(Recipe(stage="register", code={}, inputs={}), (), decide)
    corpus = store.make(Recipe(stage="deduplicate", code={}, inputs={}), (), lambda _: {})
    measures = {"bits_per_byte": {name: {**row, "slices": []} for name, row in BITS.items()}}
    page = write_page([], corpus=corpus, version=version, measures=measures, samples=[])
    assert "models:/mini/3" in page.read_text(encoding="utf-8")
    assert f"{page} and not in MLflow: MLflow at http://127.0.0.1:9" in run_log[-1].getMessage()


def test_the_summary_says_what_was_decided_and_why() -> None:
    text = page()
    assert text.startswith("# models:/mini/3\n**refused**: it leaks")
    assert "| clean a.warc | cached | 0.1 |" in text


@pytest.mark.parametrize("prompt", ["The ", "在本章中，", "如果你想", "(see *", "Line\n\n"])
def test_a_prompt_is_bold_whatever_it_ends_with(prompt: str) -> None:
    assert f"<strong>{prompt.strip()}</strong>" in rendered(page(prompt))


def test_what_a_model_writes_is_shown_as_it_wrote_it() -> None:
    wrote = "# 标题\n\n<b>*x* [a](http://b)\n- 1. `c` | d &amp; \\e"
    shown = rendered(page("The ", wrote))
    quoted = shown[shown.index("<blockquote>") :]
    assert "".join(unescape(TAG.sub("", quoted)).split()) == "".join(f"The{wrote}".split())
    assert set(TAG.findall(quoted)) <= {"blockquote", "p", "strong", "br /"} | {
        "/blockquote", "/p", "/strong"
    }  # fmt: skip


def test_the_summary_links_to_the_version_where_mlflow_has_pages() -> None:
    address = "http://127.0.0.1:5000/#/models/mini/versions/3"
    assert f"({address})" in page(tracking_uri="http://127.0.0.1:5000")
    assert "MLflow" not in page(tracking_uri="sqlite:///mlflow.db")
