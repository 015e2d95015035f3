"""What was taken down is left out by the next run, and costs only the parts that held it."""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from prefect import flow
from typer.testing import CliRunner

from flows.cli import app
from flows.loading import check
from flows.runs import remember
from flows.takedowns import _tokens, held_out_without_taken_down, without_taken_down
from flows.tracing import fates
from storage.artifacts import Artifact, Parent, Recipe
from storage.documents import PartWriter, read_rows
from storage.schemas import DOCUMENTS, SIGNATURES
from storage.store import Draft, open_store
from storage.takedowns import in_force, log, take_down, taken_down, withdraw
from storage.token_shards import write_shard
from tasks.ancestry import ancestors
from tasks.ingest import ingest
from tasks.journal import Entry, Journal
from tasks.planning import Plan, planning
from tasks.taking_down import rules_that_hit, withdraw_held_out
from tasks.taking_down import take_down as take_down_stage
from tasks.text.dedup import NothingLeftError, signature_row
from tasks.web.sources import resolve
from tasks.web.takedown import TakedownError, addresses, hits, match, overlapping, rule

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, of sqlalchemy
SETTINGS: dict[str, Any] = {"name": "forgetful", "ingest": {"parallel": {"workers": 1}}}


def write(path: Path, domain: str, numbers: range) -> str:
    lines = [{"url": f"https://{domain}/{i}", "text": f"{domain} tells of matter {i}. " * 8} for i in numbers]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return str(path)


def test_a_rule_means_a_host_and_those_below_it_and_no_neighbour() -> None:
    domains = pa.chunked_array([pa.array(["a.org", "www.a.org", "ba.org", "a.org.evil", "", None])])
    urls = pa.chunked_array([pa.array([f"https://x/{i}" for i in range(6)])])
    assert hits(urls, domains, ["domain a.org", "domain b.org"]) == ["domain a.org"]
    assert match(urls, domains, "domain a.org").to_pylist() == [True, True, False, False, False, False]
    assert match(urls, domains, "url https://x/4").to_pylist() == [False] * 4 + [True, False]
    assert rule("domain", " A.org. ") == "domain a.org"
    assert rule("domain", "例子.中国") == "domain 例子.中国"
    assert rule("url", " file:///pages/a.html ") == "url file:///pages/a.html"


def test_a_host_is_meant_however_it_is_spelt() -> None:
    spelt = ["例子.中国", "www.xn--fsqu00a.xn--fiqs8s", "xn--fsqu00a.xn--fiqs8s", "中国", None]
    domains = pa.chunked_array([pa.array(spelt)])
    urls = pa.chunked_array([pa.array(["https://x/"] * len(spelt))])
    for host in ("例子.中国", "xn--fsqu00a.xn--fiqs8s"):
        meant = match(urls, domains, f"domain {host}").to_pylist()
        assert meant == [True, True, True, False, False]
    assert match(urls, domains, f"domain {'a' * 70}").to_pylist() == [False] * 5, "longer than hosts can be"


def test_a_page_is_meant_however_its_address_is_spelt() -> None:
    spelt = [
        "https://例子.中国/页面?问=a%2Fb",
        "https://xn--fsqu00a.xn--fiqs8s/%E9%A1%B5%E9%9D%A2?%E9%97%AE=a%2Fb",
        "https://xn--fsqu00a.xn--fiqs8s/%e9%a1%b5%e9%9d%a2?%e9%97%ae=a%2fb",
        "https://xn--fsqu00a.xn--fiqs8s/页面?问=a%2Fb",
    ]
    others = ["https://例子.中国/页面", "https://例子.中国/页面?问=a/b", "https://中国/页面?问=a%2Fb"]
    urls = pa.chunked_array([pa.array([*spelt, *others])])
    for url in [*spelt, f"{spelt[0]}#top", spelt[1].replace("https://", "HTTPS://")]:
        meant = match(urls, urls, f"url {url}").to_pylist()
        assert meant == [True] * len(spelt) + [False] * len(others), url
    assert addresses("file:///pages/%41") == ["file:///pages/%41"]


@pytest.mark.parametrize(
    ("kind", "value", "mend"),
    [
        ("url", "apt", "such as https://example.org/page"),
        ("url", " ", "such as https://example.org/page"),
        ("url", "https://a.org/b c", "without spaces"),
        ("domain", "http://A.org/y", "--domain a.org, or --url http://A.org/y?"),
        ("domain", "a.org/y", "--domain a.org?"),
        ("domain", "a.org:8080", "--domain a.org?"),
        ("domain", "", "such as example.org"),
        ("domain", "a b", "such as example.org"),
        ("domain", "https://", "such as example.org"),
    ],
)
def test_what_is_no_address_or_more_than_a_host_is_refused_with_the_mend(
    kind: str, value: str, mend: str
) -> None:
    with pytest.raises(TakedownError) as refused:
        rule(kind, value)
    assert mend in str(refused.value)


