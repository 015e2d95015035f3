"""Bits per byte: the same figure as transformers' by an independent computation, whatever the slicing."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tasks.evals.bits_per_byte import encode, model_bits, ngram_bits, summarize
from tasks.evals.bootstrap import compare, ratio_interval
from tasks.evals.config import BootstrapConfig, HeldOutConfig
from tasks.evals.held_out import EvaluationError, choose, slices
from tasks.evals.ngram import KneserNey
from tasks.evals.suite import counted
from tasks.evals.token_text import TokenText
from tasks.evals.windows import plan_windows
from tasks.gpt.export import load_hf, save_hf
from tasks.gpt.model import GPT, GPTConfig
from tasks.tokens.bpe import load as load_tokenizer

CONTEXT = 32
TEXTS = {
    "en": "The mill turns text into models, and every stage of it can be traced. " * 9,
    "zh": "磨坊把网页文字变成语言模型，每一步都可以追溯。" * 12,
    "short": "Short.",
    "odd": "a\u0000b \U0001f980 <|endoftext|> \ufdd0 é",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with drawn weights and a byte-level tokenizer, as a Hugging Face folder."""
    root = tmp_path_factory.mktemp("model")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS.values(), trainer)
    tokenizer.save(str(root / "tokenizer.json"))
    model = GPT(GPTConfig(tokenizer.get_vocab_size(), n_layer=2, n_head=2, n_embd=32, block_size=CONTEXT))
    model.init_weights(1)
    with torch.no_grad():  # sharper than freshly drawn, so that context matters
        for parameter in model.parameters():
            parameter.mul_(3)
    save_hf(model, root, root / "hf")
    return root / "hf"


def rows() -> list[dict[str, str]]:
    return [
        {"doc_id": f"{i:064x}", "url": f"https://{name}.example/", "domain": f"{name}.example", "text": text}
        | {"language": "zh" if name == "zh" else "en"}
        for i, (name, text) in enumerate(TEXTS.items())
    ]


def by_transformers(folder: Path, text: str, overlap: float) -> float:
    """Bits of one text, token by token, each with the context that the rule promises it."""
    from transformers import AutoTokenizer, GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer.eos_token_id, *tokenizer(text, split_special_tokens=True)["input_ids"]]
    bits, start, done = 0.0, 0, 0
    while done < len(ids) - 1:
        window = torch.tensor([ids[start : start + CONTEXT]])
        with torch.no_grad():
            logits = model(window).logits[0].double().log_softmax(-1)
        for i in range(done - start, min(CONTEXT, len(ids) - 1 - start)):
            bits -= float(logits[i, ids[start + i + 1]]) / math.log(2)
        done = min(start + CONTEXT, len(ids) - 1)
        start += CONTEXT - round(CONTEXT * overlap)
    return bits


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_equals_transformers_on_the_exported_folder(folder: Path, overlap: float) -> None:
    documents = choose(rows(), HeldOutConfig())
    encoded = encode(documents, load_tokenizer(folder), eos=0)
    bits = model_bits(load_hf(folder), encoded, overlap=overlap, batch_tokens=100)
    expected = [by_transformers(folder, document.text, overlap) for document in documents]
    sizes = [len(text.encode()) for text in TEXTS.values()]
    assert [d.bytes for d in documents] == sizes
    assert bits.sum() / sum(sizes) == pytest.approx(sum(expected) / sum(sizes), abs=1e-4)
    assert bits == pytest.approx(expected, rel=1e-4)


def test_batches_do_not_change_the_figure(folder: Path) -> None:
    encoded = encode(choose(rows(), HeldOutConfig()), load_tokenizer(folder), eos=0)
    model = load_hf(folder)
    one = model_bits(model, encoded, overlap=0.5, batch_tokens=1)
    many = model_bits(model, encoded, overlap=0.5, batch_tokens=100_000)
    assert one == pytest.approx(many, abs=1e-3)


def test_more_context_than_the_overlap_is_never_missing() -> None:
    windows = plan_windows([1, 2, 33, 100], context=32, overlap=0.5)
    assert {w.sequence for w in windows} == {1, 2, 3}, "a sequence of the end-of-text token alone has no bits"
    assert all(w.skip >= 16 for w in windows if w.start)


@given(
    lengths=st.lists(st.integers(0, 90), max_size=5),
    context=st.integers(1, 40),
    overlap=st.floats(0, 0.95),
)
@settings(deadline=None)
def test_every_token_is_predicted_once(lengths: list[int], context: int, overlap: float) -> None:
    predicted = [np.zeros(max(n - 1, 0), dtype=int) for n in lengths]
    for window in plan_windows(lengths, context, overlap):
        assert window.end - window.start <= context
        predicted[window.sequence][window.start + window.skip : window.end] += 1
    assert all((counts == 1).all() for counts in predicted)


