"""What every test shares: a home of its own, and the way to real data where a machine has it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

SHARED_DATA = Path(
    os.environ.get("MODELMILL_TEST_DATA", Path(__file__).resolve().parents[1].parent / "shared/data")
)


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Call with a name to get a real data file or folder, or a skip that says what is absent."""

    def find(name: str) -> Path:
        path = SHARED_DATA / name
        if not path.exists():
            pytest.skip(f"real data {name!r} is not on this machine (set MODELMILL_TEST_DATA to its folder)")
        return path

    return find


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A MODELMILL_HOME that belongs to this test alone."""
    path = tmp_path / "home"
    monkeypatch.setenv("MODELMILL_HOME", str(path))
    monkeypatch.delenv("MODELMILL_STORE", raising=False)
    return path
