"""The tokenizer: special tokens in text stay text in every library, ids give the text back, folders load."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import fastokens
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from tasks.tokens import bpe, encode, vocabulary
from tasks.tokens.encode import Encoder, Fastokens, Tokenizers, open_encoder, probes
from tasks.tokens.errors import CanaryError, TokenizerError, TooLittleTextError

TEXTS = [
    "The quick brown fox jumps over the lazy dog; it's 12345 times that they've done so.\n" * 3,
    "敏捷的棕色狐狸跳过了懒狗。今天天气很好，我们使用Python 3.11编程。\n" * 3,
    "def f(x):\n    return x * 2\n\n\nprint(f(21))  # <|endoftext|>\n" * 3,
    *probes(),
]
HOSTILE = [bpe.EOS, f"a{bpe.EOS}", f" {bpe.EOS}\n{bpe.EOS}{bpe.EOS}b", f"页面写着{bpe.EOS}。"]

TRAIN = """
import sys
from pathlib import Path
from tasks.tokens import bpe
bpe.save(bpe.train(eval(sys.stdin.read()), 320), Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return bpe.train(TEXTS * 2, 400)


@pytest.fixture(scope="module")
def folder(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    bpe.save(tokenizer, path)
    return path


@pytest.mark.parametrize("text", HOSTILE)
def test_special_tokens_in_text_are_text_in_every_library(folder: Path, text: str) -> None:
    ours = bpe.load(folder)
    eos = bpe.eos_of(ours)
    auto = AutoTokenizer.from_pretrained(folder)
    assert auto.eos_token_id == eos
    expected = ours.encode(text).ids
    assert eos not in expected
    assert ours.decode(expected) == text
    assert auto(text)["input_ids"] == expected
    assert auto.encode(text) == expected
    fast = fastokens.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert (
        np.frombuffer(fast.encode_batch_flat([text], split_special_tokens=True)[0], "<u4").tolist()
        == expected
    )
    for engine in (Tokenizers(ours), Fastokens(ours)):
        encoded = Encoder(ours, engine).encode([text])
        assert encoded.ids.tolist() == [*expected, eos]


def test_without_care_the_libraries_would_make_control_ids(folder: Path) -> None:
    careless = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert bpe.eos_of(careless) in careless.encode(HOSTILE[0]).ids


def test_transformers_takes_the_folder_as_it_is(folder: Path) -> None:
    ours, auto = bpe.load(folder), AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        assert auto(text)["input_ids"] == ours.encode(text).ids
        assert auto.decode(auto(text)["input_ids"]) == text
    assert len(auto) == bpe.size_of(ours) == 400
    assert (
        json.loads((folder / "tokenizer_config.json").read_text())["tokenizer_class"]
        == "PreTrainedTokenizerFast"
    )


def test_training_is_the_same_in_another_process(tmp_path: Path) -> None:
    for name in ("one", "two"):
        command = [sys.executable, "-c", TRAIN, str(tmp_path / name)]
        subprocess.run(command, input=repr(TEXTS), text=True, check=True)
    for file in bpe.FILES:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@given(st.text())
@settings(max_examples=150, deadline=None)
def test_any_text_comes_back_and_both_engines_agree(text: str) -> None:
    ours, engines = _shared()
    fast, reference = (engine.encode([text, "", text]) for engine in engines)
    assert np.array_equal(fast.ids, reference.ids)
    assert np.array_equal(fast.offsets, reference.offsets)
    first = reference.ids[: reference.offsets[1]].tolist()
    assert ours.decode(first[:-1]) == text
    assert reference.offsets[2] - reference.offsets[1] == 1


@cache
def _shared() -> tuple[Tokenizer, list[Encoder]]:
    ours = bpe.train(TEXTS * 2, 400)
    return ours, [Encoder(ours, Fastokens(ours)), Encoder(ours, Tokenizers(ours))]


def test_a_document_is_ids_with_the_end_appended(tokenizer: Tokenizer) -> None:
    encoded = open_encoder(tokenizer).encode(["one two", "三", ""])
    assert encoded.ids.dtype == np.uint16
    assert encoded.offsets.tolist()[0] == 0
    assert encoded.ids[encoded.offsets[1:] - 1].tolist() == [bpe.eos_of(tokenizer)] * 3
    assert encoded.offsets[-1] == len(encoded.ids)
    assert open_encoder(tokenizer).encode([]).ids.tolist() == []


def test_the_fast_engine_is_used_where_it_agrees(tokenizer: Tokenizer) -> None:
    assert open_encoder(tokenizer).engine.name == "fastokens"
    assert open_encoder(tokenizer).reason == ""
    assert open_encoder(tokenizer, "tokenizers").engine.name == "tokenizers"


def test_the_reference_steps_in_with_a_reason(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "fastokens", None)
        encoder = open_encoder(tokenizer)
    assert (encoder.engine.name, encoder.reason) == ("tokenizers", "fastokens is not installed")

    def off_by_one(self: Fastokens, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        flat, offsets = Tokenizers(tokenizer).flat(texts)
        return flat + (flat > 300), offsets

    monkeypatch.setattr(encode.Fastokens, "flat", off_by_one)
    encoder = open_encoder(tokenizer)
    assert encoder.engine.name == "tokenizers"
    assert "fastokens differs from tokenizers from token" in encoder.reason


def test_the_canary_compares_what_was_written(tokenizer: Tokenizer) -> None:
    encoder = open_encoder(tokenizer)
    ids = encoder.encode(["a b c"]).ids
    encoder.check(["a b c"], [ids])
    with pytest.raises(CanaryError, match="from token 5"):
        encoder.check(["a b c d"], [ids])


def test_too_little_text_and_impossible_sizes_are_refused() -> None:
    with pytest.raises(TooLittleTextError, match=r"only 2\d\d entries where 5,000 were asked for"):
        bpe.train(["short"], 5000)
    for size in (256, 65_536):
        with pytest.raises(TokenizerError, match="257 to 65,535"):
            bpe.train(TEXTS, size)


def test_an_endless_word_costs_no_time_with_the_square_of_its_length() -> None:
    """Over a minute before; Chinese without punctuation has such words."""
    rng = np.random.default_rng(0)
    endless = "".join(map(chr, rng.integers(0x4E00, 0x4E00 + 500, 100_000)))
    start = time.process_time()
    cut = bpe.train([endless], 1500)
    assert time.process_time() - start < 15
    pieces = [endless[at : at + bpe.LONGEST_WORD] for at in range(0, len(endless), bpe.LONGEST_WORD)]
    assert bpe.digest(cut) == bpe.digest(bpe.train(pieces, 1500))
    mixed = f"词 {'a' * 299} {'1' * 300}{'=' * 301}\n{'好' * 700}，"
    assert "".join(bpe.pieces(mixed)) == mixed
    assert max(len(run) for piece in bpe.pieces(mixed) for run in bpe.RUNS.findall(piece)) == bpe.LONGEST_WORD
    assert list(map(len, bpe.pieces(f"a{' ' * 301}b"))) == [301, 2]


def test_what_is_no_usable_tokenizer_is_refused_by_name(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"missing.tokenizer\.json cannot be read"):
        bpe.load(_made(tmp_path / "missing"))
    bad = _made(tmp_path / "bad") / "tokenizer.json"
    bad.write_text("{}")
    with pytest.raises(TokenizerError, match=r"is not a tokenizer\.json"):
        bpe.load(bad)
    settings = json.loads(tokenizer.to_str())
    bad.write_text(json.dumps({**settings, "added_tokens": []}))
    with pytest.raises(TokenizerError, match=r"no special token <\|endoftext\|>"):
        bpe.load(bad)
    settings["model"]["vocab"]["huge"] = 65_536
    bad.write_text(json.dumps(settings))
    with pytest.raises(TokenizerError, match="ids up to 65,536"):
        bpe.load(bad)


def test_a_tokenizer_that_would_lose_characters_is_refused(tmp_path: Path) -> None:
    lossy = Tokenizer(models.BPE())
    lossy.pre_tokenizer = pre_tokenizers.Whitespace()
    lossy.train_from_iterator(TEXTS, trainers.BpeTrainer(special_tokens=[bpe.EOS], show_progress=False))
    lossy.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TokenizerError, match=r"tokenizer\.json does not tell .* falls back on bytes"):
        bpe.load(tmp_path)


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_smaller_vocabulary_is_the_larger_one_cut_off() -> None:
    large, small = bpe.train(TEXTS * 2, 400), bpe.train(TEXTS * 2, 330)
    cut = vocabulary.truncated(large, 330)
    assert bpe.size_of(cut) == 330
    for text in TEXTS:
        assert cut.encode(text).ids == small.encode(text).ids
    assert vocabulary.sizes_below(8192) == [1024, 2048, 4096, 8192]
    measured = vocabulary.measure(large, {"en": TEXTS[:1]}, halves=False)
    assert measured["en"]["400"]["bytes_per_token"] == measured["en"]["400"]["characters_per_token"] > 1


def test_real_pages_encode_alike_in_both_engines(real_data: Callable[[str], Path]) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(real_data("wcxb") / "wcxb-dev-gold.parquet", columns=["main_content"])
    texts = [text for text in table["main_content"].to_pylist()[:150] if text]
    ours = bpe.train(texts[:40], 1000)
    open_encoder(ours).check(texts)
