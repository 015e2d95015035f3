"""What a training goes on from, as an artifact: its content decides, not the name it was given by."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from flows.references import find_artifact
from storage.artifacts import Artifact, Recipe
from storage.errors import ArtifactMissingError
from storage.store import Draft, open_store
from tasks.gpt.config import TrainConfig

FILES = ("config.json", "model.safetensors", "tokenizer.json")
"""What is needed of a Hugging Face folder; weights in pickles are not read."""
MODEL = "hf"


def starting_point(config: TrainConfig) -> Artifact | None:
    """The artifact whose ``hf/`` holds the weights that ``init_from`` names; None for new weights.

    ``models:/NAME@alias`` and ``models:/NAME/3`` are the model that was registered; a folder is taken into
    the store, once for the same content. Raises ArtifactMissingError where there is no such model or a file
    is missing, RegistryError where MLflow has no such version.
    """
    if not config.init_from:
        return None
    if config.init_from.startswith("models:/"):
        return find_artifact(config.init_from)
    folder = Path(config.init_from)
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise ArtifactMissingError(
            f"train.init_from: {folder} lacks {', '.join(missing)}; name a Hugging Face GPT-2 folder with "
            f"{', '.join(FILES)}, or models:/NAME@champion"
        )

    def take(draft: Draft) -> dict[str, Any]:
        (draft.path / MODEL).mkdir()
        for name in FILES:
            shutil.copyfile(folder / name, draft.path / MODEL / name)
        return {"bytes": (folder / "model.safetensors").stat().st_size}

    recipe = Recipe(stage="adopt_model", code={}, inputs={name: _sha256(folder / name) for name in FILES})
    return open_store().make(recipe, (), take)


def check_tokenizer(adopt: str) -> None:
    """Raise TokensError where ``tokenize.adopt`` names no tokenizer that can be used."""
    from tasks.tokens import bpe
    from tasks.tokens.errors import TokensError

    try:
        bpe.load(Path(adopt))
    except TokensError as error:
        raise TokensError(f"tokenize.adopt: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
