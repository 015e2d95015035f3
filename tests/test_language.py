"""Languages: told apart, shared out, filtered, and never a reason to fail."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.text import language
from tasks.text.addresses import language_in
from tasks.text.config import LanguageConfig
from tasks.text.language import LanguageError, identify, share_in, shares
from tasks.text.language_codes import code_of
from tasks.text.language_filter import judge, without_foreign
from tasks.text.language_lines import is_code

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


@pytest.mark.parametrize(
    ("text", "code"),
    [("Skip to content", "en"), ("你好", "zh"), ("使用条款", "zh"), ("Привет", "ru"), ("こんにちは", "ja")],
)
def test_a_few_words_are_recognised_without_a_second_identifier(
    text: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language, "_langid_model", lambda: pytest.fail("py3langid was loaded"))
    assert identify(text)[0] == code


def test_a_document_in_two_languages_has_two_shares() -> None:
    found = dict(shares("\n".join([SAMPLES["en"], SAMPLES["fr"]] * 3)))
    assert found["en"] == pytest.approx(0.5, abs=0.1)
    assert share_in(tuple(found.items()), ("en",)) == pytest.approx(0.5, abs=0.1)
    assert share_in(tuple(found.items()), ("en", "fr")) == pytest.approx(1.0)


def filtered(text: str, *keep: str, stated: str = "") -> tuple[float, str, list[str]]:
    """A text's share of the kept languages, the text without foreign lines, and those lines."""
    wanted = LanguageConfig(keep=keep)
    judged = judge(text, stated, wanted, None)
    return judged.share, *without_foreign(text, judged, wanted)


def test_lines_in_other_languages_are_taken_out_and_code_stays() -> None:
    code = "sudo apt-get install --no-install-recommends libapache2-mod-php"
    text = "\n".join([SAMPLES["en"], SAMPLES["fr"], code, SAMPLES["zh"], SAMPLES["fr"][:20]])
    _, rest, gone = filtered(text, "en", "zh")
    assert gone == [SAMPLES["fr"]]
    assert rest.split("\n") == [SAMPLES["en"], code, SAMPLES["zh"], SAMPLES["fr"][:20]]


def test_short_lines_in_a_script_of_their_own_are_told_apart() -> None:
    text = "\n".join([SAMPLES["zh"], "今日の天気", "Сегодня", SAMPLES["ja"], SAMPLES["ru"], "公园"])
    _, rest, gone = filtered(text, "zh", "en")
    assert gone == ["今日の天気", "Сегодня", SAMPLES["ja"], SAMPLES["ru"]]
    assert rest == f"{SAMPLES['zh']}\n公园"


@pytest.mark.parametrize(
    "text",
    [
        "日本动画《となりのトトロ》（龙猫）是宫崎骏导演的作品，于1988年上映，讲述了姐妹俩在乡下的奇遇。",
        "電影《となりのトトロ》是宮崎駿導演的作品，於1988年上映，講述了姊妹倆在鄉下的奇遇，很受歡迎。",
        "日语里的「は」和「が」有什么区别？「は」提示主题，「が」表示主语，初学者常常把两者混淆。",
    ],
)
def test_chinese_that_quotes_japanese_is_chinese(text: str) -> None:
    kept = LanguageConfig(keep=("zh",))
    assert judge(text, "", kept, None).share == 1
    assert judge(f"{SAMPLES['zh']}\n{text}", "", kept, None).share == 1
    japanese = "東京都千代田区の国会議事堂は、衆議院と参議院の建物で、目的別の会議室が多数設置されている。"
    assert judge(japanese, "", kept, None).share == 0


def test_kana_are_japanese_whatever_the_kanji_look_like() -> None:
    headline = "東京都知事選挙の結果、現職候補が三選"
    assert identify(headline)[0] == "ja"
    assert (
        identify("他在北京看了电影《となり》，觉得非常好看，于是又去看了一遍，还买了很多纪念品。")[0] == "zh"
    )


