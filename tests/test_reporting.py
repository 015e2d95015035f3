"""What a run shows in Prefect when it is over."""

from typing import Any

from flows.reporting import evaluation_rows, summary_markdown
from tasks.journal import Entry, Journal

BITS = {
    "model": {"all": 1.5, "interval": [1.4, 1.6], "by_language": {"en": 1.4, "zh": 1.9}},
    "bigram": {"all": 2.0, "interval": [None, None], "by_language": {"en": 2.0}},
}


class Version:
    """The part of a registration's artifact that is read."""

    def __init__(self, **more: str) -> None:
        self.stats: dict[str, Any] = {
            "name": "mini",
            "version": "3",
            "decision": "refused",
            "reasons": ["it leaks"],
            **more,
        }


def page(prompt: str = "The ", **more: str) -> str:
    version: Any = Version(**more)
    journal = Journal([Entry("clean", "a.warc", "cached", 0.1)])
    return summary_markdown(journal, version, {"bits_per_byte": BITS}, [{"prompt": prompt, "text": "a\nb"}])


def test_a_table_has_a_name_for_every_column() -> None:
    """The pages cannot show a table with a column that has none."""
    rows = evaluation_rows(BITS)
    figures = {"all": "1.5000", "interval": "1.4000 to 1.6000", "en": "1.4000", "zh": "1.9000"}
    assert rows[0] == {"model": "model", **figures}
    assert all(name for row in rows for name in row)


def test_the_summary_says_what_was_decided_and_why() -> None:
    text = page()
    assert text.startswith("# models:/mini/3\n**refused**: it leaks")
    assert "| clean a.warc | cached | 0.1 |" in text


def test_a_prompt_is_bold_whatever_it_ends_with() -> None:
    assert "> **The** a\n> b" in page("The ")
    assert "> **在本章中，**a\n> b" in page("在本章中，")


def test_the_summary_links_to_the_version_where_mlflow_has_pages() -> None:
    address = "http://127.0.0.1:5000/#/models/mini/versions/3"
    assert f"({address})" in page(tracking_uri="http://127.0.0.1:5000")
    assert "MLflow" not in page(tracking_uri="sqlite:///mlflow.db")
