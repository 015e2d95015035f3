"""What MLflow's pages say of a model and of its versions, kept true whenever a champion changes.

A version's description begins with what was done to it by hand, then comes the gate's decision: lists show
the start. That of the registered model tells of the champion and how to load it, below whatever a person has
written there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from storage.registry import CHAMPION, MISSING, TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

DECISION, REASONS = TAG + "decision", TAG + "reasons"
BY_HAND = TAG + "by_hand"
"""On a version, the last thing that a person did with it: promoted, rolled back, brought back."""
LONGEST = 5000
"""Characters of a description, in MLflow's databases."""
OURS = "## Champion"
"""Where a registered model's description begins that is written here."""
FIGURE = "bits_per_byte"


def describe_version(client: MlflowClient, name: str, version: str) -> None:
    """Put before what a version's description says of the model what its tags say became of it.

    One that no gate has judged was not registered from here: it stays as it is.
    """
    found = client.get_model_version(name, version)
    if DECISION in found.tags:
        about = str(found.description or "").rpartition("\n\n")[2]
        client.update_model_version(name, version, version_text(found.tags, about))


def version_text(tags: Mapping[str, str], about: str) -> str:
    """A version's description; ``about`` is a paragraph on the model."""
    decision = f"{tags[DECISION]}: {tags.get(REASONS, '')}"
    if BY_HAND in tags:
        decision = f"{tags[BY_HAND]}\n\nThe gate's decision was {decision}"
    room = LONGEST - len(about) - 2
    return f"{decision if len(decision) <= room else decision[: room - 1] + '…'}\n\n{about}"


def describe_model(client: MlflowClient, name: str, since: str = "") -> None:
    """Tell on a registered model of its champion: figures, ``since`` when and why, and how to load it."""
    model = client.get_registered_model(name)
    version = model.aliases.get(CHAMPION)
    champion = client.get_model_version(name, str(version)) if version else None
    figures = _figures(client, champion.run_id) if champion is not None and champion.run_id else {}
    about = str(champion.description or "").rpartition("\n\n")[2] if champion is not None else ""
    own = str(model.description or "").partition(OURS)[0].strip()
    text = model_text(name, "" if version is None else str(version), since, about, figures)
    client.update_registered_model(name, "\n\n".join(filter(None, (own, text)))[:LONGEST])


def model_text(name: str, version: str, since: str, about: str, figures: Mapping[str, float]) -> str:
    """What is written of a registered model whose champion is ``version``, or nothing where it has none."""
    if not version:
        return (
            f"{OURS}\n\nNone yet: no version has passed the gate, or its promotion is left to a person. "
            f"`modelmill promote {name}` makes the latest candidate champion."
        )
    parts = [f"{OURS}\n\nVersion {version}{f', {since}' if since else ''}.", about, _table(figures)]
    use = f"""```python
import mlflow

model = mlflow.pyfunc.load_model("models:/{name}@{CHAMPION}")
model.predict(["Once upon a time"], params={{"max_new_tokens": 40}})
```"""
    return "\n\n".join(part for part in (*parts, use) if part)


def _table(figures: Mapping[str, float]) -> str:
    """Bits per byte over all and by language, and the baselines'."""
    if FIGURE not in figures:
        return ""
    rows = {"all held-out text": figures[FIGURE]}
    rows |= {n.removeprefix(f"{FIGURE}."): v for n, v in figures.items() if n.startswith(f"{FIGURE}.")}
    for name, value in figures.items():
        baseline, separator, rest = name.partition(f"_{FIGURE}")
        if separator and not rest:
            rows[f"all, by the {baseline} baseline"] = value
    lines = [f"| {name} | {value:.4f} |" for name, value in rows.items()]
    return "\n".join(["| bits per byte, lower is better | |", "|---|---|", *lines])


def _figures(client: MlflowClient, run_id: str) -> dict[str, Any]:
    """The metrics of a version's run; none where that run was deleted."""
    from mlflow.exceptions import MlflowException

    try:
        return dict(client.get_run(run_id).data.metrics)
    except MlflowException as error:
        if error.error_code not in MISSING:
            raise
        return {}