def test_a_mixed_document_is_counted_over_all_its_lines() -> None:
    """Windows that happen to lie in one language do not decide."""
    english, french = f"{SAMPLES['en']}\n" * 10, f"{SAMPLES['fr']}\n" * 10
    text = (french + english) * 7
    share, _, gone = filtered(text, "en")
    assert share == pytest.approx(len(english) / len(french + english), abs=0.02)
    assert len(gone) == 70


def test_short_lines_count_together() -> None:
    """A page of short English entries with a list of languages is an English page."""
    products = [f"Shoes for {kind} days" for kind in ("wet", "dry", "hot", "bad")] * 12
    menu = ["العربية في مصر", "المملكة العربية", "الإمارات العربية", "English", "Deutsch", "Русский язык"]
    share, _, gone = filtered("\n".join([*products, *menu]), "en", "zh")
    assert share > 0.8
    assert "العربية في مصر" in gone


def test_code_counts_for_no_language() -> None:
    session = "# apt install --yes /srv/x.deb\n$ dpkg-reconfigure locales\nfoo@bar:~$ make install now\n"
    assert all(is_code(line) for line in session.splitlines())
    assert not any(is_code(line) for text in SAMPLES.values() for line in text.splitlines())
    text = f"{SAMPLES['fr']}\n{session * 9}{SAMPLES['fr']}\n{SAMPLES['en']}\n"
    share, rest, _ = filtered(text, "en")
    assert share == pytest.approx(1 / 3, abs=0.05)
    assert session * 9 in rest


@pytest.mark.parametrize(
    ("stated", "weighed"),
    [
        ("fr-fr", 0.8),
        ("de", 0.8),
        ("", 1),
        ("en-fr", 1),
        ("zh-cn", 1),
        ("cn", 1),
        ("fra", 0.8),
        ("cmn-hans", 1),
    ],
)
def test_what_a_page_states_turns_the_scale_but_does_not_decide(stated: str, weighed: float) -> None:
    assert filtered(SAMPLES["en"], "en", "zh", stated=stated)[0] == pytest.approx(weighed)
    assert filtered(SAMPLES["fr"], "en", "zh", stated="en")[0] == 0
    mixed = "\n".join([SAMPLES["en"]] * 7 + [SAMPLES["fr"]] * 3)
    kept = filtered(mixed, "en", "zh", stated=stated)[0] >= LanguageConfig().min_share
    assert kept == (weighed == 1)


def test_what_a_page_states_can_decide_or_count_for_nothing() -> None:
    assert judge(SAMPLES["en"], "fr", LanguageConfig(keep=("en",), stated="refuse"), None).share == 0
    assert judge(SAMPLES["en"], "fr", LanguageConfig(keep=("en",), stated="ignore"), None).share == 1
    assert judge(SAMPLES["fr"], "fr", LanguageConfig(stated="refuse"), None).share == 1, "all are kept"


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
    share, rest, gone = filtered(text, "zh", stated=text[:9])
    assert 0 <= share <= 1.01
    assert sorted([*rest.split("\n"), *gone]) == sorted(text.split("\n")) or not gone


def test_without_cld2_langid_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "_pycld2", lambda: None)
    assert identify(SAMPLES["zh"])[0] == "zh"


def test_without_cld2_a_mixed_document_still_loses_its_foreign_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "_pycld2", lambda: None)
    text = f"{SAMPLES['en']}\n" * 12 + f"{SAMPLES['ru']}\n" * 4 + f"{SAMPLES['zh']}\n" * 12
    share, rest, gone = filtered(text, "en", "zh")
    assert set(gone) == {SAMPLES["ru"]}
    assert set(rest.split("\n")) == {SAMPLES["en"], SAMPLES["zh"], ""}
    assert 0.65 < share < 0.95


