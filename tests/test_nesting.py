"""How deep pages nest: as the parser that extraction uses nests them, at a cost in proportion to the page."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resiliparse.parse.html import HTMLTree

from tasks.text.extract import extract
from tasks.text.extract_errors import ExtractionError
from tasks.text.nesting import too_deep

STORY = "The river rose in the night, and by the morning the lower meadows stood under water. " * 5
NAMES = "div p span b i a font ul li dl dt table tr td select option button h1 section article svg g nobr"
TIMES = 60
"""Times that a piece of markup is repeated: what nests once each time comes out as deep as that."""


def parsed_depth(html: str) -> int:
    """Elements around the deepest one, as the parser has them, without html and body."""
    deepest, depth, node = 0, 1, HTMLTree.parse(html).body.first_child
    while node is not None and depth:
        deepest = max(deepest, depth)
        if node.first_child is not None:
            node, depth = node.first_child, depth + 1
            continue
        while depth and node.next is None:
            node, depth = node.parent, depth - 1
        node = node.next if depth else None
    return deepest


def markup(names: list[str], kinds: list[int]) -> str:
    forms = ("<{0}>", "</{0}>", "<{0}>x", "<{0} c='</{0}>'>", "<{0} id={1}>", "x</{0}>")
    pairs = zip(names, kinds, strict=False)
    return "".join(forms[kind].format(name, place) for place, (name, kind) in enumerate(pairs))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(NAMES.split()), min_size=1, max_size=7),
    st.lists(st.integers(0, 5), min_size=7, max_size=7),
)
def test_nothing_nests_much_deeper_than_is_said(names: list[str], kinds: list[int]) -> None:
    html = f"<html><body>{markup(names, kinds) * TIMES}"
    # Misnested formatting elements may stand a few deeper in the tree than on the stack.
    assert not parsed_depth(html) > 1.2 * (deepest := depth_of(html)) + TIMES / 2, deepest


def depth_of(html: str) -> int:
    return next(limit for limit in range(0, 10**6, 4) if not too_deep(html.encode(), limit))


@pytest.mark.parametrize(
    ("piece", "each"),
    [
        ("<div>", 1),
        ("<div title='</div>'>", 1),
        ('<p>x<div data-a = "> </div>">', 1),
        ("<b><table>x</b></table>", 1),
        ("<a href=x><ol>x</a>", 1),
        ("<div><!</div>", 1),
        ("<div><textarea></div></textarea>", 1),
        ("<p>x", 0),
        ("<li>x", 0),
        ("<dt>x<dd>y", 0),
        ("<table><tr><td>x</table>", 0),
        ("<tr><td>x", 0),
        ("<select><option>x<option>y</select>", 0),
        ("<b>x</b><i>y</i>", 0),
        ("<p><b>x</p></b>", 0),
        ("<img><br><input>", 0),
        ("<textarea><div></textarea>", 0),
        ("<svg/>x", 0),
        ("<form>x</form>", 0),
    ],
)
def test_what_is_left_open_by_a_piece_nests(piece: str, each: int) -> None:
    page = f"<html><body><table>{piece * 500}".encode() if piece.startswith("<tr") else (piece * 500).encode()
    assert too_deep(page, 400) == bool(each)
    assert not too_deep(page, 520)


def test_unclosed_formatting_is_not_opened_again_without_end() -> None:
    fonts = "".join(f"<font color={number}>" for number in range(300))
    assert too_deep(f"<p>{fonts}x</p>{'<p>x</p>' * 10_000}".encode(), 1000)
    assert not too_deep(f"<p>{fonts}x</p>{'<p>x</p>' * 10}".encode(), 1000)


HIDDEN = [
    "<div title='</div>'>",
    '<div title="> </div> <b">',
    "<div title= \n'</div>'>",
    "<div a=</div>",
    "<div><!</div>",
    "<div><?</div>",
    "<b><table>x</b></table> ",
    "<b><select>x</b></select> ",
    "<a href=x><ol>x</a>",
    "<a href=x><article>x</a>",
    "<div><textarea></div></textarea>",
]


@pytest.mark.parametrize("piece", HIDDEN)
def test_tricks_do_not_hide_how_deep_a_page_nests(piece: str) -> None:
    start = time.process_time()
    with pytest.raises(ExtractionError, match="too_deep"):
        extract(f"<html><body><p>{STORY}</p>{piece * 20_000}".encode())
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "piece",
    [
        '<div title="<b>x</b>">y</div>',
        "<div onclick=\"a('</div>')\">y</div>",
        "<p>1 < 2 and 'x' > y</p>",
        "<p><b>x</p></b>",
        "<li>x",
        "<p>x",
        "<table><tr><td>x<td>y</table>",
    ],
)
def test_wide_pages_with_odd_tags_are_not_deep(piece: str) -> None:
    html = f"<html><body><main><p>{STORY}</p>{piece * 5_000}</main>"
    assert STORY.strip() in extract(html.encode()).text


@pytest.mark.parametrize("attribute", ["a{0}=1 ", "a{0} ", "a{0}='<' ", 'a{0}="1"'])
@pytest.mark.parametrize("opened", ["<p ", "<p>x</p><p title='>' "])
def test_an_element_of_many_attributes_is_refused(attribute: str, opened: str) -> None:
    for end in (">", ""):
        page = f"<p>{STORY}</p>{opened}{''.join(map(attribute.format, range(50_000)))}{end}"
        start = time.process_time()
        with pytest.raises(ExtractionError, match="too_deep"):
            extract(page.encode())
        assert time.process_time() - start < 5


def test_long_attributes_are_not_many() -> None:
    state = '"a": "b c = d", ' * 20_000
    data = f"<div data-state='{state}' class='{'a b ' * 10_000}'>x</div>"
    assert STORY.strip() in extract(f"<p>{STORY}</p><p>{STORY}</p>{data}".encode()).text


@pytest.mark.parametrize("frame", ["<select>{0}</select>", "<main><p>" + STORY + "</p><select>{0}</main>"])
def test_long_lists_of_choices_take_time_in_proportion(frame: str) -> None:
    page = f"<p>{STORY}</p>{frame.format('<option value=1>choice' * 60_000)}<p>{STORY}</p>"
    start = time.process_time()
    text = extract(page.encode()).text
    assert time.process_time() - start < 5
    assert STORY.strip() in text
    assert "choice" not in text
