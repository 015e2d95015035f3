"""The papers' rules, as they read: each breaks on a text made to break it, and good text breaks none."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.text import quality_characters
from tasks.text.config import CleanConfig, LinesConfig
from tasks.text.documentation_config import documentation
from tasks.text.lines import clean_lines
from tasks.text.quality import RULES, all_failed, judge, measure
from tasks.text.rules_config import BY_LANGUAGE, limits

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
JAPANESE = """年老いた灯台守は、その船が岬を回ってやって来るまで、何週間も誰とも話をしていなかった。
船は深く沈んでいて、二人の男が櫂を漕ぎ、三人目の男は船尾に座ったまま動かなかった。
正午から風が強くなり、カモメはもう塔の裏の草の上を歩き回っていた。嵐の前にだけそうするのだ。
「悪い時に来たものだ」と彼は言ったが、誰も答えなかった。"""
THAI = """คนเฝ้าประภาคารเฒ่าไม่ได้พูดกับใครมาหลายสัปดาห์แล้วเมื่อเรือลำนั้นแล่นอ้อมแหลมเข้ามา
เรือกินน้ำลึกมาก มีชายสองคนพายเรือ และคนที่สามนั่งอยู่ท้ายเรือโดยไม่ขยับเขยื้อน
ลมแรงขึ้นตั้งแต่เที่ยงวัน และนกนางนวลเดินอยู่บนหญ้าหลังประภาคารแล้ว ซึ่งมันจะทำเช่นนี้ก่อนพายุมาเท่านั้น
คนที่สามมองดูแสงไฟ มองดูบ้าน แล้วมองดูทะเลอยู่เป็นเวลานาน"""
GOOD = {"en": ENGLISH, "zh": CHINESE, "ja": JAPANESE, "th": THAI}
CONFIG = CleanConfig()


def broken(text: str, language: str = "en", config: CleanConfig = CONFIG) -> set[str]:
    return {reject.reason for reject in all_failed(measure(text, language), language, config)}


@pytest.mark.parametrize("language", GOOD)
def test_good_text_breaks_no_rule(language: str) -> None:
    assert broken(GOOD[language], language) == set()


@pytest.mark.parametrize("language", ["und", "en", "zh"])
def test_a_wrong_guess_at_the_language_does_not_drop_good_chinese(language: str) -> None:
    assert broken(CHINESE, language) == set()


def test_the_chinese_profile_on_english_text_is_the_english_one() -> None:
    assert broken(ENGLISH, "zh") - {"gopher.min_stop_words"} == set()


BAD = {
    "repetition.dup_line_frac": ENGLISH + "\nI am your father." * 6,
    "repetition.dup_para_frac": "\n\n".join([ENGLISH, *["Read more about this."] * 4]),
    "repetition.dup_line_char_frac": ENGLISH + "\n" + ENGLISH.split("\n", 1)[0] + "\n" + ENGLISH,
    "repetition.dup_para_char_frac": f"{ENGLISH}\n\n{ENGLISH}",
    "repetition.top_2_gram": ENGLISH + " buy now" * 60,
    "repetition.top_3_gram": ENGLISH + " buy it now" * 40,
    "repetition.top_4_gram": ENGLISH + " buy it right now" * 30,
    "repetition.dup_5_gram": ENGLISH + " we sell good shoes here" * 9,
    "repetition.dup_10_gram": f"{ENGLISH} Then it all began again. {ENGLISH}",
    "gopher.min_words": " ".join(ENGLISH.split()[:40]),
    "gopher.max_words": ENGLISH * 1000,
    "gopher.min_mean_word_length": ENGLISH + " a b c d" * 60,
    "gopher.max_mean_word_length": ENGLISH + " incomprehensibilities" * 90,
    "gopher.symbol_word_ratio": ENGLISH + " #one" * 20,
    "gopher.bullet_lines": "\n".join(f"- {line}" for line in ENGLISH.split("\n")),
    "gopher.ellipsis_lines": "\n".join(f"{line}..." for line in ENGLISH.split("\n")),
    "gopher.min_alpha_words": ENGLISH + " 17 | 4" * 40,
    "gopher.min_stop_words": " ".join(f"colour{n} shape{n} size{n}." for n in range(30)),
    "c4.min_sentences": " ".join(ENGLISH.split()).replace(".", ",").replace('"', ""),
    "c4.curly_bracket_lines": "\n".join(f"if (x) {{ {line} }}" for line in ENGLISH.split("\n")),
    "c4.max_lorem_ipsum": ENGLISH + "\nLorem ipsum dolor sit amet.",
    "fineweb.min_line_punct": "\n".join(f"{line.rstrip('.')} and" for line in ENGLISH.split("\n")),
    "fineweb.short_lines": "\n".join(ENGLISH[at : at + 20] for at in range(0, len(ENGLISH), 20)),
    "fineweb.char_dup_lines": ENGLISH + "\n" + "\n".join(ENGLISH.split("\n")[:1] * 2),
    "fineweb.new_line_ratio": ENGLISH.replace(" ", "\n"),
}


@pytest.mark.parametrize("rule", BAD)
def test_each_rule_breaks_on_what_it_is_about(rule: str) -> None:
    assert rule in broken(BAD[rule])


CHINESE_BAD = {
    "repetition.dup_line_frac": CHINESE + "\n欢迎关注我们的公众号。" * 4,
    "repetition.top_2_gram": CHINESE + "特价优惠" * 40,
    "repetition.dup_5_gram": CHINESE + "本店所有商品一律八折优惠销售" * 8,
    "gopher.min_words": CHINESE[:70],
    "gopher.min_alpha_words": CHINESE + " 17 4" * 60,
    "gopher.min_stop_words": "灯塔海鸥暴风雨船桨码头礁石" * 12,
    "fineweb.short_lines": "\n".join(CHINESE.replace("\n", "")[at : at + 8] for at in range(0, 180, 8)),
    "fineweb.min_line_punct": "\n".join(line[:25] for line in CHINESE.split("\n")),
}


@pytest.mark.parametrize("rule", CHINESE_BAD)
def test_each_rule_has_its_chinese_form(rule: str) -> None:
    assert rule in broken(CHINESE_BAD[rule], "zh")


def test_rules_and_configuration_name_the_same_limits() -> None:
    assert {rule.name for rule in RULES} - {"score.min_score"} == set(limits())


def test_a_reject_says_what_was_measured_and_where_the_line_was() -> None:
    reject = judge(measure("Too short.", "en"), "en", CONFIG)
    assert reject is not None
    assert (reject.reason, reject.value, reject.threshold) == ("gopher.min_words", 2.0, 50.0)


def test_limits_for_one_language_hold_for_it_alone() -> None:
    config = CleanConfig(own_limits=("zh gopher.min_words=500",))
    assert "gopher.min_words" in broken(CHINESE, "zh", config)
    assert broken(ENGLISH, "en", config) == set()


def test_a_section_that_is_switched_off_judges_nothing() -> None:
    config = CleanConfig.model_validate({"gopher": {"enabled": False}})
    assert "gopher.min_words" not in broken("Too short.", "en", config)


def test_a_misspelt_rule_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"no rule 'gopher.min_word'.*gopher\.min_words"):
        CleanConfig(own_limits=("zh gopher.min_word=1",))
    with pytest.raises(ValueError, match="'many' is no number"):
        CleanConfig(own_limits=("zh gopher.min_words=many",))


def test_own_limits_go_over_those_that_are_known_for_a_language() -> None:
    known = CleanConfig().by_language["zh"]
    found = CleanConfig(own_limits=("zh gopher.min_words = 30",)).by_language
    assert found["zh"] == {**known, "gopher.min_words": 30.0}
    assert CleanConfig(limits_by_language="none").by_language == {}
    assert CleanConfig().by_language["zh"] == known


def test_no_limit_of_a_language_is_stricter_than_the_english_one() -> None:
    bounds = {rule.name: rule.bound for rule in RULES}
    for own in BY_LANGUAGE.values():
        for rule, limit in own.items():
            assert (limit > limits()[rule]) == (bounds[rule] == "most"), rule


def test_a_limit_that_is_changed_holds_for_every_language() -> None:
    """A rule that is switched off drops no Chinese page either, and the presets' limits are theirs too."""
    text = CHINESE.replace("。", "，")
    assert "fineweb.min_line_punct" in broken(text, "zh")
    off = CleanConfig.model_validate({"fineweb": {"min_line_punct": 0}})
    assert "fineweb.min_line_punct" not in broken(text, "zh", off)
    assert off.by_language["zh"]["repetition.top_2_gram"] == CONFIG.by_language["zh"]["repetition.top_2_gram"]
    assert documentation().by_language["zh"].keys() <= {f"repetition.top_{size}_gram" for size in (2, 3, 4)}
    own = CleanConfig(fineweb=off.fineweb, own_limits=("zh fineweb.min_line_punct=0.2",))
    assert "fineweb.min_line_punct" in broken(text, "zh", own)


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(codec=None), max_size=400), st.sampled_from(["en", "zh", "th", "und", "vi"]))
def test_any_text_has_finite_signals(text: str, language: str) -> None:
    signals = measure(text, language)
    assert all(0 <= value < float("inf") for value in signals.values())
    judge(signals, language, CONFIG)
    clean_lines(text, language, LinesConfig(terminal_punctuation=True))


