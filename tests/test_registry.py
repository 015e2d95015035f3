"""Registration and the gate, on models that were really trained: who becomes champion, and who cannot."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings
from registry_world import LENIENT, World, world_in
from typer.testing import CliRunner

from flows.cli import app
from storage import champions, registered, registry
from storage.artifacts import Parent
from storage.champions import ChampionChangedError
from storage.descriptions import model_text, version_text
from storage.home import SERVED
from storage.registry import RegistryError
from tasks.registration import _page, register
from tasks.registration_facts import card_facts
from tasks.serving.model_card import write_card

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MLflow's own, of sqlalchemy and others
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_in(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture(scope="module")
def gated(world: World) -> dict[str, dict[str, Any]]:
    """Six registrations one after another: what each came to."""
    weak, strong = world.train(60), world.train(250)
    found = {"broken": world.register(world.trained(world.train(5, rate=30.0)))}
    found["weak"] = world.register(world.trained(weak))
    found["strong"] = world.register(world.trained(strong))
    found["worse"] = world.register(world.trained(world.train(60, seed=2)))
    found["equal"] = world.register(world.trained(strong), config=LENIENT.model_copy(update={"notes": "x"}))
    other = world.make("hold_out", lambda folder: world._held_out(folder, seed=7))
    found["elsewhere"] = world.register(world.trained(world.train(350)), other)
    return found


def test_a_broken_training_is_refused_by_the_baseline(gated: dict[str, dict[str, Any]]) -> None:
    assert gated["broken"]["decision"] == "refused"
    assert gated["broken"]["aliases"] == []
    assert "does not beat the Kneser-Ney unigram" in gated["broken"]["reasons"][0]


def test_the_first_sound_model_and_then_a_better_one_become_champion(
    gated: dict[str, dict[str, Any]],
) -> None:
    for name in ("weak", "strong"):
        assert gated[name]["decision"] == "promoted"
        assert gated[name]["aliases"] == ["candidate", "champion"]
    assert "against the champion's" in gated["strong"]["reasons"][0]


def test_a_worse_and_an_equal_one_stay_candidates_with_the_numbers(gated: dict[str, dict[str, Any]]) -> None:
    for name in ("worse", "equal"):
        assert gated[name]["decision"] == "candidate"
        assert gated[name]["aliases"] == ["candidate"]
    assert "better in 0.0% of resamples, 95.0% wanted" in gated["equal"]["reasons"][0]


def test_the_champion_is_measured_again_on_a_held_out_set_it_was_not_yet(
    gated: dict[str, dict[str, Any]],
) -> None:
    client = registry.connect()
    assert gated["elsewhere"]["decision"] == "promoted"
    champion_then = client.get_run(gated["strong"]["run_id"])
    kept = [entry.path for entry in client.list_artifacts(champion_then.info.run_id, "evaluations")]
    assert len(kept) == 2, "its own evaluation, and the one it was compared on"


def test_a_version_says_what_it_is_made_of(world: World, gated: dict[str, dict[str, Any]]) -> None:
    client = registry.connect()
    stats = gated["strong"]
    run = client.get_run(stats["run_id"])
    assert run.data.params["evaluate.bootstrap.resamples"] == "200"
    assert run.data.metrics["bits_per_byte.zh"] > 0
    assert run.data.metrics["bits_per_byte"] < run.data.metrics["bigram_bits_per_byte"]
    contexts = {d.dataset.name: d.dataset.digest for d in run.inputs.dataset_inputs}  # type: ignore[union-attr]
    assert contexts["training tokens"] == world.shards.digest[:36]
    assert contexts["held-out documents"] == world.heldout.digest[:36]
    files = {
        entry.path
        for folder in ("evaluation", "plots")
        for entry in client.list_artifacts(run.info.run_id, folder)
    }
    assert {"evaluation/report.json", "evaluation/decision.json", "plots/bits_per_byte.png"} <= files
    model = f"models:/gated/{stats['version']}"
    kind, key = registry.version_artifact(model)
    assert kind == "pretrain"
    assert world.store.find(kind, key) is not None
    assert {("pretrain", key), ("tokenize", world.shards.key)} <= set(registered.registered_artifacts())
    version = client.get_model_version("gated", stats["version"])
    assert version.tags["modelmill.decision"] == "promoted"
    decision, about = version.description.split("\n\n")
    assert decision.startswith("promoted: ")
    assert about.startswith("A GPT-2 language model of ")


def test_a_card_says_what_its_training_went_on_from(world: World, gated: dict[str, dict[str, Any]]) -> None:
    report = next(world.store.artifacts("evaluate"))
    figures = json.loads((world.store.open(report) / "report.json").read_text(encoding="utf-8"))
    model = next(world.store.artifacts("pretrain"))
    base = Parent(kind="adopt_model", key="f00d", digest=model.digest)
    for artifact in (model, model.model_copy(update={"parents": (*model.parents, base)})):
        card = write_card(card_facts("m", [], artifact, world.store.open(model), figures))
        assert ("begun from the weights of adopt_model/f00d" in card) == (artifact is not model)


def test_an_attempt_that_was_cut_off_goes_on_with_its_version(
    world: World, gated: dict[str, dict[str, Any]]
) -> None:
    artifact = next(
        a for a in world.store.artifacts("register") if a.stats["version"] == gated["strong"]["version"]
    )
    world.store.remove("register", artifact.key)
    model, report, shards = (world.store.find(p.kind, p.key) for p in artifact.parents)
    assert model
    assert report
    assert shards
    again = register.run_now("gated", model, report, shards, LENIENT)
    assert again.stats["version"] == gated["strong"]["version"]
    description = registry.connect().get_model_version("gated", again.stats["version"]).description
    assert description.count("\n\n") == 1, "the decision and what the model is, each once"


def test_a_consumer_needs_nothing_of_this_project(gated: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """A Python that sees the installed libraries and not this project, somewhere else on the disk."""
    script = """
