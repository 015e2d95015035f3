"""From artifacts to what a registration says of them: parameters, tags, figures, datasets, the card."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from storage.artifacts import Artifact
from storage.model_log import DatasetFact
from storage.registry import TAG
from tasks.serving.model_card import CardFacts

ORDER = (
    "fetch", "ingest", "clean", "deduplicate", "hold_out", "exclude", "train_tokenizer", "tokenize",
    "pretrain", "evaluate",
)  # fmt: skip
MANIFEST = f"{TAG}manifest."
"""Of a tag, before the kind of the artifacts whose digests it holds."""
BASES = ("pretrain", "adopt_model")
"""What training can go on from: a model of ours, or a folder that was taken into the store."""
FUNNEL = ("ingest", "clean", "deduplicate", "tokenize")


def by_stage(artifacts: Iterable[Artifact]) -> list[Artifact]:
    """The artifacts in the order of the stages; those of one stage stay in theirs."""
    rank = {kind: place for place, kind in enumerate(ORDER)}
    return sorted(artifacts, key=lambda artifact: rank.get(artifact.kind, len(rank)))


def firsts(artifacts: Iterable[Artifact]) -> dict[str, Artifact]:
    """The first artifact of each kind."""
    found: dict[str, Artifact] = {}
    for artifact in artifacts:
        found.setdefault(artifact.kind, artifact)
    return found


def parameters(artifacts: Sequence[Artifact]) -> dict[str, str]:
    """Every setting of every stage as ``stage.section.field``; of mapped stages the first part's."""
    flat: dict[str, str] = {}
    for kind, first in firsts(artifacts).items():
        for name, value in first.recipe.inputs.items():
            if (
                isinstance(value, dict)
                and "artifact" not in value
                and name not in ("source", "model", "shards")
            ):
                flat |= _flatten(value, f"{kind}.")
    return flat