def test_rules_overlap_where_a_page_can_be_meant_by_both() -> None:
    rules = ["domain a.org", "domain b.a.org", "url https://a.org/1", "domain c.org"]
    assert overlapping("domain a.org", rules[1:]) == ["domain b.a.org", "url https://a.org/1"]
    assert overlapping("url https://b.a.org/2", rules) == ["domain a.org", "domain b.a.org"]
    assert overlapping("domain org.example", rules) == []


@pytest.fixture
def parts(home: Path, tmp_path: Path) -> list[Artifact]:
    """Two ingested files: one wholly of a.example, the other with five pages of b.example too."""
    first = write(tmp_path / "first.jsonl", "a.example", range(12))
    second = write(tmp_path / "second.jsonl", "a.example", range(12, 24))
    with Path(second).open("a") as file:
        file.write("\n" + Path(write(tmp_path / "x.jsonl", "www.b.example", range(5))).read_text())
    config = check({**SETTINGS, "sources": [first, second]}).ingest
    return [ingest.run_now(ref, config) for source in (first, second) for ref in resolve(source, config)]


def test_only_the_part_that_held_it_is_made_again_and_told_by_which_request(
    parts: list[Artifact], run_log: list[logging.LogRecord]
) -> None:
    store = open_store()
    config = check(SETTINGS)
    assert without_taken_down(config, parts, ["first", "second"]) == parts
    assert take_down(store, "domain b.example", "asked to")
    assert take_down(store, "domain nowhere.example", "asked to")
    assert not take_down(store, "domain b.example", "asked again")
    assert taken_down(store) == ["domain b.example", "domain nowhere.example"]
    plan = Plan(store, {}, {})
    with planning(plan):
        without_taken_down(config, parts, ["first", "second"])
    assert [(step.stage, step.label, step.verdict) for step in plan.steps] == [("take_down", "second", "run")]
    (entry, _) = in_force(store)
    request = f"domain b.example, on the takedown list since {entry.at} (asked to)"
    assert plan.steps[0].reasons == (f"leaves out 5 documents: {request}",)
    left = take_down_stage.run_now(parts[1], ["domain b.example"])
    assert left.stats["rules"] == {"domain b.example": 5}
    assert f"take_down: 5 documents left out: {request}" in [line.getMessage() for line in run_log]
    folder = store.open(left)
    assert {row["domain"] for row in read_rows(folder / "documents.parquet")} == {"a.example"}
    rejects = list(read_rows(folder / "rejects.parquet"))
    assert len(rejects) == left.stats["reasons"]["taken_down"] == 5
    assert {row["reason"] for row in rejects} == {"taken_down"}
    traced = [fate.outcome for fate in fates(store, [parts[1], left], "domain", "b.example")]
    assert traced == ["present"] * 5 + ["dropped"] * 5
    assert all("b.example" not in row["excerpt"] for row in rejects)


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("broken", [0, 1])
def test_a_part_that_cannot_lose_what_was_taken_down_is_left_out_whole(
    parts: list[Artifact], broken: int
) -> None:
    store, config = open_store(), check({**SETTINGS, "run": {"max_failed_parts": 0.5}})
    take_down(store, "domain a.example", "asked to")
    take_down(store, "domain www.b.example", "asked to")
    found = [parts[1], parts[1].model_copy(update={"stats": {**parts[1].stats, "source": "copy"}})]
    found[broken] = found[broken].model_copy(update={"digest": "0" * 64, "stats": {}})  # its stage fails

    @flow
    def leaving_out() -> list[Artifact]:
        return without_taken_down(config, found, ["first", "second"])

    left = leaving_out()
    assert [artifact.kind for artifact in left] == ["take_down"]
    assert left[0].stats["source"] == found[1 - broken].stats["source"]


def test_what_is_withdrawn_comes_back_from_the_store_and_the_log_keeps_it(parts: list[Artifact]) -> None:
    store, config = open_store(), check(SETTINGS)
    assert not withdraw(store, "domain b.example", "never was on it")
    take_down(store, "domain b.example", "asked to")
    assert withdraw(store, "domain b.example", "the wrong one")
    assert not withdraw(store, "domain b.example", "twice")
    assert taken_down(store) == []
    assert without_taken_down(config, parts, ["first", "second"]) == parts, "nothing is made again"
    assert take_down(store, "domain b.example", "asked to again")
    assert taken_down(store) == ["domain b.example"]
    assert [(entry.reason, entry.withdrawn) for entry in log(store)] == [
        ("asked to", False), ("the wrong one", True), ("asked to again", False)
    ]  # fmt: skip
    assert [entry.reason for entry in in_force(store)] == ["asked to again"]


