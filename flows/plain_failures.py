"""Failures that people can mend, as one sentence in a run's log in place of Prefect's tracebacks."""

from __future__ import annotations

import logging

from prefect.exceptions import ParameterTypeError

from flows.failures import explain_failure

LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


class PlainFailures(logging.Filter):
    """Takes the traceback from a record whose error explains itself; the traceback of a bug stays."""

    def __init__(self) -> None:
        super().__init__()
        self._told: BaseException | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """False where Prefect logs an error that was told already a second time."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return True
        sentence = str(error) if isinstance(error, ParameterTypeError) else explain_failure(error)
        if sentence is None:
            return True
        if error is self._told:
            return False
        self._told = error
        record.msg, record.args, record.exc_info, record.exc_text = sentence, (), None, None
        return True


def install() -> None:
    """Have the logs of this process's runs say it so; once is enough."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(known, PlainFailures) for known in logger.filters):
            logger.addFilter(PlainFailures())
