"""The model card, written from what the pipeline recorded; nothing in it is typed by hand but the licence.

Mitchell et al. 2019, "Model Cards for Model Reporting", in the layout that Hugging Face reads: YAML front
matter for machines, then sections for people. The same facts give the same card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NOT_GIVEN = "not given"


@dataclass(frozen=True)
class CardFacts:
    """What a card says."""

    name: str
    version_of_code: str
    parameters: int
    config: Mapping[str, Any]
    """The Hugging Face config.json."""
    sources: Sequence[Mapping[str, str]]
    """``name`` and ``digest`` of each source."""
    funnel: Sequence[tuple[str, int, int]]
    """Stage, parts, and documents that came out of it."""
    training: Mapping[str, Any]
    """The training's summary: steps, kept_step, tokens, epochs, corpus_tokens, loss, seconds."""
    report: Mapping[str, Any]
    artifacts: Mapping[str, str] = field(default_factory=dict)
    """Kind and digest of the artifacts the version rests on."""
    libraries: Mapping[str, str] = field(default_factory=dict)
    base: str = ""
    """The artifact whose weights training went on from; empty where it drew new ones."""
    licence: str = ""
    data_licence: str = ""
    notes: str = ""


def write_card(facts: CardFacts) -> str:
    """The card as Markdown with YAML front matter."""
    sections = [
        _front_matter(facts),
        f"# {facts.name}\n\nA GPT-2 language model of {facts.parameters:,} parameters, trained on web text "
        f"by modelmill {facts.version_of_code}. It continues text; it follows no instructions.",
        _loading(facts),
        _evaluation(facts.report),
        _data(facts),
        training_section(facts),
        _limits(facts),
        _provenance(facts),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(facts: CardFacts) -> str:
    languages = sorted(
        (n, b) for n, b in facts.report["bits_per_byte"]["model"]["by_language"].items() if n != "unknown"
    )
    lines = ["---", "library_name: transformers", "pipeline_tag: text-generation", "tags: [gpt2, modelmill]"]
    if languages:
        lines.append(f"language: [{', '.join(json.dumps(name) for name, _bits in languages)}]")
    if facts.licence:
        lines.append(f"license: {json.dumps(facts.licence)}")
    return "\n".join([*lines, "---"])


def _loading(facts: CardFacts) -> str:
    context = facts.config["n_positions"]
    return f"""## Use

```python
import mlflow

model = mlflow.pyfunc.load_model("models:/{facts.name}@champion")
model.predict(["Once"], params={{"max_new_tokens": 40, "temperature": 0.8, "seed": 1, "stop": ["\\n"]}})
model.predict(["Once upon a time"], params={{"task": "score"}})  # log-probability, perplexity
```

The same folder in transformers:

```python
import mlflow
from transformers import AutoTokenizer, GPT2LMHeadModel

folder = mlflow.artifacts.download_artifacts("models:/{facts.name}@champion") + "/artifacts/hf"
model, tokenizer = GPT2LMHeadModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
```

The context is {context:,} tokens. An empty prompt starts a new document. Of a prompt that leaves no room, the
last part counts; where a text outgrows the context, its last half goes on. `<|endoftext|>` in a prompt is
ordinary text."""


def _evaluation(report: Mapping[str, Any]) -> str:
    bits = report["bits_per_byte"]
    model = bits["model"]
    confidence = f"{model['confidence']:.0%}"
    rows = [
        f"| {row['slice']} | {_cell(row['name'])} | {row['bits_per_byte']:.4f} | "
        f"{_interval(row['low'], row['high'])} | {row['documents']:,} | {row['bytes']:,} |"
        for row in model["slices"]
    ]
    baselines = [f"| {name} | {row['all']:.4f} |" for name, row in bits.items()]
    parts = [
        f"## Evaluation\n\nBits per byte on {model['documents']:,} held-out documents "
        f"({model['bytes']:,} bytes of UTF-8), lower is better: **{model['all']:.4f}** "
        f"({confidence} interval {_interval(*model['interval'])}, bootstrap over "
        f"documents). The n-gram models are interpolated Kneser-Ney on the same training tokens.",
        "| | bits per byte |\n|---|---|\n" + "\n".join(baselines),
        f"| slice | | bits per byte | {confidence} interval | documents | bytes |\n"
        + "\n".join(["|---|---|---|---|---|---|", *rows]),
        _questions(report),
        _leaks(report),
    ]
    return "\n\n".join(part for part in parts if part)


def _interval(low: float | None, high: float | None) -> str:
    return "unknown" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _questions(report: Mapping[str, Any]) -> str:
    lines = []
    pairs = report.get("minimal_pairs", {})
    if "accuracy" in pairs:
        lines.append(
            f"Minimal pairs: {pairs['accuracy']:.3f} of {pairs['items']:,} right "
            f"(95 % interval {pairs['low']:.3f} to {pairs['high']:.3f}; 0.5 is chance)."
        )
    for name, row in report.get("multiple_choice", {}).get("by_file", {}).items():
        lines.append(f"{name}: {row['accuracy']:.3f} of {row['items']:,} right.")
    harness = report.get("lm_eval", {})
    for task, metrics in harness.get("tasks", {}).items():
        named = ", ".join(f"{metric} {value:.3f}" for metric, value in metrics.items())
        lines.append(f"{task} (lm-evaluation-harness {harness['version']}): {named}.")
    return "\n".join(lines)


def _leaks(report: Mapping[str, Any]) -> str:
    memory = report.get("memorization")
    if not memory:
        return "Memorization was not audited."
    lines = [
        f"Memorization: given {memory['prefix_tokens']} tokens, the model goes on with exactly the next "
        f"{memory['continuation_tokens']} for {memory['training']['share']:.2%} of "
        f"{memory['training']['windows']:,} training windows, {memory['held_out']['share']:.2%} of "
        f"{memory['held_out']['windows']:,} held-out windows, and {memory['repeated']['extracted']} of "
        f"{memory['repeated']['windows']} passages that training text repeats."
    ]
    samples = report.get("samples", {})
    if "copies" in samples:
        lines.append(
            f"Of {samples['count']} samples, {len({c['sample'] for c in samples['copies']})} hold a run of "
            f"at least {samples['copy_tokens']} tokens that a training document has."
        )
    return " ".join(lines)


def _data(facts: CardFacts) -> str:
    sources = [f"- {source['name']} (digest {source['digest'][:12]})" for source in facts.sources[:50]]
    if len(facts.sources) > 50:
        sources.append(f"- and {len(facts.sources) - 50:,} more")
    funnel = [f"| {stage} | {parts:,} | {documents:,} |" for stage, parts, documents in facts.funnel]
    table = "| after | parts | documents |\n|---|---|---|\n" + "\n".join(funnel)
    return (
        "## Training data\n\n"
        + "\n".join(sources or ["- unknown"])
        + f"\n\nLicence of the text: {facts.data_licence or NOT_GIVEN}.\n\n"
        + (table if funnel else "")
    ).rstrip()


def training_section(facts: CardFacts) -> str:
    """The card's part on the model's shape and its training."""
    config, summary = facts.config, facts.training
    lines = [
        "## Architecture and training",
        "",
        f"- {config['n_layer']} layers, {config['n_head']} heads, width {config['n_embd']}, context "
        f"{config['n_positions']:,}, vocabulary {config['vocab_size']:,} (byte-level BPE)",
    ]
    if facts.base:
        lines.append(f"- begun from the weights of {facts.base}, whose own training is not counted here")
    if "tokens" in summary:
        lines.append(
            f"- {summary.get('steps', 0):,} steps, {summary['tokens']:,} tokens, "
            f"{summary.get('epochs', 0):.2f} epochs of {summary.get('corpus_tokens', 0):,}"
        )
        if (kept := summary.get("kept_step", summary.get("steps"))) != summary.get("steps"):
            lines.append(f"- of these the weights after step {kept:,}, where the held-out loss was lowest")
        flops = 6 * facts.parameters * int(summary["tokens"])
        lines.append(f"- about {flops:.2e} floating-point operations (6 times parameters times tokens)")
    if "seconds" in summary:
        lines.append(f"- {summary['seconds']:,.0f} s of training")
    if facts.libraries:
        wanted = ("torch", "transformers", "tokenizers", "numpy")
        lines.append("- " + ", ".join(f"{n} {facts.libraries[n]}" for n in wanted if n in facts.libraries))
    return "\n".join(lines)


def _limits(facts: CardFacts) -> str:
    text = (
        "## Limits\n\nThe model repeats what its sources say, errors and prejudices included, and states "
        "falsehoods fluently. It was measured on held-out text of the same sources only: elsewhere it will "
        f"be worse.\n\nLicence of the model: {facts.licence or NOT_GIVEN}."
    )
    return f"{text}\n\n{facts.notes.strip()}" if facts.notes.strip() else text


def _provenance(facts: CardFacts) -> str:
    rows = [f"| {kind} | `{digest}` |" for kind, digest in facts.artifacts.items()]
    return "## Provenance\n\n| artifact | content digest |\n|---|---|\n" + "\n".join(rows) if rows else ""
