"""The whole story: web text in, a registered and evaluated language model out.

sources ─fetch─▶ ─ingest─▶ documents ─clean─▶ ─deduplicate─▶ corpus ─tokenize─▶ token shards
        ─pretrain─▶ model ─evaluate─▶ report ─register─▶ models:/NAME@champion
"""

from __future__ import annotations

from dataclasses import dataclass

from prefect import flow

from flows import plain_failures
from flows.announcements import announce_registration
from flows.config import HasSources, Learning, PipelineConfig
from flows.corpora import earlier_corpora
from flows.frozen import frozen
from flows.parts import bring, call_workers, enough, labels, some_read
from flows.reporting import publish
from flows.runners import placed, run_name
from flows.runs import Outcome, remember
from flows.starting import starting, warn_of_mlflow
from flows.takedowns import held_out_without_taken_down, rules_for, without_taken_down
from storage import registry
from storage.artifacts import Artifact
from storage.tracking import naming_runs_after
from tasks.clean import clean
from tasks.deduplicate import deduplicate
from tasks.evaluation import evaluate
from tasks.hold_out import exclude, hold_out
from tasks.ingest import ingest
from tasks.journal import Journal, keeping
from tasks.pretraining import pretrain
from tasks.registration import register
from tasks.tokenization import tokenize, train_tokenizer

plain_failures.install()  # here, because Prefect logs wrong parameters before a flow's first line


@dataclass(frozen=True)
class Tokens:
    """What a model is trained on, and what it will be measured on."""

    shards: Artifact
    tokenizer: Artifact
    heldout: Artifact


def mill(config: PipelineConfig) -> Outcome:
    """Every stage, in order; each call gives an artifact, from the store or made now."""
    begun = starting(config.scope, config)
    corpus = gather(config)
    tokens = prepare(corpus, config.scope, config)
    with naming_runs_after(config.name):
        model = pretrain(tokens.shards, tokens.tokenizer, config.train, begun)
    report = evaluate(model, tokens.shards, tokens.heldout, config.evaluate)
    version = register(config.name, model, report, tokens.shards, config.registry, registry.identity())
    return Outcome(corpus=corpus, shards=tokens.shards, model=model, report=report, version=version)


def gather(config: HasSources) -> Artifact:
    """Sources in, a corpus out: part by part until duplicates are sought in all of them together.

    Where runs' corpora add up (see :mod:`flows.corpora`), also in those of the lineage's earlier runs.
    """
    names, sources = bring(config)
    call_workers(config, sources)
    documents = some_read(enough(config, ingest.map(sources, config.ingest, config.extract, labels=names)))
    documents = without_taken_down(config, documents, labels(documents, names))
    cleaned = enough(config, clean.map(documents, config.clean, labels=labels(documents, names)))
    return deduplicate(cleaned, config.deduplicate, earlier_corpora(config, cleaned))


def prepare(corpus: Artifact, scope: str, config: Learning) -> Tokens:
    """A corpus in, token shards out; tokenizer and held-out set stay as ``scope`` first had them.

    A corpus of its own (see :mod:`flows.steps`) may have what was taken down since it was made; that is
    neither trained nor evaluated on.
    """
    heldout = frozen(hold_out, scope, config.hold_out, lambda: hold_out(corpus, config.hold_out))
    heldout = held_out_without_taken_down(heldout)
    excluded = exclude(corpus, heldout, config.hold_out, rules_for(corpus))
    vocabulary = config.tokenize.tokenizer
    tokenizer = frozen(
        train_tokenizer, scope, vocabulary, lambda: train_tokenizer(corpus, excluded, vocabulary)
    )
    shards = tokenize(corpus, heldout, excluded, tokenizer, config.tokenize)
    return Tokens(shards, tokenizer, heldout)


@flow(name="pipeline", flow_run_name=run_name, log_prints=False)
def pipeline(config: PipelineConfig) -> dict[str, str]:
    """Web text in, a registered and evaluated language model out.

    Every stage is cached by its inputs, its configuration and its code: what has not changed is not done
    again, and a run that was killed goes on where it was.
    """
    with keeping(Journal()) as journal, remember(config.name, config.scope, config, journal):
        warn_of_mlflow()
        with placed(config.run):
            outcome = mill(config)
        announce_registration(journal)
        publish(config.name, journal, outcome)
    return outcome.summary()