def test_special_tokens_in_text_are_text(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    documents = choose([{"doc_id": "0", "text": "a <|endoftext|> b"}], HeldOutConfig())
    assert 0 not in encode(documents, tokenizer, eos=0).ids[0].tolist()


def test_baselines_are_measured_on_the_same_tokens(folder: Path) -> None:
    encoded = encode(choose(rows(), HeldOutConfig()), load_tokenizer(folder), eos=0)
    training = np.concatenate([np.append(ids, 0) for ids in encoded.ids])
    unigram, trigram = (
        ngram_bits(KneserNey.count(training, order, 400), encoded)[0] / encoded.documents[0].bytes
        for order in (1, 3)
    )
    assert trigram < unigram / 2, "the text was seen in training and repeats"


def test_baselines_know_all_parts_of_a_text_that_is_longer_than_what_they_count() -> None:
    """Sources come one after another, and languages with them."""

    def part(token: int, size: int) -> TokenText:
        return TokenText(np.full(size, token, np.uint16), np.array([0, size]), ["d"], ["u"])

    tokens = counted([part(1, 300_000), part(2, 100_000), part(3, 400_000)], 200_000)
    assert 190_000 < len(tokens) <= 200_000
    assert np.bincount(tokens)[1:] / len(tokens) == pytest.approx([3 / 8, 1 / 8, 4 / 8], abs=0.1)
    assert len(counted([part(1, 300), part(2, 700)], 1_000)) == 1_000
    with pytest.raises(EvaluationError, match="2 training tokens are too few"):
        counted([part(1, 2)], 1_000)


def test_slices_and_intervals_cover_every_document() -> None:
    documents = choose(rows(), HeldOutConfig())
    found = slices(documents, domains=2)
    assert sorted(i for (kind, _), index in found.items() if kind == "language" for i in index) == [
        0,
        1,
        2,
        3,
    ]
    assert {name for kind, name in found if kind == "domain"} == {"en.example", "zh.example"}
    report = summarize(documents, np.array([800.0, 700.0, 20.0, 90.0]), BootstrapConfig(resamples=200), 2)
    assert report["by_language"].keys() == {"en", "zh"}
    assert report["interval"][0] <= report["all"] <= report["interval"][1]
    assert report["bytes"] == sum(len(text.encode()) for text in TEXTS.values())
    assert json.dumps(report)


def test_slices_by_length_go_from_short_to_long() -> None:
    texts = [{"doc_id": str(size), "text": "x" * size} for size in (20_000, 100, 5_000, 2_000)]
    found = slices(choose(texts, HeldOutConfig()), domains=2)
    names = [name for kind, name in found if kind == "length"]
    assert names == ["under 1 kB", "1 to 4 kB", "4 to 16 kB", "over 16 kB"]


def test_slices_by_domain_come_last_and_the_largest_first() -> None:
    sizes = {"a.example": 100, "b.example": 300, "c.example": 200}
    texts = [{"doc_id": name, "domain": name, "text": "x" * size} for name, size in sizes.items()]
    found = [name for _, name in slices(choose(texts, HeldOutConfig()), domains=2)]
    assert found == ["unknown", "under 1 kB", "b.example", "c.example"]


def test_the_choice_is_a_sample_by_hash_within_the_limits() -> None:
    texts = [{"doc_id": f"{i * 7919 % 100:02d}", "text": "字" * 500} for i in range(100)]
    config = HeldOutConfig(max_documents=10, max_document_kilobytes=1, max_megabytes=0.006)
    documents = choose(texts, config)
    assert documents == choose(texts[::-1], config), "the rows' order does not matter"
    assert [d.doc_id for d in documents] == [f"{i:02d}" for i in range(len(documents))]
    assert all(d.bytes == 999 for d in documents[:6]), "333 whole characters of 3 bytes each, not half a one"
    assert sum(d.bytes for d in documents) <= 6000


def test_no_text_is_said() -> None:
    with pytest.raises(EvaluationError, match="hold out more"):
        choose([{"doc_id": "1", "text": ""}], HeldOutConfig())


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(60):
        sizes = rng.integers(100, 1000, size=80).astype(float)
        bits = sizes * rng.normal(2.0, 0.4, size=80)
        interval = ratio_interval(bits, sizes, resamples=400, confidence=0.9, seed=seed)
        hits += interval.low <= 2.0 <= interval.high
    assert 46 <= hits <= 60


def test_pairing_sees_a_small_steady_difference_that_separate_intervals_hide() -> None:
    rng = np.random.default_rng(1)
    sizes = rng.integers(100, 5000, size=50).astype(float)
    champion = sizes * rng.normal(2.0, 0.5, size=50)
    better = compare(champion * 0.99, champion, sizes, margin=0.0, resamples=1000, confidence=0.95, seed=1)
    equal = compare(champion, champion, sizes, margin=0.0, resamples=1000, confidence=0.95, seed=1)
    assert better.probability == 1.0
    assert better.high < 0
    assert (equal.probability, equal.difference) == (0.0, 0.0)
