"""A run's note keeps what each part was made with, and stays small however many parts there are."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flows.runs import COMPARED, earlier_recipes, own_note, recent_notes, remember, run_notes
from storage.artifacts import Artifact, Recipe
from storage.store import open_store
from tasks.journal import Entry, Journal
from tasks.settings import StageConfig

CODE = {f"tasks.module_{number}": "c" * 64 for number in range(20)}
CONFIG = {f"field_{number}": number for number in range(60)}


def made(number: int) -> Artifact:
    """A part's artifact: its own source, the code and configuration of all."""
    inputs = {"source": {"name": f"{number}.warc", "fingerprint": f"{number:064}"}, "config": CONFIG}
    return open_store().make(Recipe(stage="clean", code=CODE, inputs=inputs), (), lambda _draft: {})


def noted(parts: list[Artifact], name: str = "news") -> Path:
    """The note of a run that made these parts, and an entry without an artifact."""
    entries = [Entry("clean", f"part {i}", "completed", 0.1, part) for i, part in enumerate(parts)]
    with remember(name, name, StageConfig(), Journal([*entries, Entry("tokenize", "", "failed", 0.1)])):
        pass
    return max((Path(open_store().uri) / "notes/runs").glob("*.json"), key=lambda path: path.stat().st_mtime)


def test_the_recipes_of_the_run_before_come_back_as_they_were(home: Path) -> None:
    parts = [made(number) for number in range(3)]
    noted(parts)
    assert earlier_recipes(open_store(), "news") == {
        ("clean", f"part {i}"): part.recipe for i, part in enumerate(parts)
    }
    assert earlier_recipes(open_store(), "others") == {}


def test_what_parts_share_stands_in_a_note_once(home: Path) -> None:
    few, many = (noted([made(i) for i in range(count)]).stat().st_size for count in (2, 22))
    assert (many - few) / 20 < 700, "bytes a part"


def test_a_note_with_whole_recipes_is_understood(home: Path) -> None:
    part = made(0)
    note = {"name": "news", "entries": [{"stage": "clean", "label": "", "recipe": part.recipe.model_dump()}]}
    open_store().write_note("runs/20260101T000000-0", note)
    assert earlier_recipes(open_store(), "news") == {("clean", ""): part.recipe}


def test_only_the_latest_runs_are_compared_with(home: Path) -> None:
    old, new = made(0), made(1)
    for number, part in enumerate([old, *[new] * COMPARED]):
        entry = {"stage": "clean", "label": str(part is old), "recipe": part.recipe.model_dump()}
        note = {"name": "news", "entries": [entry]}
        open_store().write_note(f"runs/20260101T{number:06}-0", json.loads(json.dumps(note)))
    assert earlier_recipes(open_store(), "news") == {("clean", "False"): new.recipe}


def test_of_runs_side_by_side_each_process_shows_its_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = datetime.now(UTC)
    mine = json.loads(noted([made(0)]).read_text(encoding="utf-8"))
    monkeypatch.setattr("flows.runs.PROCESS", "another's")
    noted([made(1)])
    monkeypatch.undo()
    monkeypatch.setenv("MODELMILL_HOME", str(home))
    found = own_note(open_store(), "news", begun)
    assert found is not None
    assert found["started"] == mine["started"]
    assert own_note(open_store(), "news", datetime.now(UTC)) is None
    assert own_note(open_store(), "others", begun) is None


def test_notes_of_others_are_not_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for scope in ("mine", "theirs", "mine"):
        for name in ("news", "zh-papers"):
            with remember(name, scope, StageConfig(), Journal([])):
                pass
    old = {"name": "news", "scope": "mine", "started": "2026-01-01", "entries": []}
    store = open_store()
    store.write_note("runs/20260101T000000-0", old)  # of before its place told whose it is
    read = list[str]()
    monkeypatch.setattr(type(store), "read_note", _telling(type(store).read_note, read))
    for wanted, count in (({"name": "zh-papers"}, 3), ({"scope": "theirs"}, 2), ({"scope": "mine"}, 5)):
        read.clear()
        assert len(list(run_notes(store, **wanted))) == count
        assert len(read) <= count + 1, "those that are meant, and the one that must be opened to know"
    read.clear()
    kept = [note["name"] for note in recent_notes(store, 2)]
    assert sorted(kept) == ["news", "news", "zh-papers", "zh-papers"]
    assert len(read) <= 5


def _telling(method: Callable[..., Any], read: list[str]) -> Callable[..., Any]:
    def told(store: Any, name: str) -> Any:
        read.append(name)
        return method(store, name)

    return told