def test_lines_are_taken_out_by_rule() -> None:
    text = "\n".join(
        [
            "Breakfast",
            "We serve it from seven to eleven, in the garden where it is warm.",
            "We use cookies to improve your experience.",
            "Please enable JavaScript to view this page.",
            "Home",
            "About us",
            "The first guests came in 1907.[12] They stayed a week.[edit]",
            "x" * 1200,
            "JavaScript is a language in which the pages of the web are programmed.",
        ]
    )
    rest, removed = clean_lines(text, "en", LinesConfig())
    assert removed == {
        "citations": 2,
        "policy": 1,
        "javascript": 1,
        "max_word_length": 1,
        "min_words_per_line": 2,
    }
    assert rest.split("\n") == [
        "Breakfast",
        "We serve it from seven to eleven, in the garden where it is warm.",
        "The first guests came in 1907. They stayed a week.",
        "JavaScript is a language in which the pages of the web are programmed.",
    ]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("继续浏览即表示您同意我们使用 cookie。", "policy"),
        ("請先閱讀本網站的隱私權政策。", "policy"),
        ("您的浏览器不支持JavaScript，请更换浏览器。", "javascript"),
        ("請啟用您瀏覽器的 JavaScript。", "javascript"),
        ("本站需要 JavaScript，但它已被禁用。", "javascript"),
        ("自然人享有隐私权，任何组织或者个人不得侵害。", ""),
        ("JavaScript 支持面向对象、命令式和函数式编程，由布兰登·艾克首先设计。", ""),
        ("这份报告比较了二十家公司的隐私政策，" + "发现其中大多数没有说明数据保存多久。" * 4, ""),
    ],
)
def test_chinese_notices_are_taken_out_and_what_is_written_about_them_is_not(line: str, rule: str) -> None:
    rest, removed = clean_lines(f"{CHINESE}\n{line}", "zh", LinesConfig())
    assert removed == ({rule: 1} if rule else {})
    assert (line in rest) == (not rule)


