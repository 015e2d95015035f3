"""The flows beside the pipeline: promote, roll back, upkeep."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
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
from storage.champions import history, promote, rollback
from storage.errors import ArtifactMissingError
from storage.registry import CHAMPION, RegistryError, connect, resolve, version_of
from storage.store import MANIFEST, Draft, open_store

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
    told = connect().get_model_version("mini", "2").tags["modelmill.by_hand"]
    assert re.fullmatch(r"promoted by hand \(run [a-z]+-[a-z]+\) on \S+: better on paper", told)
    assert roll_back(RollBackConfig(name="mini", reason="worse in use")).startswith(
        "models:/mini/1 is champion"
    )
    assert champion() == "1"
    with pytest.raises(RegistryError):
        promote_version(PromoteConfig(name="mini", version="9"))


def test_promoting_the_champion_changes_nothing_and_leaves_the_way_back(registry: None) -> None:
    client = connect()
    promote(client, "mini", "1", expected="", reason="first")
    promote(client, "mini", "2", expected="1", reason="better")
    with pytest.raises(RegistryError, match="models:/mini/2 is champion already"):
        promote(client, "mini", "2", expected="2", reason="once more")
    assert rollback(client, "mini", reason="worse in use").version == "1"
    done = [client.get_model_version("mini", version).tags["modelmill.by_hand"] for version in "12"]
    assert done[0].startswith("brought back in place of 2 by hand (")
    assert done[1].startswith("rolled back by hand (")
    assert all(told.endswith("+00:00: worse in use") for told in done), "when and why"
    assert [change["by"] for change in history(client, "mini")[:2]] == ["the gate"] * 2


def test_a_model_is_named_alone_and_what_is_missing_by_its_whole_name(registry: None, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"models:/mini@champion is not in .* it has: models:/mini/2"):
        CliRunner().invoke(app, ["lineage", "mini"], catch_exceptions=False)
    file = tmp_path / "notes.txt"
    file.touch()
    with pytest.raises(RegistryError, match=r"notes.txt is a file: give a new folder"):
        CliRunner().invoke(app, ["pull", "models:/mini/1", str(file)], catch_exceptions=False)


def test_a_name_alone_promotes_the_latest_candidate_as_the_form_does(registry: None) -> None:
    client = connect()
    promote(client, "mini", "1", expected="", reason="first")
    client.set_registered_model_alias("mini", "candidate", "2")
    said = CliRunner().invoke(app, ["promote", "models:/mini"], catch_exceptions=False).output
    assert said == "models:/mini/2 is champion; it replaced 1.\n"
    said = CliRunner().invoke(app, ["rollback", "models:/mini"], catch_exceptions=False).output
    assert said.startswith("models:/mini/1 is champion again; 2 is not.")


def test_a_version_that_was_not_registered_from_here_is_refused_by_name(
    registry: None, tmp_path: Path
) -> None:
    for arguments in (["pull", "mini/1", str(tmp_path / "new")], ["generate", "x", "--model", "mini/1"]):
        with pytest.raises(RegistryError, match=r"models:/mini/1 .*(holds no Hugging Face|not where MLflow)"):
            CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_a_rollback_of_no_model_says_which_there_are(registry: None) -> None:
    with pytest.raises(RegistryError, match=r"models:/mine has no champion .* it has: models:/mini"):
        CliRunner().invoke(app, ["rollback", "mine"], catch_exceptions=False)


def test_after_a_rollback_the_latest_changes_are_listed(registry: None) -> None:
    client, expected = connect(), ""
    for version in "12121212":
        promote(client, "mini", version, expected=expected, reason="try")
        expected = version
    reason = "enough, see [/tmp/notes] and what is said of it there"
    said = CliRunner().invoke(app, ["rollback", "mini", "--reason", reason], catch_exceptions=False).output
    assert f"rollback 1: {reason}\n" in said


def test_of_many_versions_an_error_names_the_latest(registry: None) -> None:
    client = connect()
    for _ in range(10):
        client.create_model_version("mini", "file:///nowhere")
    with pytest.raises(RegistryError, match=r"it has: models:/mini/12, .*, models:/mini/3 and 2 more$"):
        resolve(client, "models:/mini/99")


def made(number: int) -> Artifact:
    """A small committed artifact."""

    def work(draft: Draft) -> dict[str, int]:
        (draft.path / "text").write_text(f"text {number}")
        return {}

    return open_store().make(Recipe(stage="try", code={"try": "1"}, inputs={"number": str(number)}), (), work)


def test_an_artifact_that_is_not_there_is_told_with_those_that_are(home: Path) -> None:
    def verified(name: str) -> str:
        return CliRunner().invoke(app, ["verify", name], catch_exceptions=False).output

    assert verified("") == f"Nothing is in the store {open_store().uri} yet.\n", "which may be the wrong one"
    with pytest.raises(ArtifactMissingError, match=r"try/9 is not in the store .*; it has: nothing yet"):
        verified("try/9")
    key = made(1).key
    with pytest.raises(ArtifactMissingError, match=rf"; it has: try/{key}$"):
        verified("try/none")
    with pytest.raises(ArtifactMissingError, match=r"; it has: try/…$"):
        verified("clean/none")
    assert verified(f"try/{key[:12]}") == "1 artifact, 1 file, 0.0 MB: all as committed.\n"


def test_damage_is_listed_by_artifact_and_file(home: Path) -> None:
    flipped, unreadable = made(1), made(2)
    (open_store().open(flipped) / "text").write_text("TEXT 1")
    (open_store().open(unreadable) / MANIFEST).write_text("{")
    done = CliRunner().invoke(app, ["verify"])
    assert done.exit_code == 1
    rows = [line.split("│") for line in done.output.splitlines() if line.startswith("try/")]
    expected = [(flipped, "text", "has"), (unreadable, MANIFEST, "cannot")]  # other content; be read
    assert [tuple(cell.split()[0] for cell in row) for row in rows] == [
        (f"try/{artifact.key[:12]}", file, problem) for artifact, file, problem in expected
    ]


def test_upkeep_lists_then_deletes_and_fails_on_damage(home: Path, prefect_api: None) -> None:
    artifacts = [made(number) for number in range(2)]
    assert upkeep(UpkeepConfig(grace_hours=0.0))["artifacts"] == 2
    store = open_store()
    assert all(store.find(a.kind, a.key) for a in artifacts)
    (store.open(artifacts[0]) / "text").write_text("changed")
    (store.open(artifacts[1]) / MANIFEST).write_text("{")
    with pytest.raises(DamagedStoreError, match=rf"2 file[^$]*/text has[^$]*/{MANIFEST} cannot be read"):
        upkeep(UpkeepConfig(grace_hours=0.0))
    upkeep(UpkeepConfig(grace_hours=0.0, verify=False, delete=True))
    assert list(store.artifacts()) == []
