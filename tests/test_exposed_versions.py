"""A takedown names every registered version that was trained or evaluated on what it means."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cli import app
from storage.artifacts import Artifact, Parent, Recipe
from storage.documents import PartWriter
from storage.registry import TAG, connect
from storage.schemas import DOCUMENTS
from storage.store import Draft, open_store
from storage.token_shards import write_shard
from tasks.evaluation import PER_DOCUMENT, write_per_document

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MLflow's own, of sqlalchemy and others
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
]
TRAINED, MEASURED, UNMEASURED = "https://a.example/1", "https://b.example/2", "https://b.example/3"


def made(kind: str, work: Callable[[Path], None], *parents: Artifact) -> Artifact:
    """An artifact of a kind, with what ``work`` writes into its folder."""

    def run(draft: Draft) -> dict[str, Any]:
        work(draft.path)
        return {}

    made_from = tuple(Parent(kind=a.kind, key=a.key, digest=a.digest) for a in parents)
    return open_store().make(Recipe(stage=kind, code={}, inputs={}), made_from, run)


def shard(folder: Path) -> None:
    """Write a token shard of the training documents."""
    write_shard(
        folder / "shard-00000.arrow", doc_ids=["1" * 64], urls=[TRAINED], source_sha256=[bytes(32)],
        ids=np.arange(5, dtype=np.uint16), offsets=np.array([0, 5]), tokenizer="t", eos=0, vocab_size=300,
    )  # fmt: skip


def held_out(folder: Path) -> None:
    """Write the held-out documents."""
    with PartWriter(folder / "heldout.parquet", DOCUMENTS) as documents:
        for number, url in enumerate((MEASURED, UNMEASURED), 2):
            row = {"doc_id": str(number) * 64, "url": url, "domain": "b.example", "text": "a page"}
            documents.write({**row, "source_file": "b.warc", "source_offset": 0})


def report(folder: Path) -> None:
    """Of the first held-out document alone, as where ``held_out.documents`` is 1."""
    row = {"doc_id": "2" * 64, "language": "en", "domain": "b.example", "length": "short"}
    numbers = {"bytes": 6, "tokens": 2, "bits": 9.0}
    write_per_document(folder / PER_DOCUMENT, {name: [value] for name, value in {**row, **numbers}.items()})


@pytest.fixture
def shards(home: Path) -> Artifact:
    """A token set of the training documents."""
    return made("tokenize", shard)


@pytest.fixture
def heldout(home: Path) -> Artifact:
    """A held-out set."""
    return made("hold_out", held_out)


@pytest.fixture
def champion(home: Path, shards: Artifact, heldout: Artifact, monkeypatch: pytest.MonkeyPatch) -> str:
    """A version with the tags that registration gives it."""
    (home / "mlflow").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow/mlflow.db")
    measured = made("evaluate", report, shards, heldout)
    client = connect()
    client.create_registered_model("mini")
    version = client.create_model_version("mini", (home / "files").as_uri()).version
    for tag, artifact in (("shards_artifact", shards), ("report_artifact", measured)):
        client.set_model_version_tag("mini", version, TAG + tag, f"{artifact.kind}/{artifact.key}")
    client.set_registered_model_alias("mini", "champion", version)
    return f"models:/mini/{version} @champion"


def forget(*arguments: str) -> list[str]:
    """What ``modelmill forget`` says below its first line."""
    return CliRunner().invoke(app, ["forget", *arguments], catch_exceptions=False).output.splitlines()[1:]


def test_a_version_is_named_with_what_it_had_of_the_pages(champion: str) -> None:
    none = "No registered version was trained on it."
    assert forget("--url", TRAINED) == [f"  {champion} was trained on it: 1 document, 5 tokens"]
    assert forget("--url", MEASURED) == [f"  {champion} was evaluated on it: 1 document", none]
    assert forget("--url", UNMEASURED) == [none], "held out, and yet not measured"
    assert forget("--domain", "example") == [
        f"  {champion} was trained on it: 1 document, 5 tokens and evaluated on it: 1 document"
    ]


def test_a_version_is_named_of_which_the_store_cannot_tell(
    champion: str, shards: Artifact, heldout: Artifact
) -> None:
    store, doubt = open_store(), "No registered version is known to be trained on it."
    store.remove("hold_out", heldout.key)
    missing = f"hold_out/{heldout.key} gone from the store {store.uri}"
    assert forget("--url", TRAINED) == [
        f"  {champion} was trained on it: 1 document, 5 tokens",
        f"  cannot tell whether {champion} saw more of it: {missing}",
    ]
    assert forget("--url", MEASURED) == [f"  cannot tell whether {champion} saw it: {missing}", doubt]
    store.remove("tokenize", shards.key)
    (report,) = store.artifacts("evaluate")
    store.remove("evaluate", report.key)
    missing = f"tokenize/{shards.key} and evaluate/{report.key} gone from the store {store.uri}"
    assert forget("--url", TRAINED) == [f"  cannot tell whether {champion} saw it: {missing}", doubt]
