"""The flows beside the pipeline: promote, roll back, upkeep."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.operations import (
    DamagedStoreError,
    PromoteConfig,
    RollBackConfig,
    UpkeepConfig,
    promote_version,
    roll_back,
    upkeep,
)
from storage.artifacts import Artifact, Recipe
from storage.registry import CHAMPION, RegistryError, connect, version_of
from storage.store import Draft, open_store

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MLflow's own, of sqlalchemy and others
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
]


@pytest.fixture
def registry(home: Path, prefect_api: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two versions of a model in an MLflow of this test's own."""
    (home / "mlflow").mkdir(parents=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow/mlflow.db")
    client = connect()
    client.create_registered_model("mini")
    (home / "files").mkdir()
    for _ in range(2):
        client.create_model_version("mini", (home / "files").as_uri())
    yield
    monkeypatch.undo()


def champion() -> str:
    found = version_of(connect(), "mini", CHAMPION)
    return str(found.version) if found else ""


@pytest.mark.slow
def test_promoted_and_rolled_back(registry: None) -> None:
    promote_version(PromoteConfig(name="mini", version="1", reason="first"))
    assert champion() == "1"
    line = promote_version(PromoteConfig(name="mini", version="2", reason="better on paper"))
    assert line == "models:/mini/2 is champion; it replaced 1"
    assert champion() == "2"
    assert roll_back(RollBackConfig(name="mini", reason="worse in use")).startswith(
        "models:/mini/1 is champion"
    )
    assert champion() == "1"
    with pytest.raises(RegistryError):
        promote_version(PromoteConfig(name="mini", version="9"))


def made(number: int) -> Artifact:
    """A small committed artifact."""

    def work(draft: Draft) -> dict[str, int]:
        (draft.path / "text").write_text(f"text {number}")
        return {}

    return open_store().make(Recipe(stage="try", code={"try": "1"}, inputs={"number": str(number)}), (), work)


def test_upkeep_lists_then_deletes_and_fails_on_damage(home: Path, prefect_api: None) -> None:
    artifacts = [made(number) for number in range(2)]
    assert upkeep(UpkeepConfig(grace_hours=0.0))["artifacts"] == 2
    store = open_store()
    assert all(store.find(a.kind, a.key) for a in artifacts)
    (store.open(artifacts[0]) / "text").write_text("changed")
    with pytest.raises(DamagedStoreError, match="text"):
        upkeep(UpkeepConfig(grace_hours=0.0))
    upkeep(UpkeepConfig(grace_hours=0.0, verify=False, delete=True))
    assert list(store.artifacts()) == []
