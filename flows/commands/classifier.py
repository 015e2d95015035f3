"""The command behind ``modelmill train-classifier``: a score of documents, learned from good and bad text."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from flows.loading import ConfigError
from tasks.text.given_files import GivenFileError


def train_classifier_command(console: Console, good: Path, bad: Path, out: Path) -> None:
    """Train, write the model and print how well it does; raises ConfigError where the text will not do."""
    for path in (good, bad):
        if not path.exists():
            raise ConfigError(f"There is no {path}; name a folder of .txt or .jsonl files, or one such file.")
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out}: the model is written as safetensors; name it {out.stem}.safetensors.")
    if out.is_dir():
        raise ConfigError(f"{out} is a folder: name the file that the model is written to.")
    if not out.parent.is_dir():
        raise ConfigError(f"There is no folder {out.parent} to write {out.name} to.")
    from safetensors import SafetensorError

    from tasks.text.score_training import read_texts, train

    try:
        with console.status("reading and fitting"):
            trained = train(list(read_texts(good)), list(read_texts(bad)))
    except GivenFileError as error:
        raise ConfigError(str(error)) from error
    try:
        trained.model.save(out, trained.about())
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"{out} cannot be written: {error}. Name a file in a folder that you may write to."
        ) from error
    console.print(
        f"{out}: {trained.good:,} good and {trained.bad:,} bad documents; on the fifth of them that was held "
        f"out: accuracy {trained.accuracy:.4f}, AUC {trained.auc:.4f}\n"
        f"Use it: --set clean.score.model.paths='[{out}]' --set clean.score.min_score=0.5",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
