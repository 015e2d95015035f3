"""Lines that repeat within a domain: which ones go, from which pages, and what is left as it was."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.text.boilerplate import LineCounter, Stripped
from tasks.text.dedup_config import BoilerplateConfig

MENU = "Home and all the news of the day\nProducts by name\nAbout this shop and its people"
ANY_RUN = BoilerplateConfig(min_run_characters=0, keep_first=False)


def stripped(
    folder: Path, texts: Sequence[str], config: BoilerplateConfig, partition: int = 10**6
) -> list[Stripped]:
    """Pages of one domain, counted and stripped; their doc_ids are 0, 1, 2 …"""
    counter = LineCounter(folder, 1000, partition)
    for number, text in enumerate(texts):
        counter.add("a.example", f"{number:016x}{48 * chr(48)}", text)
    lines = counter.repeated(config)
    return [
        lines.strip("a.example", f"{number:016x}{48 * chr(48)}", text) for number, text in enumerate(texts)
    ]


def test_a_repeated_passage_goes_from_all_pages_but_one(tmp_path: Path) -> None:
    pages = [f"{MENU}\n\nPage {i} says this." for i in range(5)]
    found = stripped(tmp_path, pages, BoilerplateConfig())
    kept = [i for i, page in enumerate(found) if page.lines == 0]
    assert len(kept) == 1
    assert [page.text for i, page in enumerate(found) if i not in kept] == [
        f"Page {i} says this." for i in range(5) if i not in kept
    ]
    assert {page.lines for page in found} == {0, 3}
    assert {page.characters for page in found} == {0, sum(not c.isspace() for c in MENU)}


def test_none_keeps_a_copy_where_that_is_asked(tmp_path: Path) -> None:
    found = stripped(tmp_path, [f"{MENU}\nPage {i}" for i in range(5)], BoilerplateConfig(keep_first=False))
    assert [page.text for page in found] == [f"Page {i}" for i in range(5)]


def test_a_short_lone_line_stays_and_a_run_of_short_lines_goes(tmp_path: Path) -> None:
    lone = [f"First part {i}\nExample:\nSecond part {i}" for i in range(5)]
    assert [page.text for page in stripped(tmp_path, lone, BoilerplateConfig(keep_first=False))] == lone
    run = "\n".join(f"Menu entry {i}" for i in range(8))
    pages = [f"{run}\nPage {i}" for i in range(5)]
    assert stripped(tmp_path, pages, BoilerplateConfig(keep_first=False))[0].text == "Page 0"


def test_chinese_lines_are_counted_by_their_characters(tmp_path: Path) -> None:
    """A notice goes as its translation does, which has three letters for each of its characters."""
    line = "本网站所有内容均受著作权法保护，未经许可不得转载。"
    pages = [f"第{i}篇文章的内容各不相同。\n{line}\n阅读更多" for i in range(5)]
    found = stripped(tmp_path, pages, BoilerplateConfig(keep_first=False))[2]
    assert found.text == "第2篇文章的内容各不相同。"
    assert (found.letters_left, found.lines) == (34, 2)
    lone = [f"第{i}部分\n例如：\n第{i}段" for i in range(5)]
    assert [page.text for page in stripped(tmp_path, lone, BoilerplateConfig(keep_first=False))] == lone


def test_a_line_counts_once_a_page_and_needs_enough_pages(tmp_path: Path) -> None:
    pages = ["Again\n" * 50 + "One", "Again\nTwo", "Three"]
    assert all(page.lines == 0 for page in stripped(tmp_path, pages, ANY_RUN))
    assert stripped(tmp_path, [*pages, "Again\nFour"], ANY_RUN)[0].text == "One"


def test_large_domains_need_their_share(tmp_path: Path) -> None:
    pages = ["Again\nx", "Again\ny", "Again\nz", *(f"page {i}" for i in range(97))]
    assert stripped(tmp_path, pages, ANY_RUN.model_copy(update={"min_share": 0.04}))[0].lines == 0
    assert stripped(tmp_path, pages, ANY_RUN.model_copy(update={"min_share": 0.03}))[0].lines == 1


def test_spaces_inside_and_around_a_line_do_not_matter(tmp_path: Path) -> None:
    pages = ["  Read\xa0 more\tnow \nx", "Read more now\ny", "Read more  now\nz"]
    assert [page.text for page in stripped(tmp_path, pages, ANY_RUN)] == ["x", "y", "z"]


def test_blank_lines_around_what_went_become_one(tmp_path: Path) -> None:
    pages = [f"Top {i}\n\n{MENU}\n\n\nBottom {i}\n\n\nEnd {i}" for i in range(4)]
    assert stripped(tmp_path, pages, ANY_RUN)[1].text == "Top 1\n\nBottom 1\n\n\nEnd 1"


def test_documents_without_a_domain_share_no_lines(tmp_path: Path) -> None:
    counter = LineCounter(tmp_path, 100, 10**6)
    for number in range(5):
        counter.add("", f"{number:064x}", MENU)
    assert counter.repeated(ANY_RUN).strip("", f"{0:064x}", MENU).lines == 0


@pytest.mark.parametrize("texts", [[], [""], ["", "", ""], ["\n\n"] * 4])
def test_empty_pages_stay_empty(tmp_path: Path, texts: list[str]) -> None:
    assert all(page.lines == 0 for page in stripped(tmp_path, texts, ANY_RUN))


@settings(deadline=None, max_examples=60)
@given(
    pages=st.lists(st.lists(st.sampled_from(["a", "b", "c", "", " d "]), max_size=6), max_size=8),
    keep_first=st.booleans(),
)
def test_what_goes_is_what_a_plain_count_says(
    tmp_path_factory: pytest.TempPathFactory, pages: list[list[str]], keep_first: bool
) -> None:
    config = ANY_RUN.model_copy(update={"keep_first": keep_first})
    texts = ["\n".join(page) for page in pages]
    counter = LineCounter(tmp_path_factory.mktemp("lines"), 10**6, 100_000)
    for number, text in enumerate(texts):
        counter.add("a.example", f"{number:016x}{'0' * 48}", text)
    lines = counter.repeated(config)
    holders = {
        line: [n for n, page in enumerate(pages) if line in [other.strip() for other in page]]
        for line in ("a", "b", "c", "d")
    }
    for number, page in enumerate(pages):
        found = lines.strip("a.example", f"{number:016x}{'0' * 48}", texts[number])
        wanted = [
            line.strip()
            for line in page
            if line.strip()
            and len(holders[line.strip()]) >= 3
            and not (keep_first and holders[line.strip()][0] == number)
        ]
        assert list(found.removed) == wanted
