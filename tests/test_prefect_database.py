"""A Prefect database whose making was cut off is begun anew, one that was made is kept."""

from pathlib import Path

import pytest

from flows.prefect_database import starting_server


@pytest.fixture
def database(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    return home / "prefect" / "prefect.db"


def test_what_was_cut_off_while_it_was_made_is_not_gone_on_with(database: Path) -> None:
    def make_half() -> None:
        database.write_text("half of the tables")
        database.with_name("prefect.db-wal").write_text("and a piece")
        raise OSError("full")

    with pytest.raises(OSError, match="full"), starting_server():
        make_half()
    with starting_server():
        assert not database.exists()
        assert not database.with_name("prefect.db-wal").exists()
        database.write_text("all tables")
    assert database.read_text() == "all tables"


def test_what_was_made_is_kept_however_a_later_server_ends(database: Path) -> None:
    database.parent.mkdir(parents=True)
    database.write_text("all tables")
    with pytest.raises(OSError, match="full"), starting_server():
        raise OSError("full")
    with starting_server():
        assert database.read_text() == "all tables"
