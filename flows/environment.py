"""Where everything of a run lives, settled before Prefect or MLflow is imported.

Both read their settings from the environment when they are imported, so commands call
:func:`prepare` first. What the user has set is respected; only what is absent is filled in.
"""

from __future__ import annotations

import os
from pathlib import Path

from flows.stack_state import running_addresses
from storage.errors import StorageError
from storage.home import home, scratch, tracking_uri
from tasks.gpt.supervisor import WAITING

HEARTBEAT_S = 30
"""How often a running flow says that it lives; Prefect takes no less than 30 s."""
LOGGING = {
    "PREFECT_LOGGING_EXTRA_LOGGERS": "modelmill",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "WARNING",
}
"""A run's log in Prefect: our own lines, one an event; of Prefect's own on tasks what went wrong."""
QUIET = {
    **LOGGING,
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_INTERNAL_LOGGING_LEVEL": "CRITICAL",  # else every event that a lost server misses is printed
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "TOKENIZERS_PARALLELISM": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
"""Settings that keep the terminal to what people need, and nothing sent anywhere."""


class HomeError(StorageError):
    """The folder that everything is kept in cannot be made or written to."""


def prepare() -> Path:
    """Make the home folder and fill in what the environment does not say; returns the home.

    Where this home's stack runs, its servers are taken. Prefect creates its own folder but not that
    folder's parents, and MLflow's sqlite likewise. Raises HomeError where it cannot be written to.
    """
    root = make_home("prefect", "mlflow", str(scratch()), "logs")
    defaults = {
        **QUIET,
        "MODELMILL_HOME": str(root),
        "PREFECT_HOME": str(root / "prefect"),
        "MLFLOW_TRACKING_URI": tracking_uri(),
        **WAITING,
        **_stack(),
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    return root


def make_home(*folders: str) -> Path:
    """The home folder with these folders in it, made where they are not there; raises HomeError."""
    root = home()
    if "?" in str(root):
        raise HomeError(f"The path {root} has a ?, which ends the address of a database: choose another one.")
    try:
        for folder in folders:
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / ".gitignore").write_text("*\n")
    except OSError as error:
        raise HomeError(
            f"Nothing can be kept in {root}: {error.strerror}. Start in a folder that you may write to, or "
            "name one with MODELMILL_HOME."
        ) from error
    return root


def _stack() -> dict[str, str]:
    """Settings by which a command joins the stack that runs in this home; none where none does."""
    addresses = running_addresses()
    if not addresses:
        return {}
    # A run says that it lives, as the stack's own runs do, so that it is not shown as running for ever.
    return {**addresses, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S)}


def joined() -> str:
    """Which servers of a running stack this process uses, as a line for people; empty where none."""
    addresses = running_addresses()
    names = {"PREFECT_API_URL": "Prefect", "MLFLOW_TRACKING_URI": "MLflow"} if addresses else {}
    used = [
        f"{name} {addresses[variable].removesuffix('/api')}"
        for variable, name in names.items()
        if os.environ.get(variable) == addresses[variable]
    ]
    return f"Joining the stack that runs here: {', '.join(used)}" if used else ""
