"""The command line: every command is a few lines here and its work elsewhere, imported when it runs."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console
from rich.text import Text

app = typer.Typer(
    name="modelmill",
    help="Web text in, a registered and evaluated language model out: retried, cached, explained, traceable.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
PIPE_WIDTH = 1000
"""Columns where no terminal says how many it has: a row stays a line, so that it can be searched and cut."""


def _console(*, stderr: bool = False) -> Console:
    """As wide as the terminal or ``COLUMNS``; into a file or pipe as wide as a row needs."""
    stream: TextIO | None = sys.stderr if stderr else sys.stdout  # None where it was closed, as by `>&-`
    terminal = (stream is not None and stream.isatty()) or "COLUMNS" in os.environ
    # Else `:cat:` in an address or a prompt would be shown, and written into a configuration, as a picture.
    return Console(stderr=stderr, width=None if terminal else PIPE_WIDTH, emoji=False)


console = _console()
errors = _console(stderr=True)

Preset = Annotated[str, typer.Option("--preset", "-p", help="A complete configuration to start from.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="A YAML file whose keys overlay the preset's.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="One value, such as train.steps=50; the value is YAML. Repeatable."),
]
Model = Annotated[str, typer.Argument(help="models:/NAME@champion (or NAME), models:/NAME/3, or KIND/KEY.")]

Reason = Annotated[str, typer.Option("--reason", "-r", help="Why, for the record.")]


@app.command()
def run(preset: Preset = "tiny", config: ConfigFile = None, sets: Sets = None) -> None:
    """Run the pipeline; what has not changed is taken from the store."""
    from flows.commands.run import run_command

    run_command(console, preset, config, sets or [])


@app.command()
def explain(preset: Preset = "tiny", config: ConfigFile = None, sets: Sets = None) -> None:
    """Say which stages a run would do, and which input, config field or code module makes it so."""
    from flows.commands.inspect import explain_command

    explain_command(console, preset, config, sets or [])


@app.command()
def config(preset: Preset = "tiny", file: ConfigFile = None, sets: Sets = None) -> None:
    """Print the whole configuration as YAML, checked, ready to be edited and given to --config."""
    from flows.commands.inspect import config_command

    config_command(console, preset, file, sets or [])


@app.command()
def dial(
    minutes: Annotated[
        float, typer.Option(min=0, max=525_600, help="Time for training on this machine, at most a year.")
    ] = 0,
    depth: Annotated[int, typer.Option(min=0, max=96, help="Layers, instead of a time.")] = 0,
    vocabulary: Annotated[int, typer.Option(min=257, max=65535, help="Entries of the tokenizer.")] = 4096,
    context: Annotated[int, typer.Option(min=8, max=8192, help="Tokens that the model sees at once.")] = 256,
) -> None:
    """Print the training recipe for so many minutes here, or for a depth, as a file for --config."""
    from flows.commands.dial import dial_command

    dial_command(console, minutes=minutes, depth=depth, vocabulary=vocabulary, context=context)


@app.command("train-classifier")
def train_classifier(
    good: Annotated[Path, typer.Argument(help="A folder or file of good text: .txt, .jsonl, also .gz.")],
    bad: Annotated[Path, typer.Argument(help="The same of bad text.")],
    out: Annotated[Path, typer.Argument(help="The model to write, NAME.safetensors.")],
) -> None:
    """Learn to tell good text from bad, for a score of your own in cleaning (clean.score)."""
    from flows.commands.classifier import train_classifier_command

    train_classifier_command(console, good, bad, out)


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="The text to go on from; any language.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Which registered model.")] = "",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to make at most.")] = 100,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token each time.")] = 0.8,
    top_k: Annotated[int, typer.Option(min=0, help="Choose among this many; 0 among all.")] = 50,
    top_p: Annotated[float, typer.Option(min=0, max=1, help="Choose among this share of the mass.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same text.")] = 0,
) -> None:
    """Let a registered model go on from a prompt."""
    from flows.commands.models import generate_command

    generate_command(
        console, model, prompt,
        max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed,
    )  # fmt: skip


@app.command()
def pull(
    model: Annotated[str, typer.Argument(help="models:/NAME@champion (or NAME), or models:/NAME/3.")],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
) -> None:
    """Copy a registered model's Hugging Face folder, for transformers and everything that reads it."""
    from flows.commands.models import pull_command

    pull_command(console, model, folder)


@app.command()
def promote(
    model: Annotated[str, typer.Argument(help="models:/NAME/3, or NAME: its latest candidate.")],
    reason: Reason = "no reason given",
) -> None:
    """Make a registered version champion."""
    from flows.commands.models import promote_command

    promote_command(console, model, reason)


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="The registered model's name.")],
    reason: Reason = "no reason given",
) -> None:
    """Make the former champion champion again."""
    from flows.commands.models import rollback_command

    rollback_command(console, name, reason)


