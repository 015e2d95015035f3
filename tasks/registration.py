"""Stage `register`: a run and a version in MLflow, and the gate that lets it become champion."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from storage import champions, descriptions, model_log, registry
from storage.artifacts import Artifact
from storage.errors import ArtifactMissingError
from storage.home import EMBEDDED, without_password
from storage.mlflow_outage import answering
from storage.model_log import REGISTRATION, Facts
from storage.tracking import EXPERIMENT, read_state
from tasks import registration_facts as facts_of
from tasks.ancestry import ancestors
from tasks.evals.config import EvaluateConfig, RegistryConfig
from tasks.evals.gate import Verdict, judge
from tasks.evaluation import (
    PER_DOCUMENT,
    REPORT,
    SAMPLES,
    held_out_documents,
    read_per_document,
    write_per_document,
)
from tasks.stage import StageRun, stage

if TYPE_CHECKING:
    from mlflow import MlflowClient

DECISION = "decision.json"
CARD = "README.md"
ATTEMPTS = 5
"""Times that the gate is asked again because another run's model became champion meanwhile."""


@stage("register", summary="Register the model, and make it champion where the gate holds")
def register(
    run: StageRun,
    name: str,
    model: Artifact,
    report: Artifact,
    shards: Artifact,
    config: RegistryConfig,
    registry_id: str = "",
) -> dict[str, Any]:
    """Write ``decision.json`` and the model card; what counts is in MLflow.

    ``registry_id`` (see :func:`storage.registry.identity`) tells one registry from another: a registration
    in one says nothing of the next. An attempt that was cut off goes on with the version it had made. Raises
    MlflowUnreachableError, which is tried again, where MLflow does not answer.
    """
    client = registry.connect()
    with answering(client.tracking_uri):
        return _register(Case(run, client, name, model, report, shards, config))


def _register(case: Case) -> dict[str, Any]:
    version = case.registered()
    verdict, aliases, champion = case.decide(version)
    decision = {
        "name": case.name,
        "version": version,
        "aliases": aliases,
        "decision": verdict.decision,
        "reasons": verdict.reasons,
        "compared_with": champion,
    }
    case.record(version, verdict, champion)
    text = json.dumps({**decision, **verdict.as_json()}, ensure_ascii=False, indent=1)
    (case.run.path / DECISION).write_text(text + "\n", encoding="utf-8")
    for line in verdict.reasons:
        case.run.log.info("models:/%s/%s %s: %s", case.name, version, verdict.decision, line)
    return {
        "in": {"bits per byte": case.report_artifact.stats["bits_per_byte"]["model"]},
        "out": {"versions": 1},
        **decision,
        "run_id": case.run_id(version),
        "tracking_uri": without_password(case.client.tracking_uri),
    }


