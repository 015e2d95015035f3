"""Stretches of the pipeline as flows of their own: ingest and clean, train, evaluate.

Each does what the pipeline does on that stretch, with the same stages and so from the same cache: a corpus
that a schedule has renewed by night is what training by hand finds by day.
"""

from __future__ import annotations

from prefect import flow

from flows.announcements import announce_registration
from flows.config import CorpusConfig, EvaluationConfig, TrainingConfig
from flows.pipeline import gather, prepare
from flows.references import named_or_latest, parent, scope_of
from flows.reporting import show_evaluation, show_funnel, show_summary
from flows.runners import placed, run_name
from flows.runs import remember
from flows.starting import starting, warn_of_mlflow
from flows.takedowns import held_out_without_taken_down
from storage import registry
from storage.tracking import naming_runs_after
from tasks.evaluation import evaluate
from tasks.journal import Journal, keeping
from tasks.pretraining import pretrain
from tasks.registration import register


@flow(name="ingest-and-clean", flow_run_name=run_name)
def ingest_and_clean(config: CorpusConfig) -> dict[str, str]:
    """Sources in, a corpus out: fetched, extracted, cleaned, and without duplicates."""
    with keeping(Journal()) as journal, remember(config.name, config.scope, config, journal):
        with placed(config.run):
            corpus = gather(config)
        show_funnel(config.name, journal)
    return {"corpus": f"{corpus.kind}/{corpus.key}", "documents": str(corpus.stats["documents"])}


@flow(name="train", flow_run_name=run_name)
def train(config: TrainingConfig) -> dict[str, str]:
    """A corpus in, a model out; nothing is registered before it was evaluated.

    What was taken down since the corpus was made is not trained on. Raises ArtifactMissingError where there
    is no such corpus.
    """
    corpus = named_or_latest(config.corpus, "deduplicate", config.name)
    scope = scope_of(corpus, config.name)
    with keeping(Journal()) as journal, remember(config.name, scope, config, journal), placed(config.run):
        begun = starting(scope, config)
        warn_of_mlflow()
        tokens = prepare(corpus, scope, config)
        with naming_runs_after(config.name):
            model = pretrain(tokens.shards, tokens.tokenizer, config.train, begun)
    return {"model": f"{model.kind}/{model.key}", "model_digest": model.digest}


@flow(name="evaluate", flow_run_name=run_name)
def evaluate_model(config: EvaluationConfig) -> dict[str, str]:
    """A model in, its report out; registered under its name unless the configuration says otherwise.

    The held-out documents are those that were kept from the model's own training, but for what was taken
    down since. Raises ArtifactMissingError where there is no such model, or its shards are gone.
    """
    model = named_or_latest(config.model, "pretrain", config.name)
    shards = parent(model, "tokenize")
    heldout, scope = parent(shards, "hold_out"), scope_of(model, config.name)
    with keeping(Journal()) as journal, remember(config.name, scope, config, journal), placed(config.run):
        if config.into_registry:
            warn_of_mlflow()
        heldout = held_out_without_taken_down(heldout)
        report = evaluate(model, shards, heldout, config.evaluate)
        if not config.into_registry:
            show_evaluation(config.name, report)
            return {"report": f"{report.kind}/{report.key}"}
        version = register(config.name, model, report, shards, config.registry, registry.identity())
        announce_registration(journal)
        show_evaluation(config.name, report, version)
        show_summary(config.name, journal, version, report)
    return {
        "report": f"{report.kind}/{report.key}",
        "model": f"models:/{config.name}/{version.stats['version']}",
    }
