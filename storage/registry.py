"""The door to MLflow's runs, models and aliases.

``@candidate`` is the newest version that is sound, ``@champion`` the one to use (see
:mod:`storage.champions`).
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.errors import StorageError
from storage.home import SERVED, tracking_uri, without_password
from storage.locks import exclusive
from storage.manifests import write_synced
from storage.mlflow_database import FILES, SQLITE, follow_files, make_database
from storage.mlflow_outage import answering, first_line

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CANDIDATE = "champion", "candidate"
TAG = "modelmill."
NAMED = 10
"""Versions or models that an error names, the latest versions first."""
LARGEST = 2**31 - 1
"""Number of a version, in MLflow's databases: asked for a larger one, some fail."""
KEEPING_MODELS = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")
"""How the usual addresses of servers and databases begin."""
MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""MLflow's codes for a model, version, alias or run that is not there."""
QUIET = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",  # a minute; by its own seven it is silent for four
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Settings of MLflow that are filled in where the environment says nothing."""


class RegistryError(StorageError):
    """Something that MLflow's registry does not have or cannot do: what, where and the mend."""


def connect(uri: str = "") -> MlflowClient:
    """A client for ``uri``, or for ``MLFLOW_TRACKING_URI``, or for the database in the home folder.

    Raises MlflowUnreachableError where a database does not answer; of a server it is noticed later.
    RegistryError where MLflow can keep no models at such an address, or not in this database.
    """
    uri = uri or tracking_uri()
    for setting, value in QUIET.items():
        os.environ.setdefault(setting, value)
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # It writes what a database refuses with a traceback, and raises it: who asked tells it in a sentence.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    try:
        with answering(uri):
            make_database(uri)
            follow_files(uri)
            return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    except StorageError:
        raise
    except Exception as error:  # whatever the libraries behind an address raise, it does not lead to models
        raise RegistryError(
            f"MLFLOW_TRACKING_URI: no models can be kept at {without_password(uri)}, or read from there "
            f"({first_line(error)}). Give a server's address, http://host:5000, or a "
            "database's, such as sqlite:////folder/mlflow.db"
        ) from error


def check_address(uri: str) -> None:
    """Raise RegistryError where ``uri`` is none that MLflow keeps models at; nothing is asked of a server."""
    if uri.partition(":")[0].partition("+")[0] not in KEEPING_MODELS:
        connect(uri)  # which knows MLflow's other kinds, and takes a second to import


@contextmanager
def chosen(client: MlflowClient) -> Iterator[None]:
    """Let MLflow's module-level functions speak with a client's server while the block lasts.

    MLflow keeps that choice in the process and in its environment, where any later client or child process
    would silently find it: it is put back as it was.
    """
    import mlflow
    from mlflow.tracking._model_registry import utils as registry_choice
    from mlflow.tracking._tracking_service import utils as tracking_choice

    names = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
    environment = {name: os.environ.get(name) for name in names}
    before = tracking_choice._tracking_uri, registry_choice._registry_uri
    mlflow.set_tracking_uri(client.tracking_uri)
    mlflow.set_registry_uri(client.tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before[0])  # type: ignore[arg-type] # None, too, is a choice
        mlflow.set_registry_uri(before[1])  # type: ignore[arg-type]
        for name, value in environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def artifact_root(uri: str) -> str | None:
    """Where a new experiment keeps its files: beside an sqlite database; a server decides for itself.

    MLflow's own default for a database is ``./mlruns``, wherever the process happens to stand.
    """
    if not uri.startswith(SQLITE):
        return None
    return (Path(uri.removeprefix(SQLITE)).resolve().parent / FILES).as_uri()


def experiment_id(client: MlflowClient, name: str) -> str:
    """The experiment of that name, made where it is not there yet."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name, artifact_location=artifact_root(client.tracking_uri)))
    except MlflowException:  # another process made it between the two calls
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)


def identity(uri: str = "") -> str:
    """What tells one registry from another: its address and, for a database here, its file's birth.

    A registration made in one registry says nothing of another, or of the same one begun anew. A server of
    which the environment tells the database (:data:`~storage.home.SERVED`) is one registry with it.
    """
    uri = uri or tracking_uri()
    served, _, behind = os.environ.get(SERVED, "").partition(" ")
    if behind and uri == served:
        uri = behind
    if not uri.startswith(SQLITE):
        return without_password(uri)
    database = Path(uri.removeprefix(SQLITE))
    mark = database.with_suffix(".id")
    with exclusive(mark.with_name(f"{mark.name}.lock")):  # runs that begin at once must not each make one
        if not database.exists() or not mark.exists() or not mark.read_text():
            write_synced(mark, uuid.uuid4().hex.encode())
        return mark.read_text()


def version_of(client: MlflowClient, name: str, alias: str) -> Any | None:
    """The model version that an alias points to, or None where there is no such model or alias."""
    from mlflow.exceptions import MlflowException

    with answering(client.tracking_uri):
        try:
            return client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            if error.error_code in MISSING:
                return None
            raise


def resolve(client: MlflowClient, model: str) -> Any:
    """The version behind ``models:/NAME@alias``, ``models:/NAME/3`` or ``models:/NAME`` (its champion).

    Raises RegistryError, saying what there is instead; MlflowUnreachableError where MLflow does not answer.
    """
    with answering(client.tracking_uri):
        return _resolved(client, model)


def _resolved(client: MlflowClient, model: str) -> Any:
    from mlflow.exceptions import MlflowException

    name, separator, which = _split(model)
    reason: MlflowException | None = None
    try:
        if separator == "@":
            return client.get_model_version_by_alias(name, which)
        if _is_number(which):
            return client.get_model_version(name, which)
    except MlflowException as error:
        if error.error_code not in MISSING:
            raise
        reason = error
    missing = f"models:/{name}{separator}{which}"
    raise RegistryError(f"{missing} is not in the registry {contents(client, name)}") from reason


def _is_number(which: str) -> bool:
    return which.isascii() and which.isdecimal() and len(which) <= len(str(LARGEST)) and int(which) <= LARGEST


def contents(client: MlflowClient, name: str) -> str:
    """The registry, with what it has of a model, else its models."""
    known = [f"models:/{m.name}" for m in client.search_registered_models()]
    versions = client.search_model_versions(f"name = '{name}'") if f"models:/{name}" in known else []
    there = [f"models:/{name}/{v.version}" for v in versions] or known or ["no model yet"]
    more = f" and {len(there) - NAMED:,} more" if len(there) > NAMED else ""
    return f"{without_password(client.tracking_uri)}; it has: {', '.join(there[:NAMED])}{more}"


def _split(model: str) -> tuple[str, str, str]:
    rest = model.removeprefix("models:/")
    if "@" in rest:
        return rest.rpartition("@")
    return rest.rpartition("/") if "/" in rest else (rest, "@", CHAMPION)


def version_artifact(model: str) -> tuple[str, str]:
    """Kind and key of the artifact that a registered version's weights are in.

    Raises RegistryError where there is no such version, or it was not registered from here.
    """
    version = resolve(connect(), model)
    kind, _, key = version.tags.get(f"{TAG}model_artifact", "").partition("/")
    if not key:
        raise RegistryError(
            f"{model} does not say which artifact it was made from: it was not registered here"
        )
    return kind, key
