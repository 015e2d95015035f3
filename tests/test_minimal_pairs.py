"""Questions with known answers: read from real and broken files, scored as a loop over transformers would."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from tasks.evals import minimal_pairs, multiple_choice
from tasks.evals.likelihood import log_probabilities
from tasks.evals.questions import accuracy
from tasks.gpt.model import GPT, GPTConfig
from tasks.tokens import bpe

TEXT = ["The mill turns. ", "Many mills turn. ", "磨坊在转动。", "很多磨坊都在转动。"] * 50


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return bpe.train(TEXT, 290)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> GPT:
    made = GPT(GPTConfig(290, n_layer=2, n_head=2, n_embd=32, block_size=48))
    made.init_weights(5)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(3)
    return made.eval()


def one_by_one(model: GPT, ids: list[int], skip: int) -> float:
    """Log-probability of the tokens after the first ``skip``, from the logits."""
    logits = model(torch.tensor([ids]))[0]
    assert logits is not None
    chances = logits[0].detach().log_softmax(-1)
    return sum(float(chances[i, ids[i + 1]]) for i in range(skip - 1, len(ids) - 1))


def write(path: Path, items: list[object]) -> Path:
    path.write_text("\n".join(i if isinstance(i, str) else json.dumps(i) for i in items), encoding="utf-8")
    return path


def test_scores_equal_a_loop_over_single_texts(model: GPT, tokenizer: Tokenizer) -> None:
    pairs = [
        ("", "The mills turn."),
        ("The mill", " turns."),
        ("很多磨坊", "都在"),
        ("The mill ", "turns. " * 3),
    ]
    found = log_probabilities(model, tokenizer, 0, pairs, batch_tokens=64)
    for (context, text), score in zip(pairs, found, strict=True):
        ids = [0, *tokenizer.encode(context + text).ids]
        skip = 1 + len(tokenizer.encode(context.rstrip()).ids)
        assert score.log_probability == pytest.approx(one_by_one(model, ids, skip), abs=1e-3)


def test_texts_compare_by_the_whole_where_a_token_reaches_over_the_contexts_end(model: GPT) -> None:
    tokenizer = bpe.train(["北京很好。", "我们北方很好。", "我在北边。"] * 50, 286)
    context, texts = "我在北", ["京很好。", "方", "边。", "好"]
    before = tokenizer.encode(context).ids
    wholes = [tokenizer.encode(context + text).ids for text in texts]
    assert {ids[: len(before)] == before for ids in wholes} == {True, False}
    chances = [one_by_one(model, [0, *ids], 1) for ids in wholes]
    given = one_by_one(model, [0, *before], 1)
    found = log_probabilities(model, tokenizer, 0, [(context, text) for text in texts], batch_tokens=64)
    assert [score.log_probability for score in found] == pytest.approx(
        [chance - given for chance in chances], abs=1e-3
    )


def test_a_pair_is_right_if_the_good_sentence_is_likelier(
    model: GPT, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    sentences = ["The mill turns.", "The mill turn.", "Many mills turns.", "磨坊在转动。", "磨坊转动在。"]
    items = [{"sentence_good": a, "sentence_bad": b} for a in sentences for b in sentences if a != b]
    odd = ["{broken", "[" * 10_000, {"sentence_good": "alone"}, {"sentence_good": "\ud83d"}, [1], ""]
    path = write(tmp_path / "agreement.jsonl", [*items, *odd])
    path.write_text(f"\ufeff{path.read_text(encoding='utf-8')}", encoding="utf-8")
    found = minimal_pairs.measure(model, tokenizer, 0, [path], most=1000, batch_tokens=256)
    scores = {s: one_by_one(model, [0, *tokenizer.encode(s).ids], 1) for s in sentences}
    right = sum(scores[i["sentence_good"]] > scores[i["sentence_bad"]] for i in items)
    assert (found["accuracy"], found["items"]) == (pytest.approx(right / len(items)), len(items))
    assert found["by_file"].keys() == {"agreement"}
    assert found["skipped"] == {
        "no JSON": 2,
        "no sentence_good and sentence_bad": 1,
        "half a surrogate pair, which is no character": 1,
        "no JSON object": 1,
    }


def test_files_of_one_name_are_told_apart_by_their_folders(
    model: GPT, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    pair = {"sentence_good": "The mill turns.", "sentence_bad": "The mill turn."}
    question = {"context": "The mill", "target": " turns."}
    for language in ("en", "zh"):
        (tmp_path / language).mkdir()
        write(tmp_path / language / "agreement.jsonl", [pair])
        write(tmp_path / language / "words.jsonl", [question])
    limits = {"most": 10, "batch_tokens": 256}
    pairs = [*sorted(tmp_path.glob("*/agreement.jsonl")), write(tmp_path / "other.jsonl", [pair])]
    found = minimal_pairs.measure(model, tokenizer, 0, pairs, **limits)
    assert list(found["by_file"]) == ["en/agreement", "zh/agreement", "other"]
    words = sorted(tmp_path.glob("*/words.jsonl"))
    found = multiple_choice.measure(model, tokenizer, 0, words, **limits)
    assert list(found["by_file"]) == ["en/words", "zh/words"]


def test_real_pairs_are_read_whole(
    model: GPT, tokenizer: Tokenizer, real_data: Callable[[str], Path]
) -> None:
    files = sorted(real_data("blimp").glob("*.jsonl"))[:3]
    found = minimal_pairs.measure(model, tokenizer, 0, files, most=40, batch_tokens=4096)
    assert found["items"] == 120
    assert found["skipped"] == {}
    assert 0.2 < found["accuracy"] < 0.8, "the model knows no English"


@pytest.mark.parametrize(
    ("item", "context", "choices", "answer"),
    [
        ({"ctx": "A man", "endings": ["sits.", "flies."], "label": "1"}, "A man ", ["sits.", "flies."], 1),
        ({"ctx": "一个人", "endings": ["坐着。", "飞。"], "label": 0}, "一个人", ["坐着。", "飞。"], 0),
        ({"text": "They went back to the mill"}, "They went back to the ", ["mill"], 0),
        ({"context": "他们回到了", "target": "磨坊"}, "他们回到了", ["磨坊"], 0),
    ],
)
def test_both_formats_are_understood_in_both_scripts(
    item: dict[str, object], context: str, choices: list[str], answer: int
) -> None:
    assert multiple_choice.parse(item) == multiple_choice.Question(context, choices, answer)


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"text": "word"},
        {"ctx": "a", "endings": [], "label": 0},
        {"ctx": "a", "endings": ["b"], "label": 3},
        {"ctx": "a", "endings": ["b", "c", "d"], "label": "²"},
    ],
)
def test_what_is_neither_is_counted(item: dict[str, object]) -> None:
    assert multiple_choice.parse(item) is None


def test_the_likeliest_ending_and_the_exact_last_word_count(
    model: GPT, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    endings = [" turns.", " turn.", " 在转动。"]
    scores = [
        one_by_one(
            model, [0, *tokenizer.encode("The mill" + e).ids], 1 + len(tokenizer.encode("The mill").ids)
        )
        for e in endings
    ]
    best = scores.index(max(scores))
    items = [{"ctx": "The mill", "endings": endings, "label": label} for label in (best, (best + 1) % 3)]
    choice = write(tmp_path / "choice.jsonl", [*items])
    ids = [0, *tokenizer.encode("The mill").ids]
    logits = model(torch.tensor([ids]))[0]
    assert logits is not None
    likeliest = tokenizer.decode([int(logits[0, -1].argmax())])
    words = [{"context": "The mill", "target": target} for target in (likeliest, "Ω")]
    last = write(tmp_path / "last.jsonl", [*words, {"nothing": 1}])
    found = multiple_choice.measure(model, tokenizer, 0, [choice, last], most=100, batch_tokens=256)
    assert found["by_file"]["choice"]["accuracy"] == 0.5
    assert found["by_file"]["last"]["format"] == "last word"
    assert found["by_file"]["last"]["accuracy"] <= 0.5
    assert sum(found["skipped"].values()) == 1


def test_what_leaves_no_choice_is_no_right_answer_among_questions_that_do(
    model: GPT, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    choice = {"ctx": "The mill", "endings": [" turns.", " turn."], "label": 0}
    items = [choice, {**choice, "label": 1}, {"context": "磨坊", "target": "在"}]
    found = multiple_choice.measure(
        model, tokenizer, 0, [write(tmp_path / "both.jsonl", [*items])], most=9, batch_tokens=64
    )
    assert (found["by_file"]["both"]["items"], found["by_file"]["both"]["accuracy"]) == (2, 0.5)
    assert list(found["skipped"].values()) == [1]


def test_a_share_has_an_interval_that_stays_between_none_and_all() -> None:
    assert accuracy([True] * 10)["low"] < 1
    assert accuracy([True] * 10)["high"] == 1
    middle = accuracy([True, False] * 500)
    assert middle["low"] == pytest.approx(0.469, abs=1e-3)
    assert accuracy([]) == {"items": 0}
