"""From what people write to the artifact that they mean, and to a sentence where that is not one."""

from pathlib import Path

import pytest

from flows.references import find_artifact, named_or_latest
from storage import registry
from storage.artifacts import Artifact, Recipe
from storage.errors import ArtifactMissingError
from storage.registry import RegistryError
from storage.store import open_store


@pytest.fixture
def made(home: Path) -> list[Artifact]:
    """More artifacts than a key has digits: two at least begin alike."""
    store = open_store()
    recipes = [Recipe(stage="pretrain", code={}, inputs={"n": n}) for n in range(17)]
    return [store.make(recipe, (), lambda _: {}) for recipe in recipes]


def test_the_start_of_a_key_is_enough_where_it_means_one(made: list[Artifact]) -> None:
    assert find_artifact(f"pretrain/{made[3].key[:12]}") == made[3]
    pasted = f" pretrain/{made[3].key}\n"
    assert find_artifact(pasted) == named_or_latest(pasted, "pretrain", "m") == made[3]


def test_a_whole_key_is_looked_up_without_reading_all_manifests(
    made: list[Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(type(open_store()), "artifacts")
    assert find_artifact(f"pretrain/{made[3].key}") == made[3]


def test_a_version_need_not_be_written_with_its_scheme(
    made: list[Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> tuple[str, str]:
        if name != "models:/mini/3":
            raise RegistryError(name)
        return made[3].kind, made[3].key

    monkeypatch.setattr(registry, "version_artifact", version)
    assert find_artifact("mini/3") == made[3]
    with pytest.raises(ArtifactMissingError, match="mini/4 is not in the store"):
        find_artifact("mini/4")


def test_what_may_mean_several_or_none_is_refused_with_what_there_is(made: list[Artifact]) -> None:
    starts = [artifact.key[0] for artifact in made]
    twice = max(starts, key=starts.count)
    with pytest.raises(ArtifactMissingError, match="give more of the key") as several:
        find_artifact(f"pretrain/{twice}")
    assert sum(f"pretrain/{a.key}" in str(several.value) for a in made if a.key[0] == twice) > 1
    with pytest.raises(ArtifactMissingError, match="and 12 more") as none:
        find_artifact("pretrain/x")
    assert f"pretrain/{made[-1].key}" in str(none.value)
    with pytest.raises(ArtifactMissingError, match=r"it has: pretrain/…$"):
        find_artifact("evaluate/1")


def test_an_artifact_of_another_stage_is_refused_whether_it_is_there_or_not(made: list[Artifact]) -> None:
    assert named_or_latest(f"pretrain/{made[0].key}", "pretrain", "m") == made[0]
    for key in (made[0].key, "x"):
        with pytest.raises(ArtifactMissingError, match="wanted is one of deduplicate, as deduplicate/KEY"):
            named_or_latest(f"pretrain/{key}", "deduplicate", "m")
