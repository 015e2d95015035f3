"""Which errors people can mend, as sentences; all others keep their traceback."""

from __future__ import annotations

from storage.errors import FULL, chain_of

MENDABLE = (
    "flows.embedded.PrefectStartError",
    "flows.loading.ConfigError",
    "flows.operations.DamagedStoreError",
    "flows.parts.NothingReadError",
    "flows.parts.PartsFailedError",
    "flows.prefect_outage.PrefectAwayError",
    "flows.stack_errors.StackError",
    "storage.errors.StorageError",
    "storage.registry.RegistryError",
    "tasks.web.sources.SourceError",
    "tasks.web.takedown.TakedownError",
    "tasks.text.dedup.NothingLeftError",
    "tasks.text.given_files.GivenFileError",
    "tasks.clean.TooManyFailuresError",
    "tasks.ingest.TooManyFailuresError",
    "tasks.tokens.errors.TokensError",
    "tasks.evals.held_out.EvaluationError",
    "tasks.gpt.errors.ExportError",
    "tasks.gpt.errors.TrainingError",
)
"""Errors whose message says what, where and the mend, by their full names (imported when one is met)."""
BUCKET = tuple(
    f"obstore.exceptions.{name}Error" for name in ("Generic", "PermissionDenied", "Unauthenticated")
)
"""A bucket that does not answer or refuses; the message goes on for a page."""


def explain_failure(error: BaseException) -> str | None:
    """The message of the mendable error behind an exception, or None where it is a bug of ours."""
    for link in chain_of(error):
        if any(_is(link, name) for name in MENDABLE):
            return str(link)
        if any(_is(link, name) for name in BUCKET):
            return (
                f"The store's bucket does not answer or refuses: {str(link).splitlines()[0]}. Check "
                f"MODELMILL_STORE and the credentials (AWS_…), and run again: what is finished is kept."
            )
        if isinstance(link, OSError) and link.errno in FULL:
            where = f" for {link.filename}" if link.filename else ""
            return (
                f"No room left on the disk{where}. Free some space and run again: what is finished is kept."
            )
    return None


def _is(error: BaseException, name: str) -> bool:
    module, _, cls = name.rpartition(".")
    return any(base.__module__ == module and base.__name__ == cls for base in type(error).__mro__)