@app.command()
def lineage(
    model: Model,
    url: Annotated[str, typer.Option("--url", help="What became of this page on the way to the model.")] = "",
    domain: Annotated[str, typer.Option("--domain", help="The same, for all pages of a domain.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Walk from a model to every source file it was made from, or tell of one page or domain."""
    from flows.commands.tracing import lineage_command

    lineage_command(console, model, url=url, domain=domain, as_json=as_json)


@app.command()
def why(
    url: Annotated[str, typer.Argument(help="A page's address.")],
    name: Annotated[str, typer.Option("--name", help="Of which model's last run; the latest of all.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Tell what happened to a page in the last run: kept and where, or dropped by which rule."""
    from flows.commands.tracing import why_command

    why_command(console, url, name, as_json=as_json)


@app.command()
def forget(
    url: Annotated[str, typer.Option("--url", help="One page's address.")] = "",
    domain: Annotated[str, typer.Option("--domain", help="A host, and all hosts below it.")] = "",
    reason: Reason = "no reason given",
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Take it off the list again.")] = False,
    show: Annotated[bool, typer.Option("--list", help="What is on the list, and since when.")] = False,
) -> None:
    """Put a page or a domain on the takedown list, and name the versions trained or evaluated on it."""
    from flows.commands.forget import forget_command, list_command

    if show:
        if url or domain or withdraw:
            raise typer.BadParameter("--list stands alone")
        list_command(console)
    else:
        forget_command(console, url=url, domain=domain, reason=reason, withdraw=withdraw)


@app.command()
def verify(
    artifact: Annotated[str, typer.Argument(help="KIND/KEY, or nothing for the whole store.")] = "",
) -> None:
    """Hash every committed file again and name those that differ from their manifest."""
    from flows.commands.inspect import verify_command

    verify_command(console, artifact)


@app.command()
def gc(
    apply: Annotated[bool, typer.Option("--apply", help="Delete; without it, only list.")] = False,
    keep_runs: Annotated[int, typer.Option(min=1, help="Latest runs of each model to keep.")] = 5,
    grace_hours: Annotated[
        float, typer.Option(min=0, max=876_000, help="What was used in so many hours is kept.")
    ] = 24.0,
) -> None:
    """List (or delete) what no registered model and no recent run needs."""
    from flows.commands.upkeep import gc_command

    gc_command(console, apply, keep_runs, grace_hours)


@app.command()
def up(
    prefect_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Prefect pages.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the MLflow pages.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on; all of them: 0.0.0.0.")] = "127.0.0.1",
    public_host: Annotated[str, typer.Option(help="Name under which browsers reach this machine.")] = "",
    runs_at_once: Annotated[int, typer.Option(min=1, help="Runs that the worker takes at once.")] = 2,
    nightly: Annotated[
        bool | None, typer.Option("--nightly/--no-nightly", help="Turn the nightly run on or off.")
    ] = None,
    cron: Annotated[str, typer.Option(help="When the nightly run starts, such as '0 3 * * *'.")] = "",
    time_zone: Annotated[str, typer.Option(help="Of the nightly run, such as Europe/Berlin.")] = "",
    webhook: Annotated[str, typer.Option(help="Post notifications to this address.")] = "",
    preset: Preset = "tiny",
    config: ConfigFile = None,
) -> None:
    """Start Prefect, MLflow, a worker and the deployments; Ctrl-C stops them all."""
    from flows.commands.stack import up_command
    from flows.stack_options import StackOptions

    up_command(
        console,
        StackOptions(
            host=host, public_host=public_host, prefect_port=prefect_port, mlflow_port=mlflow_port,
            runs_at_once=runs_at_once, nightly={None: "keep", True: "on", False: "off"}[nightly], cron=cron,
            time_zone=time_zone, webhook=webhook, preset=preset,
            config=str(config.resolve()) if config else "",
        ),
    )  # fmt: skip


@app.command()
def down() -> None:
    """Stop what `modelmill up` started, and whatever one that was killed has left."""
    from flows.commands.stack import down_command

    down_command(console)


@app.command()
def status() -> None:
    """Say which services of `modelmill up` run, where, and since when not."""
    from flows.commands.stack import status_command

    status_command(console)


def main() -> None:
    """Entry point: errors that people can mend are printed as sentences, not as tracebacks."""
    from flows.failures import explain_failure
    from flows.prefect_outage import PrefectAwayError

    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal in GBK must not end a run at its first ✓
        sys.stdout.reconfigure(errors="replace")
    try:
        app()
    except Exception as error:
        if (text := explain_failure(error)) is None:
            raise
        errors.print(Text.assemble(("modelmill: ", "red"), text), soft_wrap=True)
        if isinstance(error, PrefectAwayError):
            sys.stdout.flush()
            os._exit(1)  # Prefect would try for minutes to tell its server what is left
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