class Case:
    """One registration: the artifacts it rests on, and what is said of them."""

    def __init__(
        self,
        run: StageRun,
        client: MlflowClient,
        name: str,
        model: Artifact,
        report: Artifact,
        shards: Artifact,
        config: RegistryConfig,
    ) -> None:
        self.run, self.client, self.name, self.config = run, client, name, config
        self.model, self.report_artifact, self.shards = model, report, shards
        self.model_folder, self.report_folder = run.open(model), run.open(report)
        self.report: dict[str, Any] = json.loads((self.report_folder / REPORT).read_text(encoding="utf-8"))
        self.evaluation = EvaluateConfig.model_validate(report.recipe.inputs["config"])
        self.identity = str(self.report["evaluation"]["digest"])
        self.registration = run.path.name.removesuffix(".partial")

    @property
    def documents_place(self) -> str:
        """Where the bits by document are kept among an MLflow run's artifacts: one file an evaluation."""
        return f"evaluations/{self.identity[:16]}/{PER_DOCUMENT}"

    def run_id(self, version: str) -> str:
        """The MLflow run of a version."""
        return str(self.client.get_model_version(self.name, version).run_id)

    def registered(self) -> str:
        """The version, made now or by an attempt that was cut off."""
        found = model_log.registered_version(self.client, self.name, self.registration)
        if found is not None:
            return str(found.version)
        roots = [self.report_artifact, self.model, self.shards]
        artifacts = facts_of.by_stage(ancestors(self.run.store, roots, past_frozen=False))
        facts = self._facts(artifacts)
        card = facts_of.card_facts(self.name, artifacts, self.model, self.model_folder, self.report)
        from tasks.serving.model_card import write_card

        given = self.config
        text = write_card(
            replace(card, licence=given.licence, data_licence=given.data_licence, notes=given.notes)
        )
        (self.run.path / CARD).write_text(text, encoding="utf-8")
        run_id = model_log.open_run(
            self.client,
            name=f"{self.name}-{self.model.digest[:8]}",
            experiment=EXPERIMENT,
            registration=self.registration,
            training=read_state(self.model_folder),
            curve=self.model_folder / "curve.parquet",
        )
        model_log.log_facts(self.client, run_id, facts)
        return self._version(run_id, text, facts.tags)

    def _facts(self, artifacts: list[Artifact]) -> Facts:
        heldout = facts_of.firsts(artifacts).get("hold_out")  # that of the report, which is nearest
        if heldout is None:
            raise ArtifactMissingError(
                f"the held-out documents behind evaluate/{self.report_artifact.key} are gone from the store: "
                f"run the pipeline again"
            )
        plots = self._plots()
        return Facts(
            params={"name": self.name, **facts_of.parameters(artifacts)},
            tags=facts_of.tags(artifacts, self.model, self.report_artifact, self.shards, _flow_run()),
            metrics=facts_of.figures(self.report),
            datasets=facts_of.datasets(artifacts, self.shards, heldout),
            files={
                f"evaluation/{REPORT}": self.report_folder / REPORT,
                f"evaluation/{SAMPLES}": self.report_folder / SAMPLES,
                self.documents_place: self.report_folder / PER_DOCUMENT,
                **{f"plots/{path.name}": path for path in plots},
            },
            tables=_tables(
                self.report, json.loads((self.report_folder / SAMPLES).read_text(encoding="utf-8"))
            ),
        )

    def _plots(self) -> list[Path]:
        from tasks.evals.plots import plot_curve, plot_slices

        folder = self.run.path / "plots"
        plot_slices(self.report, folder / "bits_per_byte.png")
        curve = self.model_folder / "curve.parquet"
        if curve.is_file():
            plot_curve(pq.read_table(curve).to_pylist(), folder / "curve.png")
        return sorted(folder.glob("*.png"))

    def _version(self, run_id: str, card: str, tags: Mapping[str, str]) -> str:
        from tasks.serving import pyfunc_model

        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "hf"
            shutil.copytree(self.model_folder / "hf", folder)
            (folder / CARD).write_text(card, encoding="utf-8")
            return model_log.log_version(
                self.client,
                run_id,
                name=self.name,
                folder=folder,
                code=Path(pyfunc_model.__file__),
                prompt=self.evaluation.samples.prompts[0],
                tags={**facts_of.without_manifests(tags), REGISTRATION: self.registration},
                description=card.partition("\n# ")[2].partition("\n\n")[2].partition("\n\n")[0],
            )

    def decide(self, version: str) -> tuple[Verdict, list[str], str]:
        """Ask the gate, and change the aliases as it says; again where the champion changes meanwhile.

        Returns the verdict, the version's aliases, and the champion that it was compared with (or nothing).
        """
        for _ in range(ATTEMPTS):
            champion = registry.version_of(self.client, self.name, registry.CHAMPION)
            rival = self._replaced(champion) if champion and str(champion.version) == version else champion
            verdict = self._judge(rival)
            try:
                aliases = self._apply(version, verdict, "" if champion is None else str(champion.version))
            except champions.ChampionChangedError as error:
                self.run.log.info("%s", error)
                continue
            return verdict, aliases, str(rival.version) if verdict.comparison and rival else ""
        raise champions.ChampionChangedError(
            f"models:/{self.name}: the champion changed {ATTEMPTS} times while version {version} was being "
            f"compared; run again"
        )

    def _replaced(self, champion: Any) -> Any | None:
        """The champion before this one, which an attempt that was cut off has replaced already."""
        former = champion.tags.get(champions.REPLACED, "")
        found = self.client.search_model_versions(f"name = '{self.name}'") if former else []
        return next((version for version in found if str(version.version) == former), None)

    def _judge(self, champion: Any | None) -> Verdict:
        challenger = read_per_document(self.report_folder / PER_DOCUMENT)
        present = None if champion is None else self._champion_documents(champion)
        verdict = judge(self.report, challenger, present, self.config.gate, self.evaluation.bootstrap)
        if verdict.decision == "promoted" and not self.config.promote:
            return replace(verdict, reasons=[*verdict.reasons, "a person has to promote it, as configured"])
        return verdict

    def _apply(self, version: str, verdict: Verdict, champion: str) -> list[str]:
        """Set the aliases; returns those that the version has then."""
        if verdict.decision == "refused":
            return []
        self.client.set_registered_model_alias(self.name, registry.CANDIDATE, version)
        if verdict.decision == "promoted" and self.config.promote and champion != version:
            reason = verdict.reasons[0]
            champions.promote(self.client, self.name, version, expected=champion, reason=reason)
        present = registry.version_of(self.client, self.name, registry.CHAMPION)
        held = present is not None and str(present.version) == version
        return [registry.CANDIDATE, *([registry.CHAMPION] if held else [])]

    def _champion_documents(self, champion: Any) -> dict[str, list[Any]]:
        """The champion's bits by document on this evaluation, measured now where they never were."""
        kept = model_log.run_file(self.client, champion.run_id, self.documents_place)
        if kept is not None:
            return read_per_document(kept)
        from tasks.evals.bits_per_byte import per_document
        from tasks.evals.suite import open_subject, score_documents

        self.run.log.info("measuring the champion, version %s, on this held-out set", champion.version)
        heldout = next(p for p in self.report_artifact.parents if p.kind == "hold_out")
        found = self.run.store.find(heldout.kind, heldout.key)
        if found is None:
            raise ArtifactMissingError(f"{heldout.kind}/{heldout.key} is gone from the store: evaluate again")
        documents = held_out_documents(self.run.open(found), self.evaluation.held_out)
        subject = open_subject(model_log.version_folder(self.client, champion), self.evaluation.hardware)
        encoded, bits = score_documents(subject, documents, self.evaluation)
        columns = per_document(encoded, {"model": bits}, ["model"])
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / PER_DOCUMENT
            write_per_document(path, columns)
            self.client.log_artifact(champion.run_id, str(path), self.documents_place.rpartition("/")[0])
        return columns

    def record(self, version: str, verdict: Verdict, champion: str) -> None:
        """Write the decision where people look for it: on the version and its run."""
        run_id = self.run_id(version)
        reasons = "; ".join(verdict.reasons)[:4900]
        for key, value in ((descriptions.DECISION, verdict.decision), (descriptions.REASONS, reasons)):
            self.client.set_model_version_tag(self.name, version, key, value)
            self.client.set_tag(run_id, key, value)
        descriptions.describe_version(self.client, self.name, version)
        champions.describe(self.client, self.name)
        self.client.set_tag(run_id, REGISTRATION, self.registration)
        self.client.log_dict(run_id, verdict.as_json(), f"evaluation/{DECISION}")
        if verdict.comparison:
            from tasks.evals.plots import plot_comparison

            picture = self.run.path / "plots" / "against_the_champion.png"
            plot_comparison(verdict.comparison, champion, picture)
            self.client.log_artifact(run_id, str(picture), "plots")
        self.client.set_terminated(run_id)