def _flatten(value: Mapping[str, Any], prefix: str) -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            flat |= _flatten(item, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
    return flat


def tags(
    artifacts: Sequence[Artifact],
    model: Artifact,
    report: Artifact,
    shards: Artifact,
    flow_run: Mapping[str, str],
) -> dict[str, str]:
    """What a version is traced by: artifacts and digests, code versions, the commit, the flow run."""
    found = {
        f"{TAG}model_artifact": f"{model.kind}/{model.key}",
        f"{TAG}report_artifact": f"{report.kind}/{report.key}",
        f"{TAG}shards_artifact": f"{shards.kind}/{shards.key}",
        f"{TAG}model_digest": model.digest,
        f"{TAG}evaluation_digest": str(report.stats["evaluation_digest"]),
        f"{TAG}version": model.libraries.get("modelmill", ""),
        f"{TAG}git_commit": git_commit(),
        **{f"{TAG}flow_run_{name}": value for name, value in flow_run.items()},
    }
    for kind in dict.fromkeys(artifact.kind for artifact in artifacts):
        digests = [artifact.digest[:16] for artifact in artifacts if artifact.kind == kind]
        found[MANIFEST + kind] = ",".join(digests)[:4900]
    return {name: value for name, value in found.items() if value}


def without_manifests(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags but the manifests' digests: the run has them, and a version's page a line for each tag."""
    return {name: value for name, value in tags.items() if not name.startswith(MANIFEST)}


def git_commit() -> str:
    """The commit this code was run from, marked where files differ from it; empty outside a repository."""
    place = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=place, capture_output=True, text=True, check=False, timeout=20
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        tracked = git("ls-files", "--error-unmatch", Path(__file__).name)
        commit = git("rev-parse", "HEAD") if tracked else ""
        return f"{commit}-modified" if commit and git("status", "--porcelain", "-uno") else commit
    except (OSError, subprocess.TimeoutExpired):  # no git here
        return ""


def figures(report: Mapping[str, Any]) -> dict[str, float]:
    """The report's numbers as flat metrics."""
    found: dict[str, float] = {}
    for name, row in report["bits_per_byte"].items():
        prefix = "bits_per_byte" if name == "model" else f"{name}_bits_per_byte"
        found[prefix] = row["all"]
        found |= {f"{prefix}.{language}": value for language, value in row["by_language"].items()}
    low, high = report["bits_per_byte"]["model"]["interval"]
    if low is not None:
        found |= {"bits_per_byte_low": low, "bits_per_byte_high": high}
    for sample in ("training", "held_out", "repeated"):
        if sample in report.get("memorization", {}):
            found[f"extractable_{sample}"] = report["memorization"][sample]["share"]
    if "accuracy" in report.get("minimal_pairs", {}):
        found["minimal_pairs"] = report["minimal_pairs"]["accuracy"]
    for name, row in report.get("multiple_choice", {}).get("by_file", {}).items():
        found[f"choice.{_name(name)}"] = row["accuracy"]
    for task, metrics in report.get("lm_eval", {}).get("tasks", {}).items():
        found |= {f"lm_eval.{task}.{metric}": value for metric, value in metrics.items()}
    return {_name(name): float(value) for name, value in found.items()}


def _name(text: str) -> str:
    """MLflow's letters for metric names."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. /") else "_" for c in text)


def sources(artifacts: Sequence[Artifact]) -> list[dict[str, str]]:
    """Name and digest of everything that was read, sorted by name."""
    found = []
    for artifact in artifacts:
        given = artifact.recipe.inputs.get("source")
        if not isinstance(given, dict) or "artifact" in given:
            continue
        name = str(given.get("uri") or given.get("name") or artifact.stats.get("source") or artifact.key)
        digest = str(given.get("fingerprint") or artifact.digest)
        found.append({"name": name, "digest": digest if artifact.kind != "fetch" else artifact.digest})
    return sorted(found, key=lambda source: source["name"])


def datasets(artifacts: Sequence[Artifact], shards: Artifact, heldout: Artifact) -> list[DatasetFact]:
    """The training tokens, the held-out documents and every source, as MLflow datasets."""
    facts = [
        DatasetFact("training tokens", shards.digest, _address(shards), "training"),
        DatasetFact("held-out documents", heldout.digest, _address(heldout), "evaluation"),
    ]
    for source in sources(artifacts):
        address = json.dumps({"uri": source["name"]}, ensure_ascii=False)
        facts.append(DatasetFact(source["name"], source["digest"], address, "source"))
    return facts


def _address(artifact: Artifact) -> str:
    return json.dumps({"artifact": f"{artifact.kind}/{artifact.key}", "uri": artifact.uri})


def funnel(artifacts: Sequence[Artifact]) -> list[tuple[str, int, int]]:
    """Stage, parts and documents that came out, for the stages that drop documents."""
    rows = []
    for kind in FUNNEL:
        parts = [artifact for artifact in artifacts if artifact.kind == kind]
        counts = [artifact.stats.get("documents") for artifact in parts]
        if parts and all(isinstance(count, int) for count in counts):
            rows.append((kind, len(parts), sum(count for count in counts if isinstance(count, int))))
    return rows


def card_facts(
    name: str, artifacts: Sequence[Artifact], model: Artifact, folder: Path, report: Mapping[str, Any]
) -> CardFacts:
    """What the card says, but for the words that a user gives."""
    config = json.loads((folder / "hf" / "config.json").read_text(encoding="utf-8"))
    return CardFacts(
        name=name,
        version_of_code=model.libraries.get("modelmill", ""),
        parameters=int(model.stats.get("parameters", 0)),
        config=config,
        sources=sources(artifacts),
        funnel=funnel(artifacts),
        training={**model.stats, "seconds": model.seconds},
        report=report,
        artifacts={kind: first.digest for kind, first in firsts(artifacts).items() if kind in ORDER[4:]},
        libraries=model.libraries,
        base=next((f"{p.kind}/{p.key}" for p in model.parents if p.kind in BASES), ""),
    )
