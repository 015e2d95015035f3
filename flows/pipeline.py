"""The whole story: web text in, a registered and evaluated language model out.

sources ─fetch─▶ ─ingest─▶ documents ─clean─▶ ─deduplicate─▶ corpus ─tokenize─▶ token shards
        ─pretrain─▶ model ─evaluate─▶ report ─register─▶ models:/NAME@champion
"""

from __future__ import annotations

from prefect import flow

from flows.config import PipelineConfig
from flows.frozen import frozen
from flows.parts import bring, enough, labels
from flows.reporting import publish
from flows.runners import run_name, task_runner
from flows.runs import Outcome, remember
from storage import registry
from tasks.clean import clean
from tasks.deduplicate import deduplicate
from tasks.evaluation import evaluate
from tasks.hold_out import exclude, hold_out
from tasks.ingest import ingest
from tasks.journal import Journal, keeping
from tasks.pretraining import pretrain
from tasks.registration import register
from tasks.tokenization import tokenize, train_tokenizer


def mill(config: PipelineConfig) -> Outcome:
    """Every stage, in order; each call gives an artifact, from the store or made now."""
    names, sources = bring(config)
    documents = enough(config, ingest.map(sources, config.ingest, config.extract, labels=names))
    cleaned = enough(config, clean.map(documents, config.clean, labels=labels(documents, names)))
    corpus = deduplicate(cleaned, config.deduplicate)

    heldout = frozen(hold_out, config.scope, config.hold_out, lambda: hold_out(corpus, config.hold_out))
    excluded = exclude(corpus, heldout, config.hold_out)
    vocabulary = config.tokenize.tokenizer
    tokenizer = frozen(
        train_tokenizer, config.scope, vocabulary, lambda: train_tokenizer(corpus, excluded, vocabulary)
    )
    shards = tokenize(corpus, heldout, excluded, tokenizer, config.tokenize)

    model = pretrain(shards, tokenizer, config.train)
    report = evaluate(model, shards, heldout, config.evaluate)
    version = register(config.name, model, report, shards, config.registry, registry.identity())
    return Outcome(corpus=corpus, shards=shards, model=model, report=report, version=version)


@flow(name="pipeline", flow_run_name=run_name, log_prints=False)
def pipeline(config: PipelineConfig) -> dict[str, str]:
    """Web text in, a registered and evaluated language model out.

    Every stage is cached by its inputs, its configuration and its code: what has not changed is not done
    again, and a run that was killed goes on where it was.
    """
    with keeping(Journal()) as journal, remember(config, journal):
        outcome = mill(config)
        publish(config, journal, outcome)
    return outcome.summary()


def run_pipeline(config: PipelineConfig) -> dict[str, str]:
    """Run the flow here and now, on the task runner that the configuration names."""
    placed = pipeline.with_options(task_runner=task_runner(config.run))
    return placed(config)
