"""What became of a page is told by what it repeats and where it went, from the artifacts alone."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console
from typer.testing import CliRunner

from flows import tracing
from flows.cli import app
from flows.commands import tracing as commands
from flows.show import fate_counts, fate_table
from flows.tracing import Fate, fates
from storage.artifacts import Artifact, Recipe
from storage.documents import PartWriter
from storage.schemas import DOCUMENTS, REJECTS
from storage.store import Draft, open_store
from storage.token_shards import write_shard
from tasks.hold_out import EXCLUDED

ALPHA, BETA, GAMMA = (f"https://{name}.example/a-page" for name in ("alpha", "beta", "gamma"))


def row(url: str, **more: Any) -> dict[str, Any]:
    doc_id = hashlib.sha256(url.encode()).hexdigest()
    host = url.split("/")[2]
    return {
        "doc_id": doc_id,
        "url": url,
        "domain": host,
        "source_file": "a",
        "source_offset": 0,
        "text": "",
        **more,
    }


def made(kind: str, **files: tuple[pa.Schema, list[dict[str, Any]]]) -> Artifact:
    def work(draft: Draft) -> dict[str, Any]:
        for name, (schema, rows) in files.items():
            with PartWriter(draft.path / f"{name.replace('_', '-')}.parquet", schema) as writer:
                writer.write_all(rows)
        return {}

    return open_store().make(Recipe(stage=kind, code={}, inputs={}), (), work)


def dropped(url: str, stage: str, reason: str, of: str = "", value: float | None = None) -> dict[str, Any]:
    detail = row(of)["doc_id"] if of else "see there"
    limit = None if value is None else 0.75
    return row(url, stage=stage, reason=reason, detail=detail, value=value, threshold=limit)


def told(found: list[Fate]) -> list[str]:
    console = Console(record=True, width=300)
    console.print(fate_table(found))
    return [" ".join(line.split()) for line in console.export_text().splitlines()]


def corpus() -> list[Artifact]:
    """A page of which another is a near duplicate, and one that quotes a held-out page."""
    return [
        made(
            "deduplicate",
            part_00000=(DOCUMENTS, [row(ALPHA), row(GAMMA)]),
            rejects_00000=(REJECTS, [dropped(BETA, "deduplicate", "near_duplicate", ALPHA, 0.96)]),
        ),
        made("hold_out", heldout=(DOCUMENTS, [row(ALPHA)])),
        made(
            "exclude",
            excluded=(
                EXCLUDED,
                [
                    dropped(GAMMA, "exclude", "quotation", ALPHA, 0.9),
                    row(ALPHA, reason="held_out", stage="exclude"),
                ],
            ),
        ),
    ]


def test_a_duplicate_names_the_address_of_the_page_that_stayed(home: Path) -> None:
    [fate] = fates(open_store(), corpus(), "url", BETA)
    assert fate.repeats == ALPHA
    assert fate.as_dict()["detail"] == row(ALPHA)["doc_id"]
    lines = told([fate])
    assert lines[0] == BETA, "the page that was asked for is said once"
    assert lines[-1] == f"deduplicate │ dropped │ near_duplicate (measured 0.96, limit 0.75); repeats {ALPHA}"


def test_a_page_that_repeats_a_held_out_one_is_told_to_be_kept_from_training(home: Path) -> None:
    kept, left_out = fates(open_store(), corpus(), "url", GAMMA)
    assert (kept.stage, kept.outcome) == ("deduplicate", "present")
    assert (left_out.stage, left_out.reason, left_out.repeats) == ("exclude", "quotation", ALPHA)


def test_a_held_out_page_is_not_told_as_one_that_is_trained_on(home: Path) -> None:
    found = list(fates(open_store(), corpus(), "url", ALPHA))
    assert [line.split(" │ ")[1] for line in told(found)[3:]] == ["kept", "held out", "dropped"]
    assert fate_counts(found).splitlines()[1] == "hold_out: 1 held out"


def test_addresses_and_details_are_shown_as_they_are(home: Path) -> None:
    odd = "https://alpha.example/[red]"
    page = made(
        "clean", rejects=(REJECTS, [dropped(odd, "clean", "some.rule"), dropped(BETA, "clean", "[b]")])
    )
    lines = told(list(fates(open_store(), [page], "domain", "example")))
    assert lines[-2:] == [
        f"clean │ {odd} │ dropped │ some.rule; see there",
        f"clean │ {BETA} │ dropped │ [b]; see there",
    ]


def shards(urls: list[str]) -> Artifact:
    """Tokens of these pages in one shard: a page of n letters has n of them."""

    def work(draft: Draft) -> dict[str, Any]:
        offsets = np.cumsum([0, *map(len, urls)])
        write_shard(
            draft.path / "shard-00000.arrow",
            doc_ids=[row(url)["doc_id"] for url in urls],
            urls=urls,
            source_sha256=[bytes(32)] * len(urls),
            ids=np.zeros(offsets[-1], np.uint16),
            offsets=offsets,
            tokenizer="t",
            eos=0,
            vocab_size=300,
        )
        return {}

    return open_store().make(Recipe(stage="tokenize", code={}, inputs={}), (), work)


def test_a_domain_is_told_as_it_is_read_and_all_of_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [ALPHA, "https://other.test/", *(f"https://{i}.example/{'x' * i}" for i in range(7))]
    artifacts = [*corpus(), shards(pages)]
    at_once = list(fates(open_store(), artifacts, "domain", "example"))
    monkeypatch.setattr(tracing, "BATCH", 2)
    assert list(fates(open_store(), artifacts, "domain", "example")) == at_once
    tokens = [fate for fate in at_once if fate.outcome == "tokens"]
    assert [fate.url for fate in tokens] == [page for page in pages if page != "https://other.test/"]
    starts = [sum(map(len, pages[: pages.index(fate.url)])) for fate in tokens]
    assert [fate.position for fate in tokens] == starts

    open_store().remove("tokenize", artifacts[-1].key)
    began = fates(open_store(), artifacts, "domain", "example")
    assert [next(began), next(began)] == at_once[:2], "nothing of what comes later was read yet"


def test_a_long_table_has_one_head_and_its_json_is_one_array(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = made("clean", part=(DOCUMENTS, [row(f"https://a.example/{i}") for i in range(5)]))
    monkeypatch.setattr(commands, "ROWS", 2)
    monkeypatch.setattr(tracing, "BATCH", 2)

    def asked(*arguments: str) -> str:
        command = ["lineage", f"clean/{page.key}", "--domain", *arguments]
        return CliRunner().invoke(app, command, catch_exceptions=False).output

    lines = [" ".join(line.split()) for line in asked("example").splitlines()]
    assert lines[0].split(" ┃ ") == ["stage", "page", "outcome", "because"]
    assert [line.split(" │ ")[1] for line in lines[2:-1]] == [f"https://a.example/{i}" for i in range(5)]
    assert lines[-1] == "clean: 5 kept"
    told = json.loads(asked("example", "--json"))
    assert [fate["url"] for fate in told] == [f"https://a.example/{i}" for i in range(5)]
    assert json.loads(asked("nowhere.test", "--json")) == []
    assert asked("nowhere.test").startswith("No artifact knows nowhere.test")


def test_a_tree_of_corpora_that_add_up_has_each_once(home: Path) -> None:
    store, corpora = open_store(), list[Artifact]()
    for number in range(12):
        recipe = Recipe(stage="deduplicate", code={}, inputs={"number": number})
        corpora.append(store.make(recipe, tuple(corpus.as_parent() for corpus in corpora), lambda _: {}))
    name = f"deduplicate/{corpora[-1].key}"
    output = CliRunner().invoke(app, ["lineage", name, "--json"]).output
    assert output.count('"created"') == len(corpora)
    first, second = json.loads(output)["parents"][:2]
    assert second["parents"] == [corpora[0].as_parent().model_dump()]
    assert (first["key"], first["parents"]) == (corpora[0].key, [])


def test_a_page_and_a_domain_are_not_asked_for_at_once(home: Path) -> None:
    result = CliRunner().invoke(app, ["lineage", "m", "--url", ALPHA, "--domain", "alpha.example"])
    assert "not both" in str(result.exception)


def test_one_of_a_kind_is_told_in_the_singular(home: Path) -> None:
    kept_out = open_store().make(
        Recipe(stage="exclude", code={}, inputs={}), (), lambda _: {"documents": 1, "held_out": 1}
    )
    output = CliRunner().invoke(app, ["lineage", f"exclude/{kept_out.key}"]).output
    assert output.strip() == f"exclude {kept_out.key[:12]} 1 document kept from training"
