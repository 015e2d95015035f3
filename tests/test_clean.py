"""The clean stage: documents in; kept, signed and rejected out, counted where they were lost."""

import gzip
import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.artifacts import Artifact, Recipe
from storage.documents import PartWriter, read_rows
from storage.schemas import DOCUMENTS
from storage.store import Draft, open_store
from tasks.clean import TooManyFailuresError, clean
from tasks.fingerprint import canonical
from tasks.text.cleaning import Cleaner, Document
from tasks.text.config import CleanConfig
from tasks.text.dedup import signature_row
from tasks.text.given_files import GivenFileError

pytestmark = pytest.mark.usefixtures("home")

ENGLISH = """The old lighthouse keeper had not spoken to anyone for weeks when the boat arrived.
He watched it come around the point, low in the water, with two men at the oars and a third
who sat in the stern and did not move. The wind had been rising since noon, and the gulls were
already walking about on the grass behind the tower, which they only did before a storm.
"You have come at a bad time," he said when they had pulled the boat up. Nobody answered him.
The third man looked at the light, at the house, and then for a long while at the sea."""
CHINESE = """老灯塔的看守人已经好几个星期没有同人说过话了，直到那天下午有一条船绕过海角慢慢驶来。
船吃水很深，两个人在划桨，第三个人坐在船尾，一动也不动。风从中午起就越来越大了。
海鸥已经在灯塔后面的草地上走来走去，它们只有在暴风雨到来之前才会这样做。
“你们来得不是时候。”他们把船拖上岸以后，他这样说道。可是没有一个人回答他的话。
第三个人看了看灯塔，又看了看房子，然后久久地望着大海。"""
FRENCH = "\n".join(
    f"Le jour {n} du voyage, ils traversèrent une rivière dont le guide leur dit qu'elle n'avait pas de nom."
    for n in range(8)
)


def document(path: str, text: str, host: str = "h.example") -> dict[str, Any]:
    url = f"https://{host}/{path}"
    return {
        "doc_id": hashlib.sha256(f"{url}\n{text}".encode()).hexdigest(),
        "url": url,
        "domain": host,
        "source_file": "a.warc.gz",
        "source_offset": 0,
        "language": "",
        "text": text,
        "signals": [],
    }


def ingested(rows: list[dict[str, Any]]) -> Artifact:
    """An artifact as ingestion leaves it."""

    def work(draft: Draft) -> dict[str, Any]:
        with PartWriter(draft.path / "documents.parquet", DOCUMENTS) as part:
            part.write_all(rows)
        return {"documents": len(rows), "source": "a.warc.gz"}

    name = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    return open_store().make(Recipe(stage="ingest", code={}, inputs={"name": name}), (), work)


def run(rows: list[dict[str, Any]], **config: Any) -> Artifact:
    return clean.run_now(ingested(rows), CleanConfig.model_validate(config))


def rows_of(artifact: Artifact, name: str) -> list[dict[str, Any]]:
    return list(read_rows(open_store().open(artifact) / name))


ROWS = [
    document("en", ENGLISH + "\nMail me@site.io now about the river."),
    document("zh", CHINESE, "zh.example"),
    document("fr", FRENCH),
    document("fr-FR/x", ENGLISH),
    document("short", "Too short to say anything."),
    document("xxx", ENGLISH),
    document("repeats", "Buy it now, this is the best of all offers.\n" * 40, "shop.example"),
]


def test_each_document_is_kept_or_rejected_with_its_reason() -> None:
    artifact = run(ROWS, language={"keep": ["en", "zh"]})
    kept, rejects = rows_of(artifact, "kept.parquet"), rows_of(artifact, "rejects.parquet")
    assert [row["url"] for row in kept] == [ROWS[0]["url"], ROWS[1]["url"]]
    assert [row["language"] for row in kept] == ["en", "zh"]
    assert kept[0]["text"].endswith("Mail <EMAIL> now about the river.")
    assert kept[0]["signals"]["words"] > 50
    assert {row["url"].rpartition("/")[2]: row["reason"] for row in rejects} == {
        "fr": "language",
        "x": "language_of_address",
        "short": "gopher.min_words",
        "xxx": "url.blocked_word",
        "repeats": "repetition.dup_line_frac",
    }
    french, short = rejects[0], rejects[2]
    assert (french["value"], french["threshold"]) == (0.0, 0.65)
    assert french["detail"].startswith("fr ")
    assert (short["value"], short["threshold"], short["excerpt"]) == (5.0, 50.0, "Too short to say anything.")
    assert all(row["stage"] == "clean" for row in rejects)