def _tables(report: Mapping[str, Any], samples: list[dict[str, Any]]) -> dict[str, dict[str, list[Any]]]:
    """The evaluation as tables that MLflow's page shows side by side for several runs."""
    rows = [
        {"model": name, **row} for name, part in report["bits_per_byte"].items() for row in part["slices"]
    ]
    shown = ("prompt", "text", "seed", "temperature", "ended")
    return {
        "evaluation/slices.json": {key: [row[key] for row in rows] for key in (rows[0] if rows else {})},
        "evaluation/samples_table.json": {key: [sample[key] for sample in samples] for key in shown},
    }


def _flow_run() -> dict[str, str]:
    """Id and, where the server outlives the run, address of the Prefect flow run around this stage."""
    from prefect.runtime import flow_run

    if not flow_run.id:
        return {}
    return {"id": str(flow_run.id), "url": "" if os.environ.get(EMBEDDED) else _page(str(flow_run.id))}


def _page(flow_run_id: str) -> str:
    """Address of a flow run in Prefect's present pages.

    Where no setting says where pages are, Prefect takes the API's host, where a server of one's own has its
    former pages; the present ones are below ``/v2`` there.
    """
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    pages = str(settings.ui_url or "").rstrip("/")
    guessed = str(settings.api.url or "").rstrip("/").removesuffix("/api")
    return f"{pages}{'/v2' if pages == guessed else ''}/runs/flow-run/{flow_run_id}" if pages else ""
