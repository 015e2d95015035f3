"""Languages: told apart, shared out, filtered, and never a reason to fail."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.text import language
from tasks.text.addresses import language_in
from tasks.text.language import LanguageError, identify, remove_foreign_lines, share_in, shares

SAMPLES = {
    "zh": "今天的天气非常好，我们决定一起去公园散步，然后在湖边的小餐馆吃午饭。",
    "en": "The weather was so fine that we decided to walk in the park and have lunch by the lake.",
    "fr": "Il faisait si beau que nous avons décidé de nous promener dans le parc avant de déjeuner.",
    "ja": "今日はとても天気が良かったので、公園を散歩して湖のほとりで昼食をとることにしました。",
    "ru": "Погода была такой хорошей, что мы решили погулять в парке и пообедать у озера.",
    "ar": "كان الطقس جميلا جدا فقررنا أن نتنزه في الحديقة ثم نتناول الغداء بجانب البحيرة.",
    "de": "Das Wetter war so schön, dass wir beschlossen, im Park spazieren zu gehen und am See zu essen.",
    "th": "วันนี้อากาศดีมาก เราจึงตัดสินใจไปเดินเล่นในสวนสาธารณะและกินข้าวกลางวันริมทะเลสาบ",
}


@pytest.mark.parametrize("method", ["cld2", "langid"])
def test_each_language_is_recognised(method: language.Method) -> None:
    assert {code: identify(text, method)[0] for code, text in SAMPLES.items()} == {c: c for c in SAMPLES}


def test_traditional_chinese_is_chinese() -> None:
    assert identify("今天的天氣非常好，我們決定一起去公園散步，然後在湖邊的小餐館吃午飯。")[0] == "zh"


def test_a_document_in_two_languages_has_two_shares() -> None:
    found = dict(shares("\n".join([SAMPLES["en"], SAMPLES["fr"]] * 3)))
    assert found["en"] == pytest.approx(0.5, abs=0.1)
    assert share_in(tuple(found.items()), ("en",)) == pytest.approx(0.5, abs=0.1)
    assert share_in(tuple(found.items()), ("en", "fr")) == pytest.approx(1.0)


def test_lines_in_other_languages_are_taken_out_and_code_stays() -> None:
    code = "sudo apt-get install --no-install-recommends libapache2-mod-php"
    text = "\n".join([SAMPLES["en"], SAMPLES["fr"], code, SAMPLES["zh"], SAMPLES["fr"][:20]])
    rest, gone = remove_foreign_lines(text, shares(text), ("en", "zh"))
    assert gone == [SAMPLES["fr"]]
    assert rest.split("\n") == [SAMPLES["en"], code, SAMPLES["zh"], SAMPLES["fr"][:20]]


def test_a_long_document_is_identified_from_all_over_it() -> None:
    text = SAMPLES["en"] * 300 + SAMPLES["fr"] * 900
    assert identify(text)[0] == "fr"


@pytest.mark.parametrize("text", ["", "123 456", "\x00\x01\ud800", "...", "\U0001fffe" * 30])
def test_what_has_no_language_is_unknown(text: str) -> None:
    assert identify(text) == ("und", 0.0)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec=None), max_size=300))
def test_no_text_raises(text: str) -> None:
    code, share = identify(text)
    assert code
    assert 0 <= share <= 1.01
    remove_foreign_lines(text, shares(text), ("zh",))


def test_without_cld2_langid_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "_pycld2", lambda: None)
    assert identify(SAMPLES["zh"])[0] == "zh"


def test_fasttext_asks_for_its_model() -> None:
    with pytest.raises(LanguageError, match=r"language\.fasttext_model\.paths"):
        identify("text", "fasttext")


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("https://h.example/fr-FR/page.html", "fr"),
        ("https://h.example/docs/zh_CN.html", "zh"),
        ("https://h.example/zh-Hant-TW/", "zh"),
        ("https://h.example/it/support", ""),
        ("https://h.example/my-ID/x", "my"),
        ("https://h.example/fr-france/x", ""),
    ],
)
def test_a_language_in_an_address_has_a_region(url: str, named: str) -> None:
    assert language_in(url) == named


@pytest.mark.parametrize(
    ("name", "code"), [("fr-FR", "fr"), ("ja-JP", "ja"), ("ru-RU", "ru"), ("ar-MA", "ar")]
)
def test_of_real_pages_in_other_languages_a_hundredth_gets_through(
    real_data: Callable[[str], Path], name: str, code: str
) -> None:
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    from tasks.text.cleaning import Cleaner, Document
    from tasks.text.config import CleanConfig
    from tasks.text.extract import extract

    by_text = Cleaner(CleanConfig.model_validate({"language": {"keep": ["zh", "en"], "addresses": "ignore"}}))
    by_both = Cleaner(CleanConfig.model_validate({"language": {"keep": ["zh", "en"]}}))
    foreign = kept_foreign = passed = 0
    with real_data(f"handbook/handbook-{name}.warc.gz").open("rb") as file:
        for record in ArchiveIterator(file, record_types=WarcRecordType.response):
            url, text = record.headers["WARC-Target-URI"], extract(record.reader.read()).text
            foreign += characters_in(text, code)
            result = by_text(Document("0" * 64, url, "h.example", text))
            kept_foreign += characters_in(result.text, code) if not result.reason else 0
            passed += not by_both(Document("0" * 64, url, "h.example", text)).reason
    assert foreign > 30_000
    assert kept_foreign <= 0.01 * foreign  # the pages that are kept are those nobody translated
    assert passed == 0  # and where the address counts, they go as well


def characters_in(text: str, code: str) -> int:
    """Characters in lines that are clearly in a language."""
    return sum(len(line) for line in text.split("\n") if len(line) > 60 and identify(line)[0] == code)
