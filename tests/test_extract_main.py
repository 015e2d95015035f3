"""What the fast mode's short cuts promise: less to parse, and never a part of the content lost by it."""

import contextlib
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.text.charset import decode
from tasks.text.extract import extract
from tasks.text.extract_config import Mode
from tasks.text.extract_errors import ExtractionError
from tasks.text.markup import MARKED, split_utf8
from tasks.text.tidying import tidy

STORY = "The river rose in the night, and by the morning the lower meadows stood under water. " * 5
CHINESE = "那天夜里河水涨了起来，到了早晨，低处的草地已经全被淹没。村里没有人记得哪一年的洪水来得这样早。" * 8
OUTSIDE = "Nobody in the village could remember a flood so early in the year."


def fast(body: str, head: str = "") -> str:
    return extract(f"<html><head>{head}</head><body>{body}</body></html>".encode()).text


@pytest.mark.parametrize("story", [STORY, CHINESE])
@pytest.mark.parametrize(
    ("opened", "closed"), [("<main>", "</main>"), ('<MAIN id="m">', "</MAIN>"), ("<main\n>", "")]
)
def test_a_main_element_is_the_content(story: str, opened: str, closed: str) -> None:
    text = fast(f"<div><p>{OUTSIDE}</p></div>{opened}<p>{story}</p>{closed}")
    assert story.strip() in text
    assert OUTSIDE not in text


def test_all_of_several_main_elements_is_content() -> None:
    text = fast(f"<main><p>{STORY}</p></main><p>{OUTSIDE}</p><main><p>{CHINESE}</p></main>")
    assert all(each in text for each in (STORY.strip(), OUTSIDE, CHINESE))


@pytest.mark.parametrize("frame", ["<main>{0}</main>", "<div>{0}</div>"])
def test_the_only_article_is_the_content(frame: str) -> None:
    text = fast(frame.format(f"<p>{OUTSIDE}</p><article><p>{STORY}</p></article>"))
    assert STORY.strip() in text
    assert OUTSIDE not in text


def test_several_articles_are_entries_of_one_content() -> None:
    text = fast(f"<main><p>{OUTSIDE}</p><article>{STORY}</article><article>{CHINESE}</article></main>")
    assert all(each in text for each in (STORY.strip(), OUTSIDE, CHINESE))


@pytest.mark.parametrize(
    "aside", ["nav", "aside", "footer", "dialog", "div hidden", "div role=navigation", "div aria-hidden=true"]
)
def test_what_the_standard_sets_aside_is_no_content_within_it(aside: str) -> None:
    element = f"<{aside}>{OUTSIDE}</{aside.split(maxsplit=1)[0]}>"
    text = fast(f"<main><p>{STORY}</p>{element}<p>{CHINESE}</p></main>")
    assert all(each in text for each in (STORY.strip(), CHINESE))
    assert OUTSIDE not in text


@pytest.mark.parametrize("inside", ["", "<div id=app></div>", "<p>Loading…</p>"])
def test_a_main_element_without_text_is_passed_over(inside: str) -> None:
    assert STORY.strip() in fast(f"<main>{inside}</main><div><p>{STORY}</p></div>")


@pytest.mark.parametrize(
    "trap",
    [
        '<p title="<main>">x</p>',
        "<p title='<main>'>x</p>",
        '<p title="</main>">x</p>',
        '<p title="a <main> b </main>">x</p>',
        "<!-- <main> -->",
        "<!-- </main> -->",
        "<script>'<main>'</script>",
        "<main-menu>x</main-menu>",
        '<p title="<footer>">x</p>',
        "<!-- <footer> -->",
        '<p title="</footer>">x</p>',
        '<div data-t="<body>">x</div>',
        "<textarea><main></textarea>",
    ],
)
@pytest.mark.parametrize("frame", ["{0}", "<main>{0}</main>", "<main>{0}", "{0}<footer>x</footer>"])
def test_what_only_looks_like_a_tag_loses_nothing(trap: str, frame: str) -> None:
    body = f"<div><p>{STORY}</p>{trap}<p>{CHINESE}</p></div>"
    text = fast(frame.format(body))
    assert CHINESE in text
    assert STORY.strip() in text or trap.startswith("<textarea")


