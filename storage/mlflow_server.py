"""MLflow's server in one process: ``python -m storage.mlflow_server --port 5000 --backend sqlite:///…``.

``mlflow server`` imports the whole server, readies the databases, and then starts another process that
imports it all again and serves. Both done here at once save four seconds of work at each start, 180 MB, and a
child that can outlive its parent with the port in its hands. Job execution is off, as one machine needs it.

The server reads its settings from its environment while it is imported, by names that MLflow keeps to
itself: they are compared with MLflow's own before anything is served.
"""

from __future__ import annotations

import argparse
import os
import uuid
from collections.abc import Sequence

from storage.mlflow_database import follow_files, make_database

BACKEND, ARTIFACTS, ROOT = (
    "_MLFLOW_SERVER_FILE_STORE",
    "_MLFLOW_SERVER_ARTIFACT_DESTINATION",
    "_MLFLOW_SERVER_ARTIFACT_ROOT",
)
DATABASE = "MLFLOW_BACKEND_STORE_URI"
"""As MLflow's own command line calls it."""
SERVE_ARTIFACTS = "_MLFLOW_SERVER_SERVE_ARTIFACTS"
PROXIED = "mlflow-artifacts:/"
"""An experiment's place for files where clients send them through the server."""


class OtherMlflowError(RuntimeError):
    """The installed MLflow takes its settings by other names than this module gives them."""


def settings(backend: str, artifacts: str, root: str, allowed_hosts: str) -> dict[str, str]:
    """What the server finds in its environment; an empty ``root`` sends clients' files through it."""
    return {
        BACKEND: backend,
        ARTIFACTS: artifacts,
        ROOT: root or PROXIED,
        SERVE_ARTIFACTS: "true",
        "MLFLOW_SERVER_ALLOWED_HOSTS": allowed_hosts,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "_MLFLOW_SGI_NAME": "uvicorn",
        "_MLFLOW_SERVER_BOOT_ID": uuid.uuid4().hex,
    }


def check_names() -> None:
    """Raise OtherMlflowError where MLflow's names for the settings are not those of :func:`settings`."""
    from mlflow import environment_variables as variables
    from mlflow.server import constants

    theirs = {
        constants.BACKEND_STORE_URI_ENV_VAR,
        constants.ARTIFACTS_DESTINATION_ENV_VAR,
        constants.ARTIFACT_ROOT_ENV_VAR,
        constants.SERVE_ARTIFACTS_ENV_VAR,
        variables.MLFLOW_SERVER_ENABLE_JOB_EXECUTION.name,
        variables._MLFLOW_SGI_NAME.name,
        variables._MLFLOW_SERVER_BOOT_ID.name,
    }
    if unknown := theirs - settings("", "", "", "").keys():
        raise OtherMlflowError(
            f"this MLflow takes {', '.join(sorted(unknown))}, which storage/mlflow_server.py does not give: "
            f"install the version that constraints.txt names"
        )


def serve(host: str, port: int, backend: str) -> None:
    """Ready the databases, then serve until SIGTERM or SIGINT."""
    import uvicorn  # before MLflow's server, which guards itself where it sees one

    check_names()
    make_database(backend)
    follow_files(backend)
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(backend, backend, os.environ[ROOT])
    uvicorn.run("mlflow.server.fastapi_app:app", host=host, port=port, log_level="warning")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m storage.mlflow_server", description=serve.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--backend",
        default=os.environ.get(DATABASE, ""),
        help=f"the database's address; one with a password is better given as {DATABASE}, which no list of "
        "processes shows",
    )
    parser.add_argument("--artifacts", required=True, help="where files are kept, as an address")
    parser.add_argument("--default-artifact-root", default="", help="where clients write them themselves")
    parser.add_argument("--allowed-hosts", required=True, help="Host headers that are answered, with commas")
    asked = parser.parse_args(arguments)
    if not asked.backend:
        parser.error(f"give --backend or {DATABASE}")
    os.environ.update(
        settings(asked.backend, asked.artifacts, asked.default_artifact_root, asked.allowed_hosts)
    )
    serve(asked.host, asked.port, asked.backend)


if __name__ == "__main__":
    main()
