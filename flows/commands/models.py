"""Commands on registered models: generate, pull, promote, rollback."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.text import Text

from flows.environment import prepare
from flows.loading import load_config
from storage.champions import history, promote_by_hand, rollback
from storage.errors import ArtifactMissingError
from storage.model_log import HF_FOLDER, version_folder
from storage.registry import CANDIDATE, RegistryError, connect, resolve, version_artifact
from storage.store import open_store

SMALLEST = 1e-9
"""Of the mass, a share that the likeliest token has alone: none of it would leave no token."""


def default_model() -> str:
    """The champion of the last run's model, else of the default preset's, where no model was named."""
    from flows.runs import run_notes

    note = next(run_notes(open_store()), None)
    return f"models:/{note['name'] if note else load_config().name}@champion"


def model_folder(model: str) -> Path:
    """A local Hugging Face folder with a registered version's weights: the store's, or MLflow's copy.

    Raises RegistryError where there is no such version, or it was not registered from here.
    """
    with suppress(RegistryError, ArtifactMissingError):
        store, (kind, key) = open_store(), version_artifact(model)
        if (artifact := store.find(kind, key)) is not None:
            return store.open(artifact) / HF_FOLDER
    client = connect()
    return version_folder(client, resolve(client, model))


def generate_command(
    console: Console,
    model: str,
    prompt: str,
    *,
    max_new_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
) -> None:
    """Print the prompt and its continuation as it comes."""
    prepare()
    folder = model_folder(model or default_model())
    from tasks.serving.pyfunc_model import Options, TextGenerator

    options = Options(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p or SMALLEST,
        seed=seed,
    )
    console.print(Text(prompt, style="bold"), end="", soft_wrap=True)
    for piece in TextGenerator(folder).stream(prompt, options):
        console.out(piece, end="", highlight=False)
    console.print()


def pull_command(console: Console, model: str, target: Path) -> None:
    """Copy a version's Hugging Face folder to ``target``; refuses a folder that has something in it."""
    import shutil

    prepare()
    if target.exists() and not target.is_dir():
        raise RegistryError(f"{target} is a file: give a new folder to pull {model} into")
    if target.exists() and any(target.iterdir()):
        raise RegistryError(f"{target} is not empty: give a new folder to pull {model} into")
    found = model_folder(model)
    try:
        shutil.copytree(found, target, dirs_exist_ok=True)
    except OSError as error:
        raise RegistryError(
            f"{model} cannot be copied to {target}: {error.strerror or error}. Give a new folder that you "
            "may write to, on a disk with room"
        ) from error
    told = f"{model} is in {target}: GPT2LMHeadModel.from_pretrained({str(target)!r}) loads it."
    console.print(told, markup=False, highlight=False, soft_wrap=True)


def promote_command(console: Console, model: str, reason: str) -> None:
    """Make a version, or a name's latest candidate, champion by hand; the reason is recorded."""
    prepare()
    named = model.removeprefix("models:/")
    wanted = named if {"/", "@"} & set(named) else f"{named}@{CANDIDATE}"
    change = promote_by_hand(connect(), wanted, reason=reason)
    console.print(
        f"models:/{change.name}/{change.version} is champion; it replaced {change.replaced or 'none'}."
    )


def rollback_command(console: Console, name: str, reason: str) -> None:
    """Give the alias back to the former champion; the change is recorded with its reason."""
    prepare()
    client = connect()
    change = rollback(client, name.removeprefix("models:/"), reason=reason)
    console.print(f"models:/{change.name}/{change.version} is champion again; {change.replaced} is not.")
    for past in history(client, change.name)[-5:]:
        told = f"{past['at']} {past['action']} {past['version']}: {past['reason']}"
        console.print(Text(told, style="dim"), soft_wrap=True)
