"""What is said where parts of a stage fail, few of them or a great many."""

import pytest

from flows.loading import check
from flows.parts import PartsFailedError, enough
from tasks.stage import PartFailure


@pytest.mark.parametrize(("count", "lines"), [(3, 4), (100_000, 22)])
def test_failed_parts_are_named_as_far_as_people_read(count: int, lines: int) -> None:
    failures = [PartFailure("ingest", f"第{n}.warc", ValueError("no records")) for n in range(count)]
    with pytest.raises(PartsFailedError, match=f"{count} of {count} parts of ingest failed") as caught:
        enough(check({}), ([], failures))
    said = str(caught.value).splitlines()
    assert len(said) == lines
    assert said[1] == "ingest 第0.warc: ValueError: no records"
    assert (said[-1] == "and 99,980 more") == (count > 20)
