"""The one folder that everything lives under, and where its parts are."""

from __future__ import annotations

import os
import re
from pathlib import Path

EMBEDDED = "MODELMILL_EMBEDDED_PREFECT"
"""Environment variable that is set where Prefect's server ends with the run: its addresses are soon dead."""

SERVED = "MODELMILL_SERVED_REGISTRY"
"""Environment variable with an MLflow server's address and that of the database behind it, a space between:
both are known as one registry."""


def home() -> Path:
    """``MODELMILL_HOME``, or ``.modelmill`` in the working directory."""
    return Path(os.environ.get("MODELMILL_HOME") or ".modelmill").expanduser().resolve()


def store_uri() -> str:
    """``MODELMILL_STORE`` (a path or ``s3://bucket/prefix``), or the folder ``store`` in the home."""
    return os.environ.get("MODELMILL_STORE") or str(home() / "store")


def tracking_uri() -> str:
    """``MLFLOW_TRACKING_URI``, or an sqlite database in the home."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow' / 'mlflow.db'}"


def without_password(uri: str) -> str:
    """An address as it may be shown, logged and kept: a database's or a server's may hold a password."""
    return re.sub(r"(?<=://)([^/@:]*):[^/]*@", r"\1:***@", uri)


def scratch() -> Path:
    """A local folder for work in progress and for copies of remote artifacts."""
    return home() / "scratch"
