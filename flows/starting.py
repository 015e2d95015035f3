"""What is looked at before a run's work: what its training goes on from, and whether MLflow is there.

What a training goes on from is an artifact: its content decides, not the name it was given by.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from flows.config import Learning
from flows.frozen import kept
from flows.references import find_artifact
from storage.artifacts import Artifact, Recipe
from storage.errors import ArtifactMissingError
from storage.home import tracking_uri, without_password
from storage.mlflow_outage import why_away
from storage.registry import RegistryError, check_address
from storage.store import Draft, open_store
from tasks.gpt.config import TrainConfig
from tasks.gpt.errors import TrainingError
from tasks.pretraining import MODEL, check_base
from tasks.run_log import stage_log
from tasks.tokenization import train_tokenizer

FILES = ("config.json", "model.safetensors", "tokenizer.json")
"""What is needed of a Hugging Face folder; weights in pickles are not read."""


def starting(scope: str, config: Learning) -> Artifact | None:
    """What training goes on from, found before anything is made, as is the tokenizer that is to be adopted.

    Raises TokensError, RegistryError or ArtifactMissingError where one of them is not there, TrainingError
    where they do not fit together or the configuration.
    """
    vocabulary = config.tokenize.tokenizer
    tokenizer = Path(vocabulary.adopt) if vocabulary.adopt else None
    if (found := kept(train_tokenizer, scope, vocabulary)) is not None:
        tokenizer = open_store().open(found)
    elif tokenizer is not None:
        check_tokenizer(tokenizer)
    return starting_point(config.train, tokenizer)


def warn_of_mlflow() -> None:
    """Say before hours of work that MLflow is away: none of it is lost, but it cannot be registered.

    Raises RegistryError where its address is none at which models are kept.
    """
    check_address(tracking_uri())
    if why := why_away(tracking_uri()):
        stage_log("register").warning(
            "MLflow at %s does not answer: %s. The work goes on, and a training's metrics are sent once it "
            "is back; start it before the model is to be registered",
            without_password(tracking_uri()),
            why,
        )


def starting_point(config: TrainConfig, tokenizer: Path | None) -> Artifact | None:
    """The artifact whose ``hf/`` holds the weights that ``init_from`` names; None for new weights.

    ``models:/NAME@alias`` and ``models:/NAME/3`` are the model that was registered; a folder is taken into
    the store, once for the same content. ``tokenizer`` is the run's, None where it trains one. Raises
    ArtifactMissingError where there is no such model or a file is missing, RegistryError where MLflow has no
    such version, and as :func:`tasks.pretraining.check_base` does.
    """
    if not config.init_from:
        return None
    registered = _registered(config.init_from) if config.init_from.startswith("models:/") else None
    folder = Path(config.init_from) if registered is None else open_store().open(registered) / MODEL
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise ArtifactMissingError(
            f"train.init_from: {folder} lacks {', '.join(missing)}; name a Hugging Face GPT-2 folder with "
            f"{', '.join(FILES)}, or models:/NAME@champion"
        )
    if tokenizer is None:
        raise TrainingError(
            f"train.init_from: {config.init_from} has a tokenizer of its own, where this run would train "
            f"another: set tokenize.adopt to {folder}"
        )
    check_base(folder, tokenizer, config)
    return registered or _adopted(folder)


def _registered(name: str) -> Artifact:
    try:
        return find_artifact(name)
    except (ArtifactMissingError, RegistryError) as error:
        raise type(error)(f"train.init_from: {error}") from error


def _adopted(folder: Path) -> Artifact:
    """A Hugging Face folder as an artifact of the store."""

    def take(draft: Draft) -> dict[str, Any]:
        (draft.path / MODEL).mkdir()
        for name in FILES:
            shutil.copyfile(folder / name, draft.path / MODEL / name)
        return {"bytes": (folder / "model.safetensors").stat().st_size}

    recipe = Recipe(stage="adopt_model", code={}, inputs={name: _sha256(folder / name) for name in FILES})
    return open_store().make(recipe, (), take)


def check_tokenizer(adopt: Path) -> None:
    """Raise TokensError where ``tokenize.adopt`` names no tokenizer that can be used."""
    from tasks.tokens import bpe
    from tasks.tokens.errors import TokensError

    try:
        bpe.load(adopt)
    except TokensError as error:
        raise TokensError(f"tokenize.adopt: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
