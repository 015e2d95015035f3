"""What is said where parts of a stage fail, few of them or a great many."""

import pytest

from flows.loading import check
from flows.parts import NothingReadError, PartsFailedError, enough, some_read
from storage.artifacts import Artifact, Recipe
from storage.store import open_store
from tasks.stage import PartFailure


def read(documents: int, reasons: dict[str, int]) -> Artifact:
    """What ``ingest`` made of a source."""
    stats = {"source": f"{documents}.warc", "documents": documents, "reasons": reasons}
    return open_store().make(Recipe(stage="ingest", code={}, inputs=stats), (), lambda _draft: stats)


def test_where_no_source_gave_a_document_it_is_said_what_each_gave_instead(home: object) -> None:
    nothing, some = read(0, {"http_status": 3, "not_html": 1}), read(2, {})
    assert some_read([nothing, some]) == [nothing, some]
    with pytest.raises(NothingReadError, match=r"(?m)^0.warc: http_status 3, not_html 1$"):
        some_read([nothing])


@pytest.mark.parametrize(("count", "lines"), [(3, 4), (100_000, 22)])
def test_failed_parts_are_named_as_far_as_people_read(count: int, lines: int) -> None:
    failures = [PartFailure("ingest", f"第{n}.warc", ValueError("no records")) for n in range(count)]
    with pytest.raises(PartsFailedError, match=f"{count} of {count} parts of ingest failed") as caught:
        enough(check({}), ([], failures))
    said = str(caught.value).splitlines()
    assert len(said) == lines
    assert said[1] == "ingest 第0.warc: ValueError: no records"
    assert (said[-1] == "and 99,980 more") == (count > 20)