import importlib.util, json, sys
sys.path.append(sys.argv[1])
assert not any(map(importlib.util.find_spec, ("tasks", "storage", "flows")))
import mlflow
mlflow.set_tracking_uri(sys.argv[2])
model = mlflow.pyfunc.load_model("models:/gated/" + sys.argv[3])
words = model.predict(["Ada and", "小明和", ""], params={"max_new_tokens": 20, "temperature": 0.0})
stopped = model.predict(["Ada and"], params={"max_new_tokens": 20, "temperature": 0.0, "stop": [";"]})
scores = model.predict(["Ada and Bo met"], params={"task": "score"})
pieces = list(model.predict_stream(["Ada and"], params={"max_new_tokens": 20, "temperature": 0.0}))
print(json.dumps([words, stopped, scores, pieces]))
"""
    client = registry.connect()
    site = str(Path(np.__file__).parents[1])
    version = gated["strong"]["version"]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, site, client.tracking_uri, version],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    words, stopped, scores, pieces = json.loads(done.stdout.splitlines()[-1])
    assert len(words) == 3
    assert stopped == [words[0].partition(";")[0]]
    assert "".join(pieces) == words[0]
    assert scores[0]["log_probability"] < 0


def test_a_registration_leaves_no_address_behind_for_later_clients(gated: dict[str, dict[str, Any]]) -> None:
    from mlflow import MlflowClient

    assert registry.version_of(registry.connect(), "gated", "champion") is not None
    assert not {"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"} & set(os.environ)
    assert MlflowClient("http://127.0.0.1:9")._registry_uri == "http://127.0.0.1:9"


def test_what_is_done_by_hand_is_told_before_what_the_gate_said(gated: dict[str, dict[str, Any]]) -> None:
    client, refused = registry.connect(), gated["broken"]["version"]
    client.update_registered_model("gated", "Asked for by the mill's people.")

    def told(version: str) -> list[str]:
        return str(client.get_model_version("gated", version).description).split("\n\n")

    def page() -> str:
        return str(client.get_registered_model("gated").description)

    change = champions.promote_by_hand(
        client, f"models:/gated/{refused}", reason="for a demonstration", who="Ada"
    )
    by_hand, gate, about = told(refused)
    assert by_hand == f"promoted by hand (Ada) on {change.at}: for a demonstration"
    assert gate.startswith("The gate's decision was refused: ")
    assert about.startswith("A GPT-2 language model of ")
    assert f"Version {refused}, {by_hand}." in page()
    change = champions.rollback(client, "gated", reason="it is over", who="Bo")
    assert told(refused)[0] == f"rolled back by hand (Bo) on {change.at}: it is over"
    assert told(refused)[1:] == [gate, about]
    back = f"brought back in place of {refused} by hand (Bo) on {change.at}: it is over"
    assert told(change.version)[0] == back
    assert page().startswith("Asked for by the mill's people.\n\n## Champion\n\n")
    assert f"Version {change.version}, {back}." in page()


def test_a_registered_model_says_how_its_champion_is_loaded_and_what_it_is_worth(
    gated: dict[str, dict[str, Any]],
) -> None:
    client = registry.connect()
    champion = registry.resolve(client, "models:/gated@champion")
    page = str(client.get_registered_model("gated").description)
    figures = client.get_run(champion.run_id).data.metrics
    assert page.count("## Champion") == 1
    assert f"\n\nVersion {champion.version}, " in page
    assert 'mlflow.pyfunc.load_model("models:/gated@champion")' in page
    assert f"| all held-out text | {figures['bits_per_byte']:.4f} |" in page
    assert f"| zh | {figures['bits_per_byte.zh']:.4f} |" in page
    assert f"| all, by the bigram baseline | {figures['bigram_bits_per_byte']:.4f} |" in page


def test_a_model_without_a_champion_says_so_and_no_description_is_longer_than_mlflow_takes() -> None:
    assert "None yet" in model_text("new", "", "", "", {})
    text = version_text({"modelmill.decision": "refused", "modelmill.reasons": "bad; " * 990}, "About. " * 9)
    assert len(text) == 5000
    assert text.endswith("…\n\n" + "About. " * 9)


def test_two_that_finish_at_once_cannot_both_become_champion(gated: dict[str, dict[str, Any]]) -> None:
    client = registry.connect()
    present = str(registry.version_of(client, "gated", "champion").version)  # type: ignore[union-attr]
    outcomes: list[str] = []

    def finish(version: str) -> None:
        try:
            champions.promote(registry.connect(), "gated", version, expected=present, reason="a race")
            outcomes.append("champion")
        except ChampionChangedError:
            outcomes.append("refused")

    rivals = [threading.Thread(target=finish, args=(gated[name]["version"],)) for name in ("worse", "equal")]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()
    assert sorted(outcomes) == ["champion", "refused"]
    assert champions.rollback(client, "gated", reason="it was a test").version == present


def test_rollback_goes_back_champion_by_champion_and_is_recorded(gated: dict[str, dict[str, Any]]) -> None:
    client = registry.connect()
    change = champions.rollback(client, "gated", reason="it stutters")
    assert change.version == gated["strong"]["version"]
    assert change.replaced == gated["elsewhere"]["version"]
    assert registry.resolve(client, "models:/gated@champion").version == int(change.version)
    assert champions.history(client, "gated")[-1]["reason"] == "it stutters"
    assert champions.rollback(client, "gated", reason="so does this").version == gated["weak"]["version"]
    with pytest.raises(RegistryError, match="first champion"):
        champions.rollback(client, "gated", reason="and this")


@pytest.mark.parametrize("store", ["with the weights", "without them"])
def test_a_version_is_pulled_under_each_of_its_names(
    gated: dict[str, dict[str, Any]], store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if store == "without them":
        monkeypatch.setenv("MODELMILL_STORE", str(tmp_path / "empty"))
    version = gated["strong"]["version"]
    for number, name in enumerate(("gated", "models:/gated", f"gated/{version}", f"models:/gated/{version}")):
        target = tmp_path / f"[v{number}]"
        said = CliRunner().invoke(app, ["pull", name, str(target)], catch_exceptions=False).output
        assert f"{name} is in {target}: " in said.replace("\n", "")
        assert (target / "model.safetensors").is_file()
    (tmp_path / "file").touch()
    with pytest.raises(RegistryError, match=r"cannot be copied to .*: Not a directory"):
        CliRunner().invoke(app, ["pull", "gated", str(tmp_path / "file" / "new")], catch_exceptions=False)


def test_what_the_configuration_leaves_to_a_person_says_so(
    world: World, gated: dict[str, dict[str, Any]]
) -> None:
    left = LENIENT.model_copy(update={"promote": False})
    stats = world.register(world.trained(world.train(250, seed=3)), config=left)
    assert (stats["decision"], stats["aliases"]) == ("promoted", ["candidate"])
    description = str(registry.connect().get_model_version("gated", stats["version"]).description)
    assert description.partition("\n\n")[0].endswith("; a person has to promote it, as configured")


def test_what_is_not_there_is_said_with_what_is(gated: dict[str, dict[str, Any]]) -> None:
    client = registry.connect()
    with pytest.raises(RegistryError, match="models:/gated/1"):
        registry.resolve(client, "models:/gated/99")
    with pytest.raises(RegistryError, match="models:/gated"):
        registry.resolve(client, "models:/other@champion")
    with pytest.raises(RegistryError, match="99"):
        champions.promote(client, "gated", "99", expected="", reason="")


@pytest.mark.parametrize(
    ("settings", "page"),
    [
        ({PREFECT_API_URL: "http://mill.example:4200/api"}, "http://mill.example:4200/v2/runs/flow-run/17"),
        (
            {PREFECT_API_URL: "http://prefect-server:4200/api", PREFECT_UI_URL: "https://mill.example/v2"},
            "https://mill.example/v2/runs/flow-run/17",
        ),
        (
            {PREFECT_API_URL: "https://api.prefect.cloud/api/accounts/1/workspaces/2"},
            "https://app.prefect.cloud/account/1/workspace/2/runs/flow-run/17",
        ),
        ({PREFECT_API_URL: None}, ""),
    ],
)
def test_a_versions_tag_leads_to_the_present_page_of_its_flow_run(
    settings: dict[Any, str | None], page: str
) -> None:
    with temporary_settings(settings):
        assert _page("17") == page


def test_runs_that_begin_at_once_know_a_registry_by_one_identity(tmp_path: Path) -> None:
    for number in range(20):
        database = tmp_path / str(number) / "mlflow.db"
        database.parent.mkdir()
        database.touch()
        with ThreadPoolExecutor(8) as runs:
            found = set(runs.map(registry.identity, [f"sqlite:///{database}"] * 8))
        assert len(found) == 1


def test_another_registry_is_another_identity(tmp_path: Path) -> None:
    first, second = (f"sqlite:///{tmp_path / name / 'mlflow.db'}" for name in "ab")
    Path(first.removeprefix("sqlite:///")).parent.mkdir()
    Path(first.removeprefix("sqlite:///")).touch()
    known = registry.identity(first)
    assert registry.identity(first) == known
    assert registry.identity(second) != known
    assert registry.identity("http://mlflow.example") == "http://mlflow.example"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SERVED, f"http://127.0.0.1:5000 {first}")
        assert registry.identity("http://127.0.0.1:5000") == known, "the same registry by way of its server"
        assert registry.identity("http://mlflow.example") == "http://mlflow.example"
    assert registry.identity("postgresql://me:pa55@db/x") == "postgresql://me:***@db/x", "manifests keep it"
    Path(first.removeprefix("sqlite:///")).unlink()
    assert registry.identity(first) != known, "a database begun anew holds no registrations"
