"""From source strings to parts, and what happens when some of them fail."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from prefect.logging import get_run_logger

from flows.config import HasSources
from storage.artifacts import Artifact
from storage.home import home
from storage.store import open_store
from tasks.fetch import open_sources
from tasks.ingest import ingest
from tasks.planning import active_plan
from tasks.pool_processes import start_workers
from tasks.stage import PartFailure
from tasks.text.cleaning import Cleaner
from tasks.web.sources import SourceRef, resolve_all

Part = TypeVar("Part")


FAILURES_NAMED = 20
"""Of parts that failed or gave nothing, in the error's message; the log of the run has each."""


class PartsFailedError(RuntimeError):
    """More parts of a stage failed than the configuration allows; the message names them and why."""


class NothingReadError(RuntimeError):
    """No source gave a document; the message says why, source by source."""


def check_inputs(config: HasSources) -> list[SourceRef]:
    """What the source strings name, after a look at the files that the cleaning's configuration names.

    Raises, before any work, SourceError by name where a source names nothing, and GivenFileError
    where a file is not what the configuration takes it for.
    """
    Cleaner(config.clean)
    return resolve_all(config.sources, config.ingest, _fingerprints())


def bring(config: HasSources) -> tuple[list[str], list[SourceRef | Artifact]]:
    """Names and parts of everything that is to be read; what is remote or on a site is fetched first."""
    Cleaner(config.clean)  # before any work: it reads the files that its configuration names
    failures: list[PartFailure] = []
    keep = active_plan() is None
    found = open_sources(config.sources, config.ingest, _fingerprints(), keep=keep, failures=failures)
    parts = enough(config, ([part for _, part in found], failures))
    return [name for name, _ in found], parts


def call_workers(config: HasSources, sources: list[SourceRef | Artifact]) -> None:
    """Have workers started while Prefect gets the first parts going, if the first is not in the store."""
    if not sources or active_plan() is not None or config.run.task_runner != "threads":
        return
    recipe = ingest.recipe_for(sources[0], config.ingest, config.extract)
    if open_store().find(recipe.stage, recipe.key) is None:
        blocks = ["tasks.text.block_extract"] if config.extract.mode != "fast" else []
        start_workers("tasks.text.pages", "tasks.text.cleaning", *blocks)


def labels(documents: list[Artifact], names: list[str]) -> list[str]:
    """The source's name of each part that was read; a plan, in which no part fails, knows it by its place."""
    return [
        str(part.stats["source"]) if isinstance(part, Artifact) else name
        for part, name in zip(documents, [*names, *[""] * len(documents)], strict=False)
    ]


def _fingerprints() -> Path:
    """Where digests of local files are kept, so that a file that has not changed is not read again."""
    return home() / "fingerprints.sqlite"


def enough(config: HasSources, results: tuple[list[Part], list[PartFailure]]) -> list[Part]:
    """The artifacts of a mapped stage, if few enough parts failed; raises PartsFailedError else."""
    artifacts, failures = results
    if not failures:
        return artifacts
    lines = [f"{f.stage} {f.part}: {type(f.error).__name__}: {f.error}" for f in failures]
    share = len(failures) / (len(failures) + len(artifacts))
    if not artifacts or share > config.run.max_failed_parts:
        raise PartsFailedError(
            f"{len(failures)} of {len(failures) + len(artifacts)} parts of {failures[0].stage} failed "
            f"(run.max_failed_parts allows a share of {config.run.max_failed_parts}):\n{_listed(lines)}"
        ) from failures[0].error
    for line in lines:
        get_run_logger().warning("Going on without a part that failed: %s", line)
    return artifacts


def some_read(parts: list[Artifact]) -> list[Artifact]:
    """The parts of ``ingest``, if a document came of any; raises NothingReadError else."""
    if active_plan() is not None or any(part.stats["documents"] for part in parts):
        return parts
    lines = [
        f"{part.stats['source']}: "
        + (", ".join(f"{name} {n:,}" for name, n in part.stats["reasons"].items()) or "no record at all")
        for part in parts
    ]
    raise NothingReadError(
        f"No source gave a document:\n{_listed(lines)}\nMend or replace the sources; `modelmill why URL` "
        f"tells what was said of one record."
    )


def _listed(lines: list[str]) -> str:
    more = len(lines) - FAILURES_NAMED
    return "\n".join([*lines[:FAILURES_NAMED], *([f"and {more:,} more"] if more > 0 else [])])
