"""Multiple choice by likelihood, in HellaSwag's format, and the last word of a passage, in LAMBADA's.

- HellaSwag (Zellers et al. 2019): ``ctx``, ``endings``, ``label``. The answer is the ending with the highest
  log-probability (``accuracy``), or the highest a byte (``accuracy_by_length``), as is usually reported.
- LAMBADA (Paperno et al. 2016): ``text``. Right if the model's likeliest tokens are exactly the last word.
  Where words are not split by spaces, ``context`` and ``target`` give the parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.evals.likelihood import Score, log_probabilities
from tasks.evals.questions import Skipped, accuracy, names_of, read_items

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from tasks.gpt.model import GPT


@dataclass(frozen=True)
class Question:
    """A context, its possible continuations, and which is right; one continuation is a last-word question."""

    context: str
    choices: list[str]
    answer: int


def measure(
    model: GPT, tokenizer: Tokenizer, eos: int, files: Sequence[Path], *, most: int, batch_tokens: int
) -> dict[str, Any]:
    """Accuracy by file, each with its interval; ``skipped`` counts lines of neither format."""
    skipped = Skipped()
    by_file: dict[str, Any] = {}
    for name, path in zip(names_of(files), files, strict=True):
        questions = []
        for item in read_items(path, most, skipped):
            question = parse(item)
            if question is None:
                skipped.add("neither ctx, endings, label nor text")
            else:
                questions.append(question)
        if len({len(question.choices) > 1 for question in questions}) == 2:
            several = [question for question in questions if len(question.choices) > 1]
            for _ in range(len(questions) - len(several)):
                skipped.add("a single continuation among questions with several")
            questions = several
        if questions:
            by_file[name] = _file(model, tokenizer, eos, questions, batch_tokens)
    return {"by_file": by_file, "skipped": skipped.reasons}


def parse(item: Mapping[str, Any]) -> Question | None:
    """A line as a question, or None where it is neither format."""
    endings, label = item.get("endings"), item.get("label")
    if isinstance(item.get("ctx"), str) and isinstance(endings, list) and endings:
        if not all(isinstance(e, str) and e for e in endings) or not str(label).isdecimal():
            return None
        context = item["ctx"] if item["ctx"].endswith((" ", "\n")) else _joined(item["ctx"], endings[0])
        return Question(context, endings, int(str(label))) if int(str(label)) < len(endings) else None
    if isinstance(item.get("context"), str) and isinstance(item.get("target"), str) and item["target"]:
        return Question(item["context"], [item["target"]], 0)
    text = item.get("text")
    if isinstance(text, str) and " " in text.strip():
        context, _, word = text.strip().rpartition(" ")
        return Question(context + " ", [word], 0)
    return None


def _joined(context: str, ending: str) -> str:
    """A space between context and ending where both sides are written with spaces."""
    spaced = context[-1:].isascii() and ending[:1].isascii() and not ending[:1].isspace()
    return f"{context} " if context and spaced else context


def _file(
    model: GPT, tokenizer: Tokenizer, eos: int, questions: Sequence[Question], batch_tokens: int
) -> dict[str, Any]:
    pairs = [(q.context, choice) for q in questions for choice in q.choices]
    last_word = all(len(q.choices) == 1 for q in questions)
    scores = log_probabilities(model, tokenizer, eos, pairs, batch_tokens, with_greedy=last_word)
    if last_word:
        mean = float(np.mean([s.log_probability for s in scores]))
        perplexity = round(float(np.exp(min(-mean, 700))), 4)
        return {**accuracy([s.greedy for s in scores]), "format": "last word", "perplexity": perplexity}
    return {**_choices(questions, scores), "format": "choice"}


def _choices(questions: Sequence[Question], scores: Sequence[Score]) -> dict[str, Any]:
    right, by_length, begin = [], [], 0
    for question in questions:
        own = np.array([s.log_probability for s in scores[begin : begin + len(question.choices)]])
        sizes = np.array([len(choice.encode()) for choice in question.choices])
        right.append(int(own.argmax()) == question.answer)
        by_length.append(int((own / sizes).argmax()) == question.answer)
        begin += len(question.choices)
    return {**accuracy(right), "accuracy_by_length": accuracy(by_length)["accuracy"]}