def test_what_follows_a_footer_inside_the_content_is_kept() -> None:
    quote = f"<blockquote><p>{OUTSIDE}</p><footer>A neighbour</footer></blockquote>"
    text = fast(f"<div><p>{STORY}</p><p>{STORY}</p><p>{STORY}</p>{quote}<p>{CHINESE}</p></div>")
    assert all(each in text for each in (OUTSIDE, CHINESE))


def test_an_article_beside_the_content_is_not_the_content() -> None:
    aside = f"<aside><article><h2>Related</h2><p>{OUTSIDE * 8}</p></article></aside>"
    text = fast(f"<div><h1>The flood</h1><p>{STORY}</p><p>{CHINESE}</p><p>{STORY}</p></div>{aside}")
    assert all(each in text for each in (STORY.strip(), CHINESE))
    assert OUTSIDE not in text


@pytest.mark.parametrize("frame", ["{0}", "<main>{0}</main>", "<div id=app>Loading</div>{0}"])
def test_what_is_meant_for_readers_without_scripts_is_taken_where_it_is_all(frame: str) -> None:
    shell = f"<noscript><div><p>{STORY}</p><p>{CHINESE}</p></div></noscript>"
    text = fast(frame.format(shell))
    assert all(each in text for each in (STORY.strip(), CHINESE))


@pytest.mark.parametrize("mode", ["fast", "best"])
def test_an_article_that_only_linked_data_has_is_taken(mode: Mode) -> None:
    stated = json.dumps({"@type": "NewsArticle", "articleBody": f"{STORY}\n&amp; <b>{CHINESE}</b>"})
    linked = f'<script type="application/ld+json">{stated}</script>'
    text = extract(f"<head>{linked}</head><body><div id=app></div>".encode(), mode=mode).text
    assert all(each in text for each in (STORY.strip(), "&", CHINESE))
    assert "<b>" not in text
    shown = extract(
        f"<head>{linked}</head><body><p>{OUTSIDE * 9}</p><p>{OUTSIDE * 9}</p>".encode(), mode=mode
    )
    assert CHINESE not in shown.text


@pytest.mark.parametrize("mode", ["fast", "best"])
def test_readings_beside_characters_are_not_in_the_text(mode: Mode) -> None:
    ruby = "<ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp>字<rt>じ</rt></ruby>は難しい。"
    html = f"<main><p>{CHINESE}</p><p>{ruby}{CHINESE}</p></main>"
    assert "漢字は難しい。" in extract(html.encode(), mode=mode).text


@pytest.mark.parametrize("mode", ["fast", "best"])
def test_hyphens_for_a_lines_end_are_not_in_the_text(mode: Mode) -> None:
    said = "The dis&shy;trict coun&shy;cil met five km away, and nobody from the village was there."
    text = extract(f"<main><p>{STORY}</p><p>{said}</p><p>{STORY}</p></main>".encode(), mode=mode).text
    assert "The district council met five km away" in text


@pytest.mark.parametrize("mode", ["fast", "best", "quality"])
def test_marks_of_where_a_line_may_end_are_not_in_the_text(mode: Mode) -> None:
    html = f"<main><p>{STORY}</p><p>{chr(0x200B).join(CHINESE)}</p><p>inter\u2060national</p></main>"
    text = extract(html.encode(), mode=mode).text
    assert CHINESE in text
    assert "\u200b" not in text
    assert tidy("inter\u2060\u200bnational") == "international"
    assert tidy("ភាសា\u200bខ្មែរ") == "ភាសា\u200bខ្មែរ"


@pytest.mark.parametrize(
    "body",
    [
        "<ul>" + "".join(f"<li>{part}。" for part in CHINESE.split("。") if part) + "</ul>",
        "<p>" + "".join(f"<span>{character}</span>" for character in CHINESE) + "</p>",
    ],
)
def test_where_the_rules_find_next_to_nothing_all_text_is_taken(body: str) -> None:
    text = fast(f"<nav><p>{OUTSIDE}</p></nav>{body}")
    assert "".join(text.split()) == CHINESE