def test_a_list_of_before_there_was_a_log_is_honoured(home: Path) -> None:
    store, entry = open_store(), {"rule": "url apt", "reason": "old", "at": "2026-01-01T00:00:00+00:00"}
    store.write_note(f"takedowns/{hashlib.sha256(b'url apt').hexdigest()[:32]}", entry)
    assert taken_down(store) == ["url apt"]
    assert "no longer" in forget("--withdraw", "--url", "apt"), "though it would not be put there any more"


def made(kind: str, work: Callable[[Path], None]) -> Artifact:
    def run(draft: Draft) -> dict[str, Any]:
        work(draft.path)
        return {}

    return open_store().make(Recipe(stage=kind, code={}, inputs={}), (), run)


def test_the_held_out_set_loses_it_too_and_is_another_set(parts: list[Artifact]) -> None:
    store = open_store()
    rows = list(read_rows(store.open(parts[1]) / "documents.parquet"))

    def hold_out(folder: Path) -> None:
        with PartWriter(folder / "heldout.parquet", DOCUMENTS) as documents:
            documents.write_all(rows)
        with PartWriter(folder / "signatures.parquet", SIGNATURES) as signatures:
            signatures.write_all(signature_row(row["doc_id"], row["text"]) for row in rows)

    heldout = made("hold_out", hold_out)
    assert held_out_without_taken_down(heldout) == heldout
    wanted = rule("url", rows[0]["url"])
    assert rules_that_hit(store, heldout, ["domain nowhere.example", wanted]) == [wanted]
    left = withdraw_held_out.run_now(heldout, [wanted])
    assert left.kind == "hold_out"
    assert left.digest != heldout.digest
    assert list(read_rows(store.open(left) / "heldout.parquet")) == rows[1:]
    signed = read_rows(store.open(left) / "signatures.parquet", ["doc_id"])
    assert [row["doc_id"] for row in signed] == [row["doc_id"] for row in rows[1:]]
    plan = Plan(store, {("hold_out", ""): Recipe(stage="hold_out", code={}, inputs={"corpus": "c"})}, {})
    with planning(plan):
        withdraw_held_out(heldout, ["domain a.example"])
    assert plan.steps[0].reasons == ("made from heldout, rules, the one before from corpus",)
    with pytest.raises(NothingLeftError, match="lineage"):
        withdraw_held_out.run_now(heldout, ["domain a.example", "domain b.example"])


def test_documents_and_tokens_that_were_trained_on_are_counted(home: Path) -> None:
    urls = ["https://a.example/1", "https://www.b.example/1", "https://b.example:80/2", "https://ab.example/"]

    def shard(folder: Path) -> None:
        write_shard(
            folder / "shard-00000.arrow",
            doc_ids=[str(i) * 64 for i in range(4)],
            urls=urls,
            source_sha256=[bytes(32)] * 4,
            ids=np.arange(14, dtype=np.uint16),
            offsets=np.array([0, 2, 5, 9, 14]),
            tokenizer="t",
            eos=0,
            vocab_size=300,
        )

    shards = made("tokenize", shard)
    assert _tokens(open_store(), shards, "domain b.example") == (2, 7)
    assert _tokens(open_store(), shards, "url https://a.example/1") == (1, 2)
    assert _tokens(open_store(), shards, "domain c.example") == (0, 0)
    traced = [fate.url for fate in fates(open_store(), [shards], "domain", "b.example")]
    assert traced == urls[1:3], "what is traced is what would be taken down"


def test_pages_are_traced_however_their_host_is_spelt(home: Path, tmp_path: Path) -> None:
    rows, hosts = tmp_path / "rows.jsonl", ["例子.中国", "www.xn--fsqu00a.xn--fiqs8s", "其他.中国"]
    lines = [{"url": f"https://{host}/", "text": f"{host} 的一页。" * 20} for host in hosts]
    rows.write_text("\n".join(map(json.dumps, lines)))
    config = check({**SETTINGS, "sources": [str(rows)]}).ingest
    part = ingest.run_now(resolve(str(rows), config)[0], config)
    for host in ("例子.中国", "xn--fsqu00a.xn--fiqs8s"):
        traced = {fate.url for fate in fates(open_store(), [part], "domain", host)}
        assert traced == {f"https://{host}/" for host in hosts[:2]}


