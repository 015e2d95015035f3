"""Names are shown as they are: what stands in brackets in them is no style."""

import io

import pytest
from rich.console import Console

from flows import show
from flows.live import LiveRun
from storage.store import open_store
from tasks.planning import Plan, Step
from tasks.progress import Event, tell


@pytest.mark.parametrize("name", ["新闻[zh].jsonl", "old [/data].jsonl", "a b[link=x].warc"])
def test_a_file_with_brackets_in_its_name_is_shown_while_it_is_read(name: str) -> None:
    console = Console(file=io.StringIO(), width=200)
    with LiveRun(console):
        for state in ("started", "completed"):
            tell(Event("ingest", name, state))
    assert f"✓ ingest {name}" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_plan_shows_brackets_of_names_and_values(home: object) -> None:
    plan, console = Plan(open_store(), {}), Console(file=io.StringIO(), width=200)
    plan.steps.append(Step("ingest", "新闻[zh].jsonl", "run", ("config ingest.urls: '[a-z]+' → '[/b]'",)))
    console.print(show.plan_table(plan))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "新闻[zh].jsonl" in shown
    assert "'[a-z]+' → '[/b]'" in shown
