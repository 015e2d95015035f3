"""Commands that look and change nothing: explain, config, verify."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.console import Console
from rich.text import Text

from flows import show
from flows.environment import prepare
from flows.loading import load_config
from flows.references import find_artifact
from flows.upkeep import damaged
from storage.store import open_store


def explain_command(console: Console, preset: str, file: Path | None, sets: Sequence[str]) -> None:
    """Print what a run would do; raises ConfigError or SourceError where it could not start."""
    config = load_config(preset, file, sets)
    prepare()
    from flows.explain import explain
    from flows.parts import check_inputs

    check_inputs(config)
    plan = explain(config)
    console.print(show.plan_table(plan))
    runs = [step for step in plan.steps if step.verdict != "cached"]
    if not runs:
        console.print("Every stage is cached: a run would make nothing anew.")
    else:
        certain = sum(step.verdict == "run" for step in runs)
        console.print(f"{certain} would run; {len(runs) - certain} wait for what comes out of those.")


def config_command(console: Console, preset: str, file: Path | None, sets: Sequence[str]) -> None:
    """Print the checked configuration as YAML."""
    values = load_config(preset, file, sets).model_dump(mode="json")
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    console.print(text, markup=False, highlight=False, soft_wrap=True, end="")


def verify_command(console: Console, name: str) -> None:
    """Hash what is committed again; ends with exit status 1 where a file differs."""
    store = open_store()
    artifacts = [find_artifact(name)] if name else list(store.artifacts())
    found = store.verify(artifacts[0]) if name else damaged(store)
    files, size = sum(len(a.parts) for a in artifacts), sum(a.bytes for a in artifacts)
    if found:
        console.print(show.damage_table(found, store.uri))
        console.print("Delete a damaged artifact's folder and run again: only that stage is made anew.")
        raise SystemExit(1)
    what = f"{len(artifacts)} artifact{'s' * (len(artifacts) != 1)}, {files} file{'s' * (files != 1)}"
    told = f"{what}, {size / 1e6:,.1f} MB: all as committed."
    told = told if artifacts else f"Nothing is in the store {store.uri} yet."
    console.print(told, markup=False, soft_wrap=True)
    for partial in store.partials():
        what = "unfinished work, which a run with the same settings goes on with"
        console.print(Text(f"{what}: {partial}", style="dim"), soft_wrap=True)
