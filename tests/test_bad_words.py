"""Bad words: whole words of the list's language, in any case, and none inside another word."""

from pathlib import Path

import pytest

from tasks.text.bad_words import BadWords
from tasks.text.cleaning import Cleaner, Document
from tasks.text.config import CleanConfig
from tasks.text.dedup_units import units
from tasks.text.given_files import GivenFileError


def lists(folder: Path, **words: str) -> BadWords:
    for name, content in words.items():
        (folder / f"{name}.txt").write_text(content, encoding="utf-8")
    return BadWords(sorted(folder.iterdir()))


@pytest.mark.parametrize(
    ("text", "language", "times"),
    [
        ("A DARN thing, darn it.", "en", 2),
        ("He darned his socks in Darnley.", "en", 0),
        ("son of a\ngun", "en", 1),
        ("a gun of a son", "en", 0),
        ("他真是个坏蛋啊，坏蛋！", "zh", 2),
        ("坏了一个鸡蛋", "zh", 0),
        ("darn 坏蛋", "zh", 1),
        ("darn 坏蛋", "fr", 0),
        ("verboten", "fr", 1),
        ("verboten", "", 1),
        ("", "en", 0),
    ],
)
def test_words_of_the_languages_own_list_and_of_the_general_one_count(
    tmp_path: Path, text: str, language: str, times: int
) -> None:
    words = lists(tmp_path, en="# a comment\ndarn\n\nson of a gun\n", zh="坏蛋\n", general="verboten\n")
    assert words.count(units(text), language) == times


def test_a_page_with_a_bad_word_is_dropped_with_its_count(tmp_path: Path) -> None:
    (tmp_path / "en").write_text("darn")
    config = {"c4": {"bad_words": {"paths": [str(tmp_path / "en")]}, "max_bad_words": 1}}
    config |= {name: {"enabled": False} for name in ("gopher", "repetition", "fineweb")}
    clean = Cleaner(CleanConfig.model_validate(config))
    story = "The keeper of the old light went down to the shore. Nobody was there to meet him. He sat down."
    once = clean(Document("0" * 64, "http://h.example/", "h.example", story + " Darn."))
    twice = clean(Document("0" * 64, "http://h.example/", "h.example", story + " Darn. Darn!"))
    assert (once.reason, once.signals["bad_words"]) == ("", 1.0)
    assert (twice.reason, twice.value, twice.threshold) == ("c4.max_bad_words", 2.0, 1.0)


@pytest.mark.parametrize(
    ("content", "message"), [(b"\xff\xfe\x00", "no UTF-8"), (b"good\n?!\n", "line 2: '\\?!' is no word")]
)
def test_a_list_that_is_none_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "en").write_bytes(content)
    with pytest.raises(GivenFileError, match=message):
        BadWords([tmp_path / "en"])