def test_signatures_are_those_of_the_kept_texts_in_their_order() -> None:
    artifact = run(ROWS)
    kept, signatures = rows_of(artifact, "kept.parquet"), rows_of(artifact, "signatures.parquet")
    assert signatures == [signature_row(row["doc_id"], row["text"]) for row in kept]


def test_the_funnel_adds_up() -> None:
    stats = run(ROWS, language={"keep": ["en", "zh"]}).stats
    assert stats["documents_in"] == len(ROWS)
    assert stats["documents"] == 2 == len(ROWS) - sum(stats["rejected"].values())
    assert stats["languages"] == {"en": 1, "zh": 1}
    assert stats["rejected_by_language"]["fr"] == {"language": 1}
    assert stats["pii"] == {"email": 1}
    assert stats["documents_masked"] == 1
    assert stats["domains"]["shop.example"] == {
        "in": 1,
        "kept": 0,
        "rejected": {"repetition.dup_line_frac": 1},
    }
    assert list(stats["domains"]) == ["h.example", "shop.example"]  # most lost first; zh.example lost nothing
    assert stats["source"] == "a.warc.gz"


def test_histograms_count_every_document_that_breaks_a_rule() -> None:
    artifact = run(ROWS[:2] + ROWS[4:])
    found = json.loads((open_store().open(artifact) / "histograms.json").read_text())
    words, lines = found["gopher.min_words"], found["repetition.dup_line_frac"]
    assert (words["limit"], words["broken"], sum(words["kept"]), sum(words["dropped"])) == (50.0, 1, 2, 2)
    assert sum(words["dropped"][:20]) == 1  # below the limit lie the bins before the twentieth
    assert (lines["broken"], sum(lines["dropped"][20:])) == (1, 1)


def test_any_number_of_workers_gives_the_same_bytes() -> None:
    rows = [
        row
        for n in range(12)
        for row in (document(f"{n}", f"{ENGLISH}\nPage {n}."), document(f"c{n}", CHINESE))
    ]
    digests = []
    for workers in (1, 3):
        artifact = run(rows, parallel={"workers": workers})
        digests.append({part.name: part.sha256 for part in artifact.parts})
        open_store().remove(artifact.kind, artifact.key)
    assert digests[0] == digests[1]


def test_speed_settings_are_not_in_the_cache_key_and_limits_are() -> None:
    base = canonical(CleanConfig(), "c")
    assert canonical(CleanConfig.model_validate({"parallel": {"workers": 9}}), "c") == base
    assert canonical(CleanConfig.model_validate({"gopher": {"min_words": 9}}), "c") != base


def test_a_users_file_counts_by_its_content(tmp_path: Path) -> None:
    def key(path: Path) -> Any:
        config = CleanConfig.model_validate({"url": {"blocked_domain_files": {"paths": [str(path)]}}})
        return canonical(config, "c")

    a, b = tmp_path / "a.txt", tmp_path / "b" / "a.txt"
    b.parent.mkdir()
    a.write_text("bad.example\n")
    b.write_text("bad.example\n")
    assert key(a) == key(b)
    b.write_text("worse.example\n")
    assert key(a) != key(b)
    with pytest.raises(ValueError, match=r"there is no file .*gone"):
        key(tmp_path / "gone")


def test_blocked_domains_block_their_subdomains(tmp_path: Path) -> None:
    (tmp_path / "list.gz").write_bytes(gzip.compress(b"# bad ones\nbad.example\n"))
    config = {
        "blocked_domains": ["Evil.example"],
        "blocked_domain_files": {"paths": [str(tmp_path / "list.gz")]},
    }
    cleaner = Cleaner(CleanConfig.model_validate({"url": config}))

    def reason(host: str) -> tuple[str, str]:
        result = cleaner(Document("0" * 64, f"https://{host}/essexx", host, ENGLISH))
        return result.reason, result.detail

    assert reason("www.bad.example") == ("url.blocked_domain", "bad.example")
    assert reason("evil.example") == ("url.blocked_domain", "evil.example")
    assert reason("notbad.example") == ("", "")


@pytest.mark.parametrize("name", ["例子.中国", "xn--fsqu00a.xn--fiqs8s"])
def test_a_domain_is_blocked_however_it_is_spelt(tmp_path: Path, name: str) -> None:
    (tmp_path / "list.txt").write_text(f"{name}\n", encoding="utf-8")
    for config in (
        {"blocked_domains": [name]},
        {"blocked_domain_files": {"paths": [str(tmp_path / "list.txt")]}},
    ):
        cleaner = Cleaner(CleanConfig.model_validate({"url": config}))
        for host in ("www.例子.中国", "www.xn--fsqu00a.xn--fiqs8s"):
            result = cleaner(Document("0" * 64, f"https://{host}/", host, CHINESE))
            assert result.reason == "url.blocked_domain"