def test_an_ellipsis_is_one_however_it_is_written() -> None:
    marks = ("…", "……", "...", "......")
    assert len({measure(CHINESE + mark, "zh")["ellipsis_word_ratio"] for mark in marks}) == 1


def test_citation_marks_in_code_stay() -> None:
    code = "for i in range(3): total += values[1] * weights[2]"
    assert clean_lines(code, "en", LinesConfig()) == (code, {})


def test_chinese_lines_are_counted_in_words_of_their_own() -> None:
    text = "首页\n新闻\n今天的天气非常好。\n版权"
    assert clean_lines(text, "zh", LinesConfig())[0].split("\n") == ["今天的天气非常好。", "版权"][:1]


def test_of_real_chinese_documents_nineteen_in_twenty_pass(real_data: Callable[[str], Path]) -> None:
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    from tasks.text.cleaning import Cleaner, Document
    from tasks.text.extract import extract

    cleaner, reasons = Cleaner(CONFIG), []
    with real_data("handbook/handbook-zh-CN.warc.gz").open("rb") as file:
        for record in ArchiveIterator(file, record_types=WarcRecordType.response):
            text = extract(record.reader.read()).text
            reasons.append(cleaner(Document("0" * 64, "https://h.example/", "h.example", text)).reason)
    assert reasons.count("") >= 0.95 * len(reasons), sorted(reasons)


def test_characters_are_of_the_kinds_that_unicode_says() -> None:
    kinds = quality_characters.kinds()
    for code in range(0, 0x20000, 7):
        category, kind = unicodedata.category(chr(code)), int(kinds[code])
        assert bool(kind & quality_characters.LETTER) == (category[0] == "L")
        assert bool(kind & quality_characters.UPPER) == (category == "Lu")
        assert bool(kind & quality_characters.DIGIT) == (category[0] == "N")
        assert bool(kind & quality_characters.SPACE) == (category[0] not in "LN" and chr(code).isspace())
    assert int(kinds[ord("好")]) & quality_characters.ALONE
    assert int(kinds[0x20000]) & quality_characters.ALONE