def test_lines_of_a_listing_stay_together_where_it_has_empty_ones_of_unbreakable_spaces() -> None:
    assert tidy("def f():\n\xa0\n\xa0\n\xa0\xa0return 1 \n") == "def f():\n\xa0\n\xa0\n\xa0\xa0return 1"


@pytest.mark.parametrize("mode", ["fast", "best"])
@pytest.mark.parametrize("tag", ["script", "style"])
def test_a_script_that_only_an_attribute_names_hides_nothing(mode: Mode, tag: str) -> None:
    link = f"<p>{STORY}</p><p><a title='How to use <{tag}>'>x</a></p><p>{OUTSIDE}</p>"
    html = f"<main>{link}<{tag}>hidden</{tag}><p>{CHINESE}</p></main>"
    text = extract(html.encode(), mode=mode).text
    assert all(each in text for each in (STORY.strip(), OUTSIDE, CHINESE))
    assert "hidden" not in text


@pytest.mark.parametrize("mode", ["fast", "best", "quality"])
@pytest.mark.parametrize(
    "drawing",
    [
        "<svg width=10><path d='M0'/>",
        "<svg><g><path d='M0'></g>",
        "<math><mrow>",
        "<svg><path d='M0'/><font color=red>",
        "<SVG><title>A <b>river</b></title><desc>x</desc>",
    ],
)
@pytest.mark.parametrize("later", ["", "<svg><path d='M0'/></svg>", "</svg>"])
def test_a_drawing_without_its_end_hides_nothing(mode: Mode, drawing: str, later: str) -> None:
    """As in browsers: a paragraph cannot be in a drawing, so it ends one."""
    html = f"<body><header>Menu</header>{drawing}<p>{STORY}</p>{later}<p>{OUTSIDE}</p><p>{CHINESE}</p>"
    text = extract(html.encode(), mode=mode).text
    assert all(each in text for each in (STORY.strip(), OUTSIDE, CHINESE))


@pytest.mark.parametrize("mode", ["fast", "best", "quality"])
def test_html_within_a_drawing_is_part_of_it(mode: Mode) -> None:
    inner = (
        "<foreignObject><div><p>hidden</p></div></foreignObject><title>hidden<p></title><!-- <p>hidden -->"
    )
    html = f"<body><p>{STORY}</p><svg>{inner}<path aria-label='<p>'/>hidden</svg><p>{CHINESE}</p>"
    text = extract(html.encode(), mode=mode).text
    assert STORY.strip() in text
    assert CHINESE in text
    assert "hidden" not in text


@pytest.mark.parametrize("mode", ["fast", "best", "quality"])
@pytest.mark.parametrize("tag", ["noframes", "NOFRAMES"])
def test_what_is_meant_for_readers_without_frames_is_read(mode: Mode, tag: str) -> None:
    html = f"<frameset><frame src=a></frameset><{tag}><body><p>{STORY}</p><p>{CHINESE}</p></body></{tag}>"
    text = extract(html.encode(), mode=mode).text
    assert STORY.strip() in text
    assert CHINESE in text
    assert "<p>" not in text


@pytest.mark.parametrize("mode", ["fast", "best"])
@pytest.mark.parametrize("opened", ["<embed src=x>", "<map name=x><area href=y>"])
def test_what_has_no_text_of_its_own_hides_none(mode: Mode, opened: str) -> None:
    html = f"<body>{opened}<p>{STORY}</p><p>{CHINESE}</p>"
    assert CHINESE in extract(html.encode(), mode=mode).text


@pytest.mark.parametrize("mode", ["fast", "best"])
@pytest.mark.parametrize(
    "piece", ["<svg><p>x", "<svg><foreignObject><p>", "<svg><!--", "<svg></svg ", "<svg><path>"]
)
def test_drawings_without_ends_take_time_in_proportion(mode: Mode, piece: str) -> None:
    started = time.process_time()
    with contextlib.suppress(ExtractionError):
        extract(f"<body><p>{STORY}</p>{piece * 60_000}</svg><p>{STORY}</p>".encode(), mode=mode)
    assert time.process_time() - started < 12, "minutes if each is searched for its end"


