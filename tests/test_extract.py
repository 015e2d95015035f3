"""What extraction promises: the main content, in any charset, and a named refusal of what is no page."""

import time
import unicodedata
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.text.charset import decode, known_codec
from tasks.text.extract import extract
from tasks.text.extract_config import ExtractConfig, Mode
from tasks.text.extract_errors import ExtractionError
from tasks.text.pages import extract_page
from tasks.text.tidying import nfc, without_endless_marks


@dataclass
class Page:
    """A record with a page's bytes."""

    content: bytes
    url: str = ""
    text: None = None
    content_type: str = "text/html"
    charset: str = ""


ACUTE, MARKS = "\u0301", "\u0323\u0301"
ENGLISH = (
    "The river rose in the night, and by the morning the lower meadows stood under water. "
    "Nobody in the village could remember a flood so early in the year, and nobody had moved the sheep."
)
CHINESE = (
    "那天夜里河水涨了起来，到了早晨，低处的草地已经全被淹没。村里没有人记得哪一年的洪水来得这样早，"
    "也没有人想到要把羊群赶到高处去。大家站在堤岸上，看着水面慢慢漫过石桥，谁也不说话。"
)
JAPANESE = (
    "その夜、川の水かさが増し、朝には低い牧草地がすっかり水に沈んでいた。村の誰も、これほど早い時期の"
    "洪水を覚えていなかったし、羊を高い所へ移そうと考えた者もいなかった。"
)
KOREAN = (
    "강물은 밤새 불어났고 아침에는 낮은 초원이 물에 잠겨 있었다. "
    "마을의 누구도 이렇게 이른 홍수를 기억하지 못했다. "
) * 3
RUSSIAN = "Река поднялась ночью, и утром луга стояли под водой. " * 5
TRADITIONAL = "那天夜裡河水漲了起來，到了早晨，低處的草地已經全被淹沒。村裡沒有人記得哪一年的洪水來得這樣早。"


def page(body: str, head: str = "") -> str:
    return f"""<!DOCTYPE html><html lang="en-GB"><head><title>The flood | The Daily</title>{head}</head><body>
<header><nav><ul><li><a href="/">Home</a></li><li><a href="/news">News</a></li><li><a href="/s">Sport</a></li>
</ul></nav></header><main><article><h1>The flood</h1>{body}</article></main>
<footer><p>Copyright 2025 The Daily. All rights reserved.</p><a href="/privacy">Privacy</a></footer>
</body></html>"""


LIST = "<ul><li>The first thing they lost was the bridge.</li><li>The second was the mill.</li></ul>"
ARTICLE = page(f"<p>{ENGLISH}</p>{LIST}<p>{ENGLISH[::-1]}</p>")


@pytest.mark.parametrize("mode", ["fast", "best", "quality"])
def test_keeps_the_article_and_drops_the_frame(mode: str) -> None:
    text = extract(ARTICLE.encode(), mode=mode).text  # type: ignore[arg-type]
    assert ENGLISH in text
    assert ENGLISH[::-1] in text
    assert "The second was the mill." in text or mode == "fast"
    assert "Sport" not in text
    assert "All rights reserved" not in text


@pytest.mark.parametrize("mode", ["fast", "best", "quality"])
def test_same_bytes_same_text(mode: str) -> None:
    assert extract(ARTICLE.encode(), mode=mode) == extract(ARTICLE.encode(), mode=mode)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["fast", "best", "quality"])