@pytest.mark.parametrize(
    ("config", "mend"),
    [
        ({"url": {"blocked_domains": ["https://a.org/x"]}}, "write the name alone, such as example.org"),
        ({"url": {"blocked_domains": ["*.a.org"]}}, "write the name alone, such as example.org"),
        ({"url": {"blocked_words": ["色情"]}}, "letters a to z and digits"),
        ({"language": {"keep": ["cn"]}}, "'cn' is no ISO 639-1 code of a language; write zh"),
        ({"language": {"keep": ["zho"]}}, "'zho' is no ISO 639-1 code of a language; write zh"),
        ({"language": {"keep": ["en", "nb"]}}, "'nb' is no ISO 639-1 code of a language; write no"),
        ({"language": {"method": "fasttext"}}, r"name it in language\.fasttext_model\.paths"),
        ({"own_limits": ["zh-CN gopher.min_words=30"]}, "'zh-CN' is no ISO 639-1 code"),
        ({"own_limits": ["zh gopher.min_words=nan"]}, "'nan' is no number"),
    ],
)
def test_what_could_have_no_effect_is_refused_with_the_mend(config: dict[str, Any], mend: str) -> None:
    with pytest.raises(ValueError, match=mend):
        CleanConfig.model_validate(config)


def test_a_list_of_domains_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfbad.example\r\nworse.example\r\n")
    config = {"url": {"blocked_domain_files": {"paths": [str(tmp_path / "list.txt")]}}}
    cleaner = Cleaner(CleanConfig.model_validate(config))
    for host in ("bad.example", "worse.example"):
        assert cleaner(Document("0" * 64, f"https://{host}/", host, ENGLISH)).detail == host


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.gz", gzip.compress(b"bad.example\n")[:-4], r"list\.gz is no whole gzip file \(.+\): fetch it"),
        ("list.txt", "坏.example".encode("gbk"), r"list\.txt is no UTF-8 text \(.+ at byte 0\): save it as"),
    ],
)
def test_a_list_of_domains_that_is_broken_is_named(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    config = {"url": {"blocked_domain_files": {"paths": [str(tmp_path / name)]}}}
    with pytest.raises(GivenFileError, match=message):
        Cleaner(CleanConfig.model_validate(config))


def test_a_document_with_an_evaluation_record_is_dropped_by_the_records_name(tmp_path: Path) -> None:
    record = ENGLISH.split("\n")[3]
    (tmp_path / "exam.jsonl").write_text(json.dumps({"question": record}))
    artifact = run(ROWS[:2], decontaminate={"paths": [str(tmp_path / "*.jsonl")]})
    (reject,) = rows_of(artifact, "rejects.parquet")
    assert reject["reason"] == "contaminated"
    assert reject["detail"].startswith("exam.jsonl:1: ")


def test_a_part_without_documents_is_empty_not_an_error() -> None:
    artifact = run([])
    assert rows_of(artifact, "kept.parquet") == []
    assert artifact.stats["documents_in"] == 0


DYING = """
import os
from tasks.text.cleaning import Cleaner

class Dying(Cleaner):
    def __reduce__(self):
        return Dying, (self._config,)

    def __call__(self, document):
        if document.url.endswith("/7"):
            os.kill(os.getpid(), 9)
        return super().__call__(document)
"""


def test_lost_workers_cost_their_documents_and_too_many_the_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dying_cleaner.py").write_text(DYING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("tasks.clean.Cleaner", importlib.import_module("dying_cleaner").Dying)
    rows = [document(f"{n}", f"{ENGLISH}\nPage {n}.") for n in range(30)]
    artifact = run(rows, max_failed_share=0.2)
    assert artifact.stats["rejected"] == {"crashed": 1}
    assert artifact.stats["documents"] == 29
    with pytest.raises(
        TooManyFailuresError, match=r"1 of 30 documents to failures \(crashed 1\).*The first: \S"
    ):
        run(rows, max_failed_share=0.02)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=600), st.text(max_size=40))
def test_no_document_raises(text: str, path: str) -> None:
    cleaner = Cleaner(
        CleanConfig.model_validate({"language": {"keep": ["zh"]}, "gopher": {"enabled": False}})
    )
    result = cleaner(Document("0" * 64, f"https://h.example/{path}", "h.example", text))
    assert result.reason or result.signature