@pytest.mark.parametrize("mode", ["fast", "best"])
def test_lines_of_code_stay_lines(mode: Mode) -> None:
    code = "<pre><code><div>if x:</div><div>    return 1</div></code></pre>"
    html = f"<main><p>{STORY}</p>{code}<p>{STORY}</p></main>"
    assert "if x:\n    return 1" in extract(html.encode(), mode=mode).text


WILD = """<main>|</main>|<MAIN|</MAIN>|<main/>|<div>|</div>|<p>|</p>|<b>|</b>|<i title="<main>">|</i>|<script>
<p title='</main>'>|<!-- <main> -->|<script>'</main>'</script>|<footer>|</footer>""".replace("\n", "|").split(
    "|"
)
PARTS = st.lists(st.sampled_from(WILD), max_size=12)
SOUP = st.text(st.sampled_from("<>/-! smh1aeivtycrplg\"'é中"), max_size=60)


@settings(max_examples=150, deadline=None)
@given(PARTS, PARTS)
def test_a_whole_main_element_survives_any_neighbours(before: list[str], after: list[str]) -> None:
    # What would take the main element into itself for every parser cannot come before it.
    closed = [each for each in before if each not in ("<script>", "<MAIN", "</MAIN>", "<footer>")]
    page = f"<body>{' '.join(closed)}<main><p>{STORY}</p></main>{' '.join(after)}"
    assert STORY.strip() in extract(page.encode()).text


@given(SOUP, st.lists(st.sampled_from([*WILD, "<h1>", "<meta x>", "<svg></svg>", "<time>"])))
def test_marks_stand_where_they_say(soup: str, tags: list[str]) -> None:
    markup = split_utf8(soup.join(tags).encode())
    assert markup.source.decode() == markup.page
    for name in MARKED:
        for start in markup.marks[name]:
            assert markup.source[start : start + len(name)].lower() == name


def test_scripts_of_any_case_end_where_they_end() -> None:
    page = f"<SCRIPT>1</SCRIPT><p>{STORY}</p><script>2</script><STYLE>3</style><p>{CHINESE}</p>"
    left = split_utf8(page.encode()).page
    assert all(each in left for each in (STORY, CHINESE))
    assert not any(digit in left for digit in "123")


def test_bytes_in_scripts_say_nothing_of_the_charset() -> None:
    html = b"<script>'\xff\xe9'</script>" + f"<p>{CHINESE}</p>".encode()
    assert extract(html, charset="iso-8859-1").charset == "utf-8"
    with pytest.raises(UnicodeDecodeError):
        split_utf8(b"<p>\xe9</p>")
    assert decode(b"<p>caf\xe9</p>")[0] == "<p>café</p>"


def test_long_runs_of_blanks_take_time_in_proportion() -> None:
    start = time.process_time()
    assert extract(f"<p>{STORY}</p><pre>a{' ' * 300_000}b \t\nc</pre>".encode()).text.endswith("b\nc")
    assert time.process_time() - start < 2


UNITS = """<article>|<SCRIPT></SCRIPT>|<script></script|<meta |<meta "|<title |<main>|<main x='|<h1>|<time>
<!--|<STYLE>|<div>|<li>|<p>|<b>|<td>
</main>|<footer>|</footer|<body |<html |=author|<i class=author>|<i class='date'>|<svg>|</SVG>|<link """


@pytest.mark.parametrize("unit", UNITS.replace("\n", "|").split("|"))
@pytest.mark.parametrize(
    "after", ["", "</i></svg></time>"]
)  # without end tags such pages are refused as too deep
def test_repeated_fragments_take_time_in_proportion(unit: str, after: str) -> None:
    html = f"<p>{STORY}</p>{(unit + after) * 60_000}".encode()
    start = time.process_time()
    with contextlib.suppress(ExtractionError):
        extract(html)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("key", ["author", "articleBody", "headline"])
def test_what_linked_data_says_is_read_in_proportion_to_its_length(key: str) -> None:
    stated = f'{{"@type": "Article", "{key}": "{"<" * 200_000}"}}'
    start = time.process_time()
    extract(f'<script type="application/ld+json">{stated}</script><p>{STORY}</p>'.encode(), mode="best")
    assert time.process_time() - start < 5
