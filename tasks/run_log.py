"""What a run's log says: one line an event, each naming the stage and part that it is about.

The lines go through a logger of their own. Prefect's would tell of every task that it "finished in state
Completed()" without saying which, so the settings below leave those to warnings and errors.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

LOGGER = logging.getLogger("modelmill")


class StageLog(logging.LoggerAdapter[logging.Logger]):
    """Puts a stage's name before each line, and says which Prefect run the line belongs to."""

    def __init__(self, place: str, run: Mapping[str, object]) -> None:
        super().__init__(LOGGER, dict(run))
        self.place = place

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """As of a logger; a line without arguments may hold percent signs."""
        if args:
            super().log(level, f"%s: {msg}", self.place, *args, **kwargs)
        else:
            super().log(level, "%s: %s", self.place, msg, **kwargs)


def stage_log(stage: str, label: str = "") -> StageLog:
    """The log of a stage (of one part), tied to the task or flow run around it, if there is one."""
    if LOGGER.level == logging.NOTSET:
        LOGGER.setLevel(logging.INFO)  # Prefect gives the logger a handler, but no level
    return StageLog(f"{stage} {label}".strip(), _prefect_run())


def _prefect_run() -> Mapping[str, object]:
    """What Prefect's logger says of the run around; nothing where there is none."""
    if "prefect" not in sys.modules:
        return {}
    from prefect.exceptions import MissingContextError
    from prefect.logging import get_run_logger

    try:
        return get_run_logger().extra or {}  # type: ignore[union-attr]
    except MissingContextError:
        return {}
