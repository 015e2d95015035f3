"""What is written into MLflow about one model: its run, its datasets, its files, its version.

A training that told its curve to MLflow already has a run, which is gone on with; else one is made and the
curve is sent from the artifact. Everything goes in batches: one by one MLflow takes 100 values a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow.parquet as pq

from storage.home import without_password
from storage.mlflow_outage import answering
from storage.registry import MISSING, TAG, RegistryError, chosen, experiment_id

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")
MODEL_NAME = "model"
HF_FOLDER = "hf"
REQUIRED = ("mlflow", "torch", "transformers", "tokenizers", "safetensors")
"""All that a consumer installs: the first runs the others' pyfunc, the last four read the folder."""
REGISTRATION = TAG + "registration"
BEGUN = TAG + "registration_begun"
"""On a run that a registration has made: one that was cut off goes on with it."""
BATCH = 1000
PARAM_BATCH, PARAM_LENGTH = 100, 6000
DIGEST_LENGTH = 36
"""MLflow's limits: parameters in a request, characters of a value and of a dataset's digest."""


@dataclass(frozen=True)
class DatasetFact:
    """A set of text that a model was trained or measured on, as MLflow shows it."""

    name: str
    digest: str
    source: str
    context: str
    """``training``, ``evaluation`` or ``source``."""


@dataclass(frozen=True)
class Facts:
    """All that a registration says in figures and words."""

    params: Mapping[str, Any]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    datasets: Sequence[DatasetFact]
    files: Mapping[str, Path] = field(default_factory=dict)
    """Local file by its path among the run's artifacts."""
    tables: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    """Columns by the table's path among the run's artifacts (``….json``)."""


def open_run(
    client: MlflowClient,
    *,
    name: str,
    experiment: str,
    registration: str,
    training: Mapping[str, Any],
    curve: Path | None,
) -> str:
    """The id of the run that a model is registered under, with its curve in it.

    ``training`` is what the training noted of its own run (run_id, tracking_uri, unsent points); it is used
    where that run is in this registry and no other version was registered under it. What is said twice, by a
    registration that was cut off and goes on, is there once: it bears the same times.
    """
    run_id = _training_run(client, training)
    if run_id:
        _send(client, run_id, [tuple(point) for point in training.get("unsent", [])])
        return run_id
    place = experiment_id(client, experiment)
    begun = client.search_runs([place], f"tags.`{BEGUN}` = '{registration}'", max_results=1)
    run = begun[0] if begun else client.create_run(place, run_name=name, tags={BEGUN: registration})
    if curve is not None and curve.is_file():
        _send(client, run.info.run_id, _points(curve, run.info.start_time))
    return str(run.info.run_id)


def _training_run(client: MlflowClient, training: Mapping[str, Any]) -> str:
    from mlflow.exceptions import MlflowException

    if not training.get("run_id") or training.get("tracking_uri") != without_password(client.tracking_uri):
        return ""
    try:
        run = client.get_run(training["run_id"])
    except MlflowException as error:
        if error.error_code not in MISSING:
            raise
        return ""  # the database was begun anew, or the run deleted for good
    taken = REGISTRATION in run.data.tags or run.info.lifecycle_stage != "active"
    return "" if taken else str(run.info.run_id)


def _points(curve: Path, at: int) -> list[tuple[str, float, int, int]]:
    """The curve's values as (name, value, step, milliseconds), every step of them."""
    rows = pq.read_table(curve).to_pylist()
    return [
        (name, float(value), int(row["step"]), at)
        for row in rows
        for name, value in row.items()
        if name not in ("step", "tokens") and value is not None
    ]


def _send(client: MlflowClient, run_id: str, points: Sequence[tuple[str, float, int, int]]) -> None:
    from mlflow.entities import Metric

    metrics = [Metric(name, value, stamp, step) for name, value, step, stamp in points]
    for batch in _batches(metrics, BATCH):
        client.log_batch(run_id, metrics=batch)