@pytest.mark.parametrize(
    ("label", "code"),
    [
        *(("cmn_Hani", "zh"), ("zho_Hans", "zh"), ("__label__zh", "zh"), ("zh-TW", "zh"), ("chi", "zh")),
        *(("eng_Latn", "en"), ("EN", "en"), ("yue_Hant", "yue"), ("nb-NO", "no"), ("nno_Latn", "no")),
        *(
            ("pes_Arab", "fa"),
            ("arz", "arz"),
            ("und_Hani", "und"),
            ("zxx_Zyyy", "und"),
            ("english", "english"),
        ),
    ],
)
def test_a_language_has_one_code_whoever_writes_it(label: str, code: str) -> None:
    assert code_of(label) == code
    assert code_of(code) == code


def test_a_norwegian_page_is_norwegian_by_either_form() -> None:
    assert language_in("https://h.example/nb-NO/x") == "no"
    assert judge(SAMPLES["en"], "nn", LanguageConfig(keep=("en", "no"), stated="refuse"), None).share == 1


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


@pytest.fixture(scope="module")
def book(real_data: Callable[[str], Path]) -> Callable[[str], list[tuple[str, str, str]]]:
    """Address, text and stated language of the pages of one handbook."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    from tasks.text.extract import extract

    @cache
    def pages(name: str) -> list[tuple[str, str, str]]:
        found = []
        with real_data(f"handbook/handbook-{name}.warc.gz").open("rb") as file:
            for record in ArchiveIterator(file, record_types=WarcRecordType.response):
                page = extract(record.reader.read())
                found.append((record.headers["WARC-Target-URI"], page.text, page.language_hint))
        return found

    return pages


def passes(page: tuple[str, str, str], **language: str) -> tuple[bool, str]:
    """Whether a page passes cleaning for Chinese and English, and what is kept of its text."""
    from tasks.text.cleaning import Cleaner, Document
    from tasks.text.config import CleanConfig

    cleaner = Cleaner(CleanConfig.model_validate({"language": {"keep": ["zh", "en"], **language}}))
    url, text, stated = page
    result = cleaner(Document("0" * 64, url, "h.example", text, stated))
    return not result.reason, result.text if not result.reason else ""


BOOKS = [("fr-FR", "fr"), ("ja-JP", "ja"), ("ru-RU", "ru"), ("ar-MA", "ar")]


@pytest.mark.parametrize(("name", "code"), BOOKS)
def test_of_real_text_in_other_languages_a_hundredth_gets_through(
    book: Callable[[str], list[tuple[str, str, str]]], name: str, code: str
) -> None:
    foreign = sum(characters_in(page[1], code) for page in book(name))
    kept = sum(characters_in(passes(page, addresses="ignore")[1], code) for page in book(name))
    assert foreign > 30_000
    assert kept <= 0.01 * foreign  # the pages that are kept are those nobody translated


def test_of_real_pages_in_other_languages_a_hundredth_gets_through(
    book: Callable[[str], list[tuple[str, str, str]]],
) -> None:
    """Pages of which at least half is not, word for word, in the English book; the others are English."""
    english = {line for _, text, _ in book("en-US") for line in text.split("\n")}

    def translated(text: str) -> bool:
        own = sum(len(line) for line in text.split("\n") if line not in english)
        return own >= 0.5 * sum(map(len, text.split("\n")))

    pages = [page for name, _ in BOOKS for page in book(name) if translated(page[1])]
    assert len(pages) > 200
    assert sum(passes(page, addresses="ignore")[0] for page in pages) <= 0.01 * len(pages)


@pytest.mark.parametrize("config", [{"addresses": "refuse"}, {"addresses": "ignore", "stated": "refuse"}])
def test_where_addresses_or_statements_count_their_untranslated_pages_go_too(
    book: Callable[[str], list[tuple[str, str, str]]], config: dict[str, str]
) -> None:
    assert not any(passes(page, **config)[0] for name, _ in BOOKS for page in book(name))
    for name in ("zh-CN", "en-US"):
        kept = sum(passes(page, **config)[0] for page in book(name))
        assert kept >= 0.95 * len(book(name))


def characters_in(text: str, code: str) -> int:
    """Characters in lines that are clearly in a language."""
    return sum(len(line) for line in text.split("\n") if len(line) > 60 and identify(line)[0] == code)
