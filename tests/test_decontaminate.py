"""Decontamination: what repeats an evaluation record is found and named, what only resembles it is not."""

import gzip
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.text.decontaminate import Hit, Index
from tasks.text.given_files import GivenFileError

SENTENCE = "The committee that the senators appointed has never once published any of its findings in print."
CHINESE = "这个委员会由参议员们任命成立以来从未公开发表过任何一份关于调查结果的正式书面报告。"


def jsonl(path: Path, *records: object) -> Path:
    path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records), encoding="utf-8")
    return path


def index_of(path: Path, *records: object) -> Index:
    return Index.build([jsonl(path / "set.jsonl", *records)])


def test_a_hit_names_the_file_the_record_and_the_shared_ngram(tmp_path: Path) -> None:
    first = jsonl(tmp_path / "a.jsonl", {"text": "nothing of the kind is to be found in this one"})
    second = jsonl(tmp_path / "b.jsonl", {"text": "short"}, {"text": SENTENCE})
    hit = Index.build([second, first]).hit(f"He wrote: {SENTENCE.upper()} And more.")
    assert hit == Hit(
        "b.jsonl",
        2,
        "the committee that the senators appointed has never once published any of its",
    )
    assert str(hit).startswith("b.jsonl:2: the committee")


@pytest.mark.parametrize(
    "record",
    [
        {"sentence_good": SENTENCE, "sentence_bad": "x", "UID": "adjunct_island"},
        {"sentence_good": "x", "sentence_bad": SENTENCE},
        {"ctx": "A man", "endings": ["sits.", SENTENCE], "label": 1},
        {"text": SENTENCE},
        {"nested": {"deep": [[SENTENCE]]}},
        SENTENCE,
    ],
)
def test_every_text_of_a_record_counts_whatever_its_field(tmp_path: Path, record: object) -> None:
    hit = index_of(tmp_path, record).hit(f"Before. {SENTENCE} After.")
    assert hit is not None
    assert hit.record == 1


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.txt"])
def test_json_lines_gzip_and_plain_text_are_read(tmp_path: Path, name: str) -> None:
    lines = f"\n{SENTENCE}\n" if name.endswith("txt") else f"\n{json.dumps({'a': SENTENCE})}\n"
    data = lines.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    hit = Index.build([tmp_path / name]).hit(SENTENCE)
    assert hit is not None
    assert hit.record == 2


def test_a_json_list_is_read_item_by_item(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(["one", {"q": SENTENCE}]))
    hit = Index.build([tmp_path / "a.json"]).hit(SENTENCE)
    assert hit is not None
    assert hit.record == 2


def test_a_json_object_is_read_by_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"version": 1, "data": ["one", {"q": {"text": SENTENCE}}]}))
    hit = Index.build([tmp_path / "a.json"]).hit(SENTENCE)
    assert hit is not None
    assert (hit.file, hit.record) == ("a.json", 3)


@pytest.mark.parametrize("mark", ["\u2028", "\x85", "\x0c", "\ufeff"])
def test_only_a_line_feed_ends_a_record(tmp_path: Path, mark: str) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"text": f"one {mark} two"}, {"text": SENTENCE})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    hit = Index.build([path]).hit(SENTENCE)
    assert hit is not None
    assert hit.record == 2


def test_twelve_shared_words_are_no_hit_and_thirteen_are(tmp_path: Path) -> None:
    words = [f"w{i}" for i in range(40)]
    index = index_of(tmp_path, {"text": " ".join(words)})
    assert index.hit(" ".join(["x", *words[5:17], "y"])) is None
    assert index.hit(" ".join(["x", *words[5:18], "y"])) == Hit("set.jsonl", 1, " ".join(words[5:18]))


def test_chinese_is_found_without_spaces(tmp_path: Path) -> None:
    index = index_of(tmp_path, {"text": CHINESE})
    hit = index.hit(f"新闻：{CHINESE[:20]}，{CHINESE[20:]}")
    assert hit is not None
    assert hit.ngram.startswith("这个委员会")
    assert index.hit(CHINESE[:25] + "其他") is None


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ("Who did it in the end?", True),
        ("Who did it then?", False),
        ("他说的话" * 3, True),
        ("他说的话", False),
    ],
)
def test_a_short_record_is_looked_for_whole_unless_it_is_too_short(
    tmp_path: Path, record: str, found: bool
) -> None:
    index = index_of(tmp_path, record, SENTENCE)
    assert (index.hit(f"Well. {record} Well.") is not None) == found


def test_records_do_not_run_into_each_other(tmp_path: Path) -> None:
    index = index_of(tmp_path, "one two three four five six seven", "eight nine ten eleven twelve thirteen")
    assert index.hit("four five six seven eight nine ten eleven twelve") is None


@pytest.mark.parametrize("text", ["", " ", "。。", "word", "\x00\x00", "\ud800 lone"])
def test_any_text_may_be_asked(tmp_path: Path, text: str) -> None:
    assert index_of(tmp_path, SENTENCE).hit(text) is None


def test_no_files_hit_nothing(tmp_path: Path) -> None:
    assert Index.build([]).hit(SENTENCE) is None
    assert index_of(tmp_path, "short", {"n": 1}, "word " * 6).hit(SENTENCE) is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.jsonl", None, "missing.jsonl cannot be read"),
        ("a.csv", b"x", "evaluation files end in .jsonl"),
        ("a.jsonl", b'{"a": 1}\n{"a": ', r"a.jsonl:2 is not JSON"),
        ("a.json", b"3", "a.json cannot be read as .json"),
        ("a.txt", b"\xff\xfe", "a.txt is no UTF-8 text"),
        ("a.jsonl.gz", b"no gzip", "a.jsonl.gz is no whole gzip file"),
        ("a.json", b"[" * 100_000, "a.json cannot be read as .json"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl:1 is not JSON"),
        ("a.jsonl", b'{"q": "who?"}\n', "a.jsonl: none of the 1 records has a text of 6 words"),
        ("a.txt", b"", "a.txt: none of the 1 records has a text"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(GivenFileError, match=message):
        Index.build([tmp_path / name])


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(13, 60))
def test_a_record_of_thirteen_words_or_more_is_found_anywhere_in_any_text(
    seed: int, before: int, size: int
) -> None:
    rng = random.Random(seed)
    record = " ".join(f"w{rng.randrange(300)}" for _ in range(size))
    noise = " ".join(f"n{rng.randrange(300)}" for _ in range(before))
    with tempfile.TemporaryDirectory() as folder:
        index = index_of(Path(folder), record)
    hit = index.hit(f"{noise}, {record}. {noise}")
    assert hit is not None
    assert index.hit(noise) is None


def test_no_page_of_real_english_text_repeats_blimp_by_chance(real_data: Callable[[str], Path]) -> None:
    import pyarrow.parquet as pq

    files = sorted(real_data("blimp").glob("*.jsonl"))
    index = Index.build(files)
    assert len(index) == sum(len(file.read_text().splitlines()) for file in files)
    gold = pq.read_table(real_data("wcxb/wcxb-dev-gold.parquet"), columns=["main_content"])["main_content"]
    texts = [text for text in gold.to_pylist()[:500] if text]
    assert not any(index.hit(text) for text in texts)
    lines = files[3].read_text().splitlines()
    planted = json.loads(lines[41])["sentence_good"]
    hit = index.hit(f"{texts[0]}\n{planted}\n{texts[1]}")
    assert hit is not None
    assert (hit.file, hit.record) == (files[3].name, 42)