@pytest.mark.parametrize(
    ("text", "codec"),
    [
        (CHINESE, "gb18030"),
        (CHINESE, "gbk"),
        (CHINESE, "utf-8"),
        (CHINESE, "utf-16"),
        (CHINESE, "hz"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (JAPANESE, "iso2022_jp"),
        (CHINESE * 30, "utf-16-le"),
        (CHINESE * 30, "utf-16-be"),
        (KOREAN, "euc_kr"),
        (KOREAN, "cp949"),
        (KOREAN, "iso2022_kr"),
        ("Der Fluß stieg über die Ufer; später fiel er. " * 5, "cp1252"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8_r"),
    ],
)
def test_charsets_without_any_label(text: str, codec: str, mode: str) -> None:
    html = page(f"<p>{text}</p><p>{text}</p>").encode(codec)
    assert text.strip() in extract(html, mode=mode).text  # type: ignore[arg-type]


def test_code_that_looks_like_hz_is_ascii() -> None:
    code = 'See /~user/ and a~~b. (format t "~{~a~^, ~}") ~{foobar~} ~{abcdefghijklmnopqrstuvwabcdef~}'
    assert decode(code.encode()) == (code, "utf-8")
    assert decode(f"{CHINESE}".encode("hz") + b" at /~user/ a~~b") == (f"{CHINESE} at /~user/ a~b", "hz")


@pytest.mark.parametrize("label", ["header", "meta", "none", "wrong"])
def test_big5_however_labelled(label: str) -> None:
    head = '<meta http-equiv="Content-Type" content="text/html; charset=big5">' if label == "meta" else ""
    html = page(f"<p>{TRADITIONAL}</p><p>{TRADITIONAL * 3}</p>", head).encode("big5")
    header = {"header": "Big5", "wrong": "utf-8"}.get(label, "")
    assert TRADITIONAL in extract(html, charset=header).text


@pytest.mark.parametrize(
    ("header", "meta"),
    [
        ("ISO-8859-1", ""),
        ("", "iso-8859-1"),
        ("windows-1252", "{0}"),
        ("{0}", "us-ascii"),
        ("ISO-8859-1", "utf-8"),
        ("ISO-8859-1", "iso-8859-1"),
    ],
)
@pytest.mark.parametrize(
    ("text", "codec"),
    [
        (CHINESE, "gbk"),
        (TRADITIONAL * 2, "big5"),
        (JAPANESE, "euc_jp"),
        (KOREAN, "euc_kr"),
        (RUSSIAN, "cp1251"),
    ],
)
def test_a_server_that_says_latin_1_of_all_its_pages_is_not_believed(
    text: str, codec: str, header: str, meta: str
) -> None:
    head = f'<meta charset="{meta.format(codec)}">' if meta else ""
    html = page(f"<p>{text}</p><p>{text}</p>", head).encode(codec)
    assert text.strip() in extract(html, charset=header.format(codec)).text


@pytest.mark.parametrize(("header", "meta"), [("{0}", ""), ("", "{0}"), ("{0}", "{0}")])
@pytest.mark.parametrize(
    ("text", "codec", "label"),
    [
        (TRADITIONAL * 2, "big5", "gb2312"),
        (TRADITIONAL * 2, "big5", "gbk"),
        (CHINESE, "gbk", "big5"),
        (TRADITIONAL * 2, "gb18030", "big5"),
    ],
)
def test_a_page_labelled_as_the_other_chinese_charset_is_read_as_what_it_is(
    text: str, codec: str, label: str, header: str, meta: str
) -> None:
    html = page(f"<p>{text}</p><p>{text}</p>", f'<meta charset="{meta.format(label)}">').encode(codec)
    assert text.strip() in extract(html, charset=header.format(label)).text


@pytest.mark.parametrize(
    ("text", "label", "codec"),
    [(CHINESE, "gb2312", "gb18030"), (TRADITIONAL, "gbk", "gb18030"), (TRADITIONAL, "big5", "big5hkscs")],
)
def test_a_right_label_of_a_chinese_charset_is_believed(text: str, label: str, codec: str) -> None:
    html = page(f"<p>{text}</p>").encode(codec)
    assert decode(html, label) == (html.decode(codec), codec)


@pytest.mark.parametrize(
    "text", ["A situação das populações é uma opção. ", "Hän tietää tämän, vävyään ääneti. "]
)
@pytest.mark.parametrize("label", ["iso-8859-1", "windows-1252"])
def test_a_label_of_latin_1_is_believed_of_western_text(text: str, label: str) -> None:
    html = page(f"<p>{text * 20}</p>").encode("cp1252")
    assert decode(html, label) == (html.decode("cp1252"), "cp1252")


def test_a_label_of_latin_1_on_utf8_with_a_broken_byte_is_ignored() -> None:
    text = "Près du château, la rivière était très élevée. " * 20
    html = page(f"<p>{text}</p>", '<meta charset="iso-8859-1">').encode() + b"\xe9"
    assert text.strip() in extract(html).text


@pytest.mark.parametrize("label", ["cp936", "CP949", "koi8_r", "iso8859_2", "cp950"])
def test_names_that_are_no_labels_are_known(label: str) -> None:
    assert known_codec(label)


def test_scripts_before_the_text_say_nothing_of_its_charset() -> None:
    script = "<script>" + "var x = 'abc';\n" * 10_000 + "</script>"
    html = page(f"<p>{CHINESE}</p><p>{CHINESE}</p>", script).encode("gbk")
    assert CHINESE in extract(html).text


def test_a_wrong_label_on_utf8_is_ignored() -> None:
    html = page(f"<p>{CHINESE}</p>", '<meta charset="iso-8859-1">').encode()
    extracted = extract(html, charset="gb2312")
    assert CHINESE in extracted.text
    assert extracted.charset == "utf-8"


def test_a_few_broken_bytes_do_not_change_the_charset() -> None:
    html = page(f"<p>{CHINESE * 20}</p>").encode() + b"\xff\xfe<!-- cut -->"
    assert decode(html, "")[1] == "utf-8"


def test_unknown_labels_are_no_error() -> None:
    assert extract(ARTICLE.encode(), charset="klingon-8").text


def test_metadata_from_linked_data() -> None:
    head = """<script type="application/ld+json">{"@context": "https://schema.org", "@graph": [
      {"@type": "WebSite", "name": "The Daily"},
      {"@type": "NewsArticle", "headline": "The flood", "datePublished": "2025-09-04T08:00:00Z",
       "author": {"@id": "#jane"}}, {"@type": "Person", "@id": "#jane", "name": "Jane Reed"}]}</script>"""
    found = extract(page(f"<p>{ENGLISH}</p>", head).encode())
    assert (found.title, found.date, found.author) == ("The flood", "2025-09-04", "Jane Reed")
    assert found.language_hint == "en-gb"


def test_metadata_from_meta_elements() -> None:
    head = """<meta property="og:title" content="The flood &amp; after"><meta content="Ann Lee" name="author">
    <meta property="article:published_time" content="2024-01-31">"""
    found = extract(page(f"<p>{ENGLISH}</p>", head).encode())
    assert (found.date, found.author) == ("2024-01-31", "Ann Lee")


def test_metadata_from_what_the_reader_sees() -> None:
    seen = '<div class="byline">By <b>Ann Lee</b></div><span class="post-date">March 3, 2021</span>'
    found = extract(page(f"{seen}<p>{ENGLISH}</p>").encode())
    assert (found.date, found.author) == ("2021-03-03", "Ann Lee")
    chinese = extract(page(f'<span class="date">2021年3月4日</span><p>{CHINESE}</p>').encode())
    assert chinese.date == "2021-03-04"


@pytest.mark.parametrize(
    ("seen", "author"),
    [
        ('<span class="author">作者：张三</span>', "张三"),
        ('<a rel="author" href="/u/1">欧阳修文</a>', "欧阳修文"),
        ('<p itemprop="author"><b itemprop="name">김철수</b></p>', "김철수"),
        ('<span class="author">关注</span>', ""),
        ('<span class="author-box">管理员 发表于</span>', ""),
    ],
)
def test_authors_have_names_without_capitals_and_spaces_too(seen: str, author: str) -> None:
    assert extract(page(f"{seen}<p>{CHINESE}</p>").encode()).author == author


def test_a_date_is_a_day_that_there_is() -> None:
    def date(seen: str) -> str:
        return extract(page(f"{seen}<p>{CHINESE}</p>").encode()).date

    assert date('<span id="pubtime_baidu">2024-03-05 10:30</span>') == "2024-03-05"
    assert date('<span class="date">2024年2月31日</span>') == ""


def test_broken_linked_data_is_ignored() -> None:
    for broken in (
        "{",
        "[" * 5000,
        '{"author": {"name": {"name": [[1]]}}, "datePublished": 7}',
        "null",
        '"x"',
    ):
        head = f'<script type="application/ld+json">{broken}</script>'
        assert extract(page(f"<p>{ENGLISH}</p>", head).encode()).text


def refusal(html: bytes, **bounds: int) -> str:
    with pytest.raises(ExtractionError) as caught:
        extract(html, **bounds)  # type: ignore[arg-type]
    assert caught.value.detail
    return caught.value.reason


def test_refusals_are_named() -> None:
    assert refusal(b"") == "empty"
    assert refusal(b" \n\t ") == "empty"
    assert refusal(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj") == "not_html"
    assert refusal(b"\x89PNG\r\n\x1a\n" + bytes(100)) == "not_html"
    assert refusal(b'{"a": [1, 2, "<b>x</b>"]}') == "not_html"
    assert refusal(b'<?xml version="1.0"?>\n<rss version="2.0"><channel/></rss>') == "not_html"
    assert refusal(bytes(range(256)) * 400) == "binary"
    assert refusal(bytes(10_000)) == "binary"
    assert refusal(ARTICLE.encode(), max_bytes=100) == "too_large"


@pytest.mark.parametrize("tag", ["div", "b", "table><tr><td", "ul><li", "span", "blockquote", "svg"])
def test_a_bomb_of_nested_tags_is_refused(tag: str) -> None:
    bomb = f"<html><body>{f'<{tag}>' * 200_000}deep down{ENGLISH}"
    assert refusal(bomb.encode()) == "too_deep"


def test_end_tags_that_close_nothing_do_not_hide_a_bomb() -> None:
    bomb = f"<html><body>{'</div>' * 200_000}{'<div>' * 200_000}deep down{ENGLISH}"
    assert refusal(bomb.encode()) == "too_deep"


def test_wide_pages_are_no_bombs() -> None:
    html = page("".join(f"<p>{ENGLISH} {n}<br><img src=x><br>" for n in range(3000)))
    assert f"{ENGLISH} 2999" in extract(html.encode()).text


@pytest.mark.parametrize("mode", ["fast", "best", "quality"])
def test_null_bytes_and_lone_surrogates(mode: str) -> None:
    html = page(f"<p>{ENGLISH}\x00 &#0; &#xD800; &#x10FFFF; \ufffe</p><p>{ENGLISH}</p>").encode("utf-8")
    text = extract(html, mode=mode).text  # type: ignore[arg-type]
    assert ENGLISH in text
    text.encode("utf-8")
    assert "\x00" not in text


def test_a_line_of_ten_megabytes() -> None:
    html = page(f"<p>{ENGLISH * 55_000}</p>").encode()
    assert len(html) > 10_000_000
    assert len(extract(html).text) > 10_000_000


def test_text_without_markup_is_kept_whole() -> None:
    assert extract(f"{ENGLISH}\n\n{CHINESE}".encode()).text == f"{ENGLISH}\n\n{CHINESE}"


@pytest.mark.parametrize("mode", ["fast", "best", "quality"])
def test_in_a_plain_text_nothing_is_a_tag(mode: Mode) -> None:
    text = f"#include <stdio.h>\n  List<String> x;\n\nFrom: <jane@mail.io>\n{CHINESE}"
    page = Page(text.encode("gbk"), content_type="text/plain", charset="gb2312")
    assert extract_page(page, ExtractConfig(mode=mode)).text == text
    with pytest.raises(ExtractionError, match="JSON"):
        extract_page(Page(b'{"a": 1}', content_type="text/plain"), ExtractConfig(mode=mode))


@pytest.mark.parametrize("opened", ["<script>", "<style>", "<!--", "<script", "<!", "<textarea>", "<title>"])
def test_elements_that_never_end(opened: str) -> None:
    html = page(f"<p>{ENGLISH}</p><p>{ENGLISH}</p>") + opened * 50_000
    assert ENGLISH in extract(html.encode()).text


@pytest.mark.parametrize(
    "piece",
    ["<tr><td colspan=1000 rowspan=65534>x", "<textarea>x</textarea>", "<noscript><p>x</p></noscript>"],
)
def test_the_slow_mode_takes_time_in_proportion(piece: str) -> None:
    html = f"<p>{ENGLISH}</p><p>{ENGLISH}</p><table>{piece * 10_000}</table>"
    start = time.process_time()
    assert ENGLISH in extract(html.encode(), mode="quality").text
    assert time.process_time() - start < 12


@pytest.mark.parametrize(
    "inline", ["<ruby>漢<rt>かん</rt></ruby>字", "<a href=x>x</a>y", "<svg><path></svg>x"]
)
def test_the_slow_mode_takes_a_paragraph_of_many_elements_in_proportion(inline: str) -> None:
    html = page(f"<p>{ENGLISH}</p><p>{ENGLISH}</p><p>{inline * 20_000}</p>")
    start = time.process_time()
    assert ENGLISH in extract(html.encode(), mode="quality").text
    assert time.process_time() - start < 6, "time with the square of their number is half a minute"


def test_endless_runs_of_marks_are_cut() -> None:
    page = Page(f"<p>{ENGLISH}</p><p>{ENGLISH} x{MARKS * 100_000}y</p>".encode())
    start = time.process_time()
    text = extract_page(page, ExtractConfig(mode="fast")).text
    assert time.process_time() - start < 5
    assert text.endswith("\u0301y")
    assert len(text) < 3 * len(ENGLISH)


@pytest.mark.parametrize("text", ["x\u0323\u0301y", "नमस्ते दुनिया " * 50, "ภาษาไทยที่นี่" * 50, "é" * 100])
def test_marks_that_a_script_needs_stay(text: str) -> None:
    assert nfc(unicodedata.normalize("NFD", text)) == unicodedata.normalize("NFC", text)


@given(st.lists(st.integers(1, 200), max_size=8))
def test_no_run_of_marks_is_longer_than_its_bound(runs: list[int]) -> None:
    text = "".join("e" + ACUTE * run for run in runs)
    kept = [30 if run >= 48 else run for run in runs]
    assert without_endless_marks(text) == "".join("e" + ACUTE * run for run in kept)


TAGS = """<div> </div> <p> <p <table> <tr> <td> </table> <select><option> <template> <math> <frameset>
<plaintext> <h1> <br> <textarea> <style <script> </script> <svg> <noscript> <li> </p> </body> <html lang=zh>
<meta charset=utf-16> <!-- --> ]]> <![CDATA[ <?xml ?> <a href=' <time datetime='2020-01-99'>"""
FRAGMENTS = [
    *TAGS.split(),
    ">",
    "<",
    "&#",
    ";",
    "'",
    '"',
    "你好。",
    "word ",
    "\x00",
    "\ud800",
    "\u202e",
    "&nbsp;",
    "\n",
]


def survives(html: bytes, charset: str = "") -> bool:
    """Whether a page gives well-formed text or a named refusal, in both fast modes."""
    try:
        extract(html, charset=charset).text.encode("utf-8")
        extract(html, charset=charset, mode="best").text.encode("utf-8")
    except ExtractionError as error:
        return error.reason in {"empty", "not_html", "binary", "too_deep", "parser"}
    return True


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=60), st.sampled_from(["utf-8", "utf-16", "gb18030"]))
def test_no_soup_of_tags_raises_anything_else(parts: list[str], codec: str) -> None:
    assert survives("".join(parts).encode(codec, "replace"))


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(["", "utf-8", "gbk", "utf-16", "x", "hex", "rot13"]))
def test_no_bytes_raise_anything_else(raw: bytes, label: str) -> None:
    for html in (raw, b"<html><p>" + raw, b"<meta charset=" + raw):
        assert survives(html, label)


@pytest.mark.parametrize(
    ("page", "stated"),
    [
        ('<html lang="fr-FR"><body><div lang="de">x</div>', "fr-fr"),
        ('<html><head><meta property="og:locale" content="pt_BR"></head><body lang="de">', "pt-br"),
        ('<html><body><a lang="es">Español</a><div id="x" xml:lang="ja-JP" class="book">', "ja-jp"),
        ('<html><head><link rel="canonical" href="https://h.example/ru-RU/x.html"></head><body>', "ru"),
        ('<html><head><link rel="alternate" href="https://h.example/ru-RU/x.html"></head><body>', ""),
        ('<html><head><link rel="canonical" href="https://h.example/ru/x.html"></head><body>', ""),
    ],
)
def test_the_outermost_statement_of_a_language_counts(page: str, stated: str) -> None:
    assert extract(f"{page}<p>Something to say.</p>".encode()).language_hint == stated