def test_a_page_is_traced_however_its_address_is_spelt(home: Path, tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text(json.dumps({"url": "https://a.example/页面", "text": "这是一页。" * 20}))
    config = check({**SETTINGS, "sources": [str(source)]}).ingest
    [part] = [ingest.run_now(ref, config) for ref in resolve(str(source), config)]
    for url in ("https://a.example/页面", "https://A.example/%E9%A1%B5%E9%9D%A2#1"):
        assert [fate.url for fate in fates(open_store(), [part], "url", url)] == ["https://a.example/页面"]


def test_what_only_a_kept_tokenizer_was_made_from_is_told_apart(home: Path) -> None:
    def step(kind: str, number: int, *parents: Artifact) -> Artifact:
        recipe = Recipe(stage=kind, code={}, inputs={"number": str(number)})
        made_from = tuple(Parent(kind=a.kind, key=a.key, digest=a.digest) for a in parents)
        return open_store().make(recipe, made_from, lambda _draft: {})

    first, second = step("deduplicate", 1), step("deduplicate", 2)
    tokenizer = step("train_tokenizer", 1, first)
    shards = step("tokenize", 1, second, tokenizer)
    assert first in ancestors(open_store(), [shards])
    assert {a.key for a in ancestors(open_store(), [shards], past_frozen=False)} == {
        second.key, tokenizer.key, shards.key
    }  # fmt: skip


def forget(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["forget", *arguments])
    return result.output if result.exit_code == 0 else repr(result.exception)


def test_the_command_says_what_it_did_and_what_is_wrong(home: Path) -> None:
    said = forget("--domain", "b.example")
    assert "domain b.example is now on the takedown list" in said
    assert "No registered version was trained on it." in said
    assert "already" in forget("--domain", "B.example")
    assert "TakedownError" in forget("--domain", "b.example", "--url", "https://b.example/")


def test_the_command_lists_and_withdraws(home: Path) -> None:
    assert forget("--list") == "Nothing is on the takedown list.\n"
    assert "nothing is on it" in forget("--withdraw", "--domain", "b.example")
    forget("--domain", "b.example", "--reason", "a [letter] came")
    forget("--url", "https://b.example/1")
    listed = forget("--list")
    assert "a [letter] came" in listed
    assert "domain b.example" in listed
    assert "url https://b.example/1" in listed
    assert "withdrawn" not in listed
    refused = forget("--withdraw", "--domain", "example")
    assert "on it are: domain b.example, url https://b.example/1" in refused
    said = forget("--withdraw", "--domain", "b.example", "--reason", "mistaken")
    assert "domain b.example is no longer on the takedown list" in said
    assert "still on the list: url https://b.example/1" in said
    kept, _, log = forget("--list").partition("What was done to it")
    assert "domain b.example" not in kept
    assert "url https://b.example/1" in kept
    assert "mistaken" in log
    assert log.count("domain b.example") == 2
    assert forget("--list", "--withdraw") == "SystemExit(2)"


@pytest.fixture
def ran(parts: list[Artifact]) -> list[Artifact]:
    """The two parts, as what a run has made."""
    journal = Journal([Entry("ingest", str(i), "completed", 0.0, part) for i, part in enumerate(parts)])
    with remember("forgetful", "forgetful", check(SETTINGS), journal):
        return parts


@pytest.mark.usefixtures("ran")
def test_who_types_a_part_of_an_address_is_told_so_and_offered_whole_ones() -> None:
    def why(value: str) -> list[str]:
        return CliRunner().invoke(app, ["why", value]).output.splitlines()

    assert why("b.example/3") == [
        "b.example/3 is no whole address, such as https://example.org/page, and no artifact's.",
        "Addresses that begin or end so:",
        "  https://www.b.example/3",
    ]
    assert why("https://www.b.example/3/#top")[0].startswith("No artifact knows https://www.b.example/3/#top")
    assert why("https://www.b.example/3/#top")[2:] == ["  https://www.b.example/3"]
    assert why("a.example/1")[2:] == [f"  https://a.example/1{i}" for i in ("", 0, 1, 2, 3)], "five at most"
    assert len(why("b.exampl%/_")) == 1
    assert CliRunner().invoke(app, ["why", "apt", "--json"]).output == "[]\n"


def test_an_address_that_is_not_whole_is_forgotten_where_a_document_has_it(
    home: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"url": "doc-17", "text": "One document without a scheme. " * 8}))
    config = check({**SETTINGS, "sources": [str(rows)]}).ingest
    part = ingest.run_now(resolve(str(rows), config)[0], config)
    journal = Journal([Entry("ingest", "", "completed", 0.0, part)])
    with remember("forgetful", "forgetful", check(SETTINGS), journal):
        pass
    assert "The last run has: doc-17" in forget("--url", "-17")
    assert "url doc-17 is now on the takedown list" in forget("--url", "doc-17")