def _batches(items: list[T], size: int) -> Iterator[list[T]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def log_facts(client: MlflowClient, run_id: str, facts: Facts) -> None:
    """Write params, tags, metrics, datasets, files and tables to a run.

    A parameter that the run has already keeps its value: MLflow allows no other. A table that is there
    already stays as it is: MLflow would append to it.
    """
    from mlflow.entities import Metric, Param, RunTag

    run = client.get_run(run_id)
    params = [Param(k, str(v)[:PARAM_LENGTH]) for k, v in facts.params.items() if k not in run.data.params]
    for batch in _batches(params, PARAM_BATCH):
        client.log_batch(run_id, params=batch)
    client.log_batch(
        run_id,
        metrics=[Metric(name, float(value), run.info.start_time, 0) for name, value in facts.metrics.items()],
        tags=[RunTag(name, str(value)[:5000]) for name, value in facts.tags.items()],
    )
    for inputs in _batches(_inputs(facts.datasets), BATCH):  # a second each: 100,000 would outlast a request
        client.log_inputs(run_id, datasets=inputs)
    for place, file in facts.files.items():
        folder, _, _name = place.rpartition("/")
        client.log_artifact(run_id, str(file), folder or None)
    for place, columns in facts.tables.items():
        if _has_file(client, run_id, place):
            continue
        client.log_table(run_id, {name: list(values) for name, values in columns.items()}, place)


def _inputs(facts: Iterable[DatasetFact]) -> list[Any]:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    found: dict[tuple[str, str], Any] = {}
    for fact in facts:
        dataset = Dataset(
            name=fact.name[:500],
            digest=fact.digest[:DIGEST_LENGTH],
            source_type="modelmill",
            source=fact.source,
        )
        found[(dataset.name, dataset.digest)] = DatasetInput(
            dataset, [InputTag("mlflow.data.context", fact.context)]
        )
    return list(found.values())


def requirements() -> list[str]:
    """What a consumer of the model needs, exactly as it is here; a build's local mark (+cpu) left out."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in REQUIRED]


def signature() -> Any:
    """The model's inputs, outputs and parameters with their defaults."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    params = [
        ParamSpec("task", DataType.string, "generate"),
        ParamSpec("max_new_tokens", DataType.long, 64),
        ParamSpec("temperature", DataType.double, 0.8),
        ParamSpec("top_k", DataType.long, 50),
        ParamSpec("top_p", DataType.double, 1.0),
        ParamSpec("seed", DataType.long, 0),
        ParamSpec("stop", DataType.string, [], shape=(-1,)),
    ]
    column = Schema([ColSpec(DataType.string)])
    return ModelSignature(inputs=column, outputs=column, params=ParamSchema(params))


def log_version(
    client: MlflowClient,
    run_id: str,
    *,
    name: str,
    folder: Path,
    code: Path,
    prompt: str,
    tags: Mapping[str, str],
    description: str,
) -> str:
    """Log a Hugging Face folder with its serving code under a run, and register it; returns the version.

    The logged model holds the folder as it is, so that who pulls the version has both.
    """
    import mlflow

    with chosen(client):  # also for the version: its store looks the logged model up by that choice
        with mlflow.start_run(run_id=run_id):
            logged = mlflow.pyfunc.log_model(
                name=MODEL_NAME,
                python_model=str(code),
                artifacts={HF_FOLDER: str(folder)},
                pip_requirements=requirements(),
                signature=signature(),
                model_config={"serving_precision": "float32", "serving_device": ""},
                input_example=([prompt], {"max_new_tokens": 16, "seed": 1}),
            )
        _ensure_model(client, name)
        made = client.create_model_version(
            name,
            logged.model_uri,
            run_id,
            tags=dict(tags),
            description=description[:5000],
            model_id=logged.model_id,
        )
    return str(made.version)


def _ensure_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def registered_version(client: MlflowClient, name: str, registration: str) -> Any | None:
    """The version that an earlier attempt of the same registration made before it was cut off, or None."""
    found = client.search_model_versions(f"name = '{name}'")
    return next((v for v in found if v.tags.get(REGISTRATION) == registration), None)


def version_folder(client: MlflowClient, model_version: Any) -> Path:
    """The plain Hugging Face folder of a registered version, on this machine.

    Raises RegistryError where the version holds none, or its files are gone from where MLflow has them;
    MlflowUnreachableError where MLflow does not answer.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    uri = f"models:/{model_version.name}/{model_version.version}"
    try:
        with answering(client.tracking_uri), chosen(client):
            folder = Path(mlflow.artifacts.download_artifacts(uri))
    except MlflowException as error:
        place = client.get_model_version_download_uri(model_version.name, str(model_version.version))
        raise RegistryError(f"the files of {uri} are not where MLflow has them, {place}: {error}") from error
    found = folder / "artifacts" / HF_FOLDER
    if not (found / "config.json").is_file():
        raise RegistryError(
            f"{uri} holds no Hugging Face folder at artifacts/{HF_FOLDER}: it is not from here"
        )
    return found


def run_file(client: MlflowClient, run_id: str, place: str) -> Path | None:
    """A file among a run's artifacts, on this machine, or None where it is not there."""
    if not _has_file(client, run_id, place):
        return None
    return Path(client.download_artifacts(run_id, place))


def _has_file(client: MlflowClient, run_id: str, place: str) -> bool:
    folder, _, _name = place.rpartition("/")
    return any(entry.path == place for entry in client.list_artifacts(run_id, folder))
