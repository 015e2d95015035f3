"""What the fast mode's short cuts promise: less to parse, and never a part of the content lost by it."""

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.text.charset import decode
from tasks.text.extract import extract
from tasks.text.extract_errors import ExtractionError
from tasks.text.markup import MARKED, split_markup, split_utf8

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
    markup = split_markup(soup.join(tags))
    assert markup.source.decode() == markup.page
    for name in MARKED:
        for start in markup.marks[name]:
            assert markup.source[start : start + len(name)].lower() == name


def test_scripts_of_any_case_end_where_they_end() -> None:
    page = f"<SCRIPT>1</SCRIPT><p>{STORY}</p><script>2</script><STYLE>3</style><p>{CHINESE}</p>"
    left = split_markup(page).page
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
