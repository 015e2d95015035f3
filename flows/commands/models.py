"""Commands on registered models: generate, pull, promote, rollback."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from flows.environment import prepare
from flows.loading import load_config
from storage.champions import history, promote_by_hand, rollback
from storage.errors import ArtifactMissingError
from storage.registry import (
    CANDIDATE,
    RegistryError,
    chosen,
    connect,
    resolve,
    version_artifact,
)
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

    Raises RegistryError where there is no such version.
    """
    try:
        kind, key = version_artifact(model)
        artifact = open_store().find(kind, key)
        if artifact is not None:
            return open_store().open(artifact) / "hf"
    except (RegistryError, ArtifactMissingError):
        resolve(connect(), model)  # says what there is, where there is no such version
    return download(model) / "hf"


def download(model: str, target: Path | None = None) -> Path:
    """MLflow's copy of a version's files, in ``target`` or its own cache; gives the artifacts' folder."""
    import mlflow

    with chosen(connect()):
        found = mlflow.artifacts.download_artifacts(model, dst_path=str(target) if target else None)
    [folder] = [path.parent for path in Path(found).rglob("hf") if path.is_dir()][:1]
    return folder


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
    console.print(Text(prompt, style="bold"), end="")
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
    shutil.copytree(model_folder(model), target, dirs_exist_ok=True)
    console.print(f"{model} is in {target}: GPT2LMHeadModel.from_pretrained({str(target)!r}) loads it.")


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
        console.print(f"[dim]{past['at']} {past['action']} {past['version']}: {past['reason']}[/]")
