"""Classifiers of documents: trained, kept safely, and the same scores as the library that defined them."""

import gzip
import json
import struct
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.loading import ConfigError
from tasks.text.cleaning import Cleaner, Document
from tasks.text.config import CleanConfig, ScoreConfig
from tasks.text.dedup_units import units
from tasks.text.fasttext_model import FastText
from tasks.text.given_files import GivenFileError
from tasks.text.language import shares
from tasks.text.model_errors import ModelError
from tasks.text.model_scores import LinearModel, load_scorer
from tasks.text.score_training import read_texts, train

GOOD = [
    f"The theorem follows from lemma {n}, since every such group is finite. 该定理由引理得出。"
    for n in range(30)
]
BAD = [f"Buy cheap shoes now, offer {n} ends today! 特价优惠，立即购买，仅限今天。" for n in range(30)]


def test_a_trained_model_tells_its_two_kinds_apart(tmp_path: Path) -> None:
    trained = train(GOOD, BAD)
    assert trained.accuracy == 1.0
    path = tmp_path / "m.safetensors"
    trained.model.save(path, trained.about())
    score = load_scorer(ScoreConfig.model_validate({"model": {"paths": [str(path)]}}))
    assert score(GOOD[0], units(GOOD[0])) > 0.8
    assert score(BAD[0], units(BAD[0])) < 0.2
    assert score("", units("")) == pytest.approx(LinearModel.load(path).score("", units("")))


def test_the_command_trains_the_same_bytes_twice(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    for number, text in enumerate(GOOD):
        (tmp_path / "good" / f"{number}.txt").write_text(text)
    (tmp_path / "bad.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in BAD))
    for name in ("a", "b"):
        out = tmp_path / f"{name}.safetensors"
        done = CliRunner().invoke(
            app, ["train-classifier", f"{tmp_path}/good", f"{tmp_path}/bad.jsonl", str(out)]
        )
        assert "accuracy 1.0000" in done.stdout
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("no", "bad.txt", "m.safetensors"), "There is no .*no; name a folder"),
        (("bad.txt", "bad.txt", "m.pkl"), "name it m.safetensors"),
        (("bad.txt", "bad.txt", "x/m.safetensors"), "no folder"),
        (("bad.txt", "bad.txt", "folder.safetensors"), "is a folder: name the file"),
        (("bad.txt", "bad.txt", "m.safetensors"), "1 good and 1 bad documents"),
    ],
)
def test_the_command_says_what_it_lacks(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    (tmp_path / "bad.txt").write_text("Buy now.")
    (tmp_path / "folder.safetensors").mkdir()
    arguments = ["train-classifier", *(str(tmp_path / name) for name in names)]
    with pytest.raises(ConfigError, match=message):
        CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_a_low_score_drops_a_document(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    train(GOOD, BAD).model.save(path, {})
    config = {"score": {"model": {"paths": [str(path)]}, "min_score": 0.5}, "repetition": {"enabled": False}}
    config |= {name: {"enabled": False} for name in ("gopher", "c4", "fineweb")}
    cleaner = Cleaner(CleanConfig.model_validate(config))
    bad = cleaner(Document("0" * 64, "http://h.example/", "h.example", BAD[3]))
    assert (bad.reason, bad.threshold) == ("score.min_score", 0.5)
    good = cleaner(Document("0" * 64, "http://h.example/", "h.example", GOOD[3]))
    assert good.reason == ""
    assert good.signals["model_score"] > 0.5


def test_a_document_may_have_line_ends_of_every_kind_in_it(tmp_path: Path) -> None:
    text = "one\u2028two\x85three"
    rows = [json.dumps({"text": text}, ensure_ascii=False)] * 2
    (tmp_path / "a.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert list(read_texts(tmp_path)) == [text] * 2


@pytest.mark.parametrize("charset", ["gb18030", "big5", "utf-8-sig", "utf-16"])
def test_chinese_texts_are_read_in_their_charset(tmp_path: Path, charset: str) -> None:
    text = "本定理由引理得出，因而在此不再重述，有心的人可以自己推得。" * 3
    (tmp_path / "a.txt").write_bytes(text.encode(charset))
    line = json.dumps({"text": text}, ensure_ascii=False)
    (tmp_path / "b.jsonl").write_bytes(f"{line}\r\n\r\n{line}\n\n".encode(charset))
    assert list(read_texts(tmp_path)) == [text] * 3
    (tmp_path / "c.txt").write_bytes(bytes(range(256)) * 400)
    with pytest.raises(ModelError, match=r"c\.txt is no text: .*control characters"):
        list(read_texts(tmp_path))


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-10],
        lambda whole: b"<html>not here</html>",
        lambda whole: whole[:12] + bytes([whole[12] ^ 0xFF]) + whole[13:],
    ],
)
def test_a_broken_gzip_file_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "good.jsonl.gz"
    whole = gzip.compress(b'{"text": "a good one"}\n' * 20)
    path.write_bytes(whole)
    assert len(list(read_texts(path))) == 20
    path.write_bytes(damage(whole))
    with pytest.raises(GivenFileError, match=r"good\.jsonl\.gz is no whole gzip file"):
        list(read_texts(tmp_path))


def test_too_few_documents_are_refused_with_both_numbers() -> None:
    with pytest.raises(ModelError, match=r"30 good and 2 bad documents; at least 10"):
        train(GOOD, BAD[:2])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.safetensors", b"nonsense", "no linear model"),
        ("m.bin", b"nonsense", "no fastText model"),
        ("m.bin", struct.pack("<ii", 793712314, 12), "ends too early"),
        ("m.pkl", b"", "neither .safetensors"),
    ],
)
def test_a_file_that_is_no_model_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        load_scorer(ScoreConfig.model_validate({"model": {"paths": [str(path)]}}))


def fasttext_file(
    words: list[str], labels: list[str], rows: np.ndarray, out: np.ndarray, **args: int
) -> bytes:
    """A fastText classifier as its authors' program writes it."""
    a = {"ngrams": 1, "loss": 3, "bucket": 0, "minn": 0, "maxn": 0} | args
    parts = [struct.pack("<ii", 793712314, 12)]
    parts.append(
        struct.pack(
            "<iiiiiiiiiiiid",
            *(
                rows.shape[1],
                5,
                5,
                1,
                5,
                a["ngrams"],
                a["loss"],
                3,
                a["bucket"],
                a["minn"],
                a["maxn"],
                100,
                1e-4,
            ),
        )
    )
    parts.append(struct.pack("<iiiqq", len(words) + len(labels), len(words), len(labels), 100, -1))
    parts += [word.encode() + b"\0" + struct.pack("<qb", 10, 0) for word in words]
    parts += [
        b"__label__" + name.encode() + b"\0" + struct.pack("<qb", 9 - n, 1) for n, name in enumerate(labels)
    ]
    for matrix in (rows, out):
        parts.append(struct.pack("<?qq", False, *matrix.shape) + matrix.astype("<f4").tobytes())
    return b"".join(parts)


def test_a_fasttext_classifier_averages_words_and_subwords(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    words, labels = ["</s>", "good", "bad"], ["hq", "lq"]
    rows, out = random.normal(size=(3 + 50, 4)), random.normal(size=(2, 4))
    path = tmp_path / "m.bin"
    path.write_bytes(fasttext_file(words, labels, rows, out, bucket=50, minn=2, maxn=2))

    def fnv(text: bytes) -> int:
        state = 2166136261
        for byte in text:
            state = ((state ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619) & 0xFFFFFFFF
        return state

    pieces = ["<g", "go", "oo", "od", "d>", "<é", "é>"]
    at = [1, 0, *(3 + fnv(piece.encode()) % 50 for piece in pieces)]
    scores = out.astype(np.float32) @ rows.astype(np.float32)[at].mean(axis=0)
    expected = np.exp(scores) / np.exp(scores).sum()
    found = dict(FastText.load(path).predict("good é", 2))
    assert found["hq"] == pytest.approx(float(expected[0]), abs=1e-6)
    assert found["lq"] == pytest.approx(float(expected[1]), abs=1e-6)


def test_a_file_that_is_no_language_model_is_refused_before_any_document(tmp_path: Path) -> None:
    path = tmp_path / "lid.bin"
    config = {"method": "fasttext", "fasttext_model": {"paths": [str(path)]}}
    whole = fasttext_file(["</s>", "x"], ["en"], np.ones((2, 4)), np.ones((1, 4)))
    for content, message in (
        (b"<html>404</html>", "no fastText model of format 12"),
        (whole[:20], "ends too early"),
        (whole[:36] + b"\1" + whole[37:], "holds word vectors"),
        (whole, ""),
    ):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=message) if message else nullcontext():
            Cleaner(CleanConfig.model_validate({"language": config}))


def test_the_labels_of_a_language_model_become_the_codes_that_are_configured(tmp_path: Path) -> None:
    labels = ["cmn_Hani", "eng_Latn", "zho_Hans"]
    path = tmp_path / "lid.bin"
    path.write_bytes(
        fasttext_file(["</s>", "x"], labels, np.ones((2, 4)), np.array([[1.0] * 4, [1.1] * 4, [1.0] * 4]))
    )
    found = shares("x x", "fasttext", path)
    assert [code for code, _ in found] == ["zh", "en"]
    assert sum(share for _, share in found) == pytest.approx(1.0)


def test_a_hierarchical_classifier_gives_probabilities(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    labels = ["a", "b", "c", "d", "e"]
    path = tmp_path / "m.ftz"
    path.write_bytes(
        fasttext_file(["</s>", "x"], labels, random.normal(size=(2, 4)), random.normal(size=(5, 4)), loss=1)
    )
    found = FastText.load(path).predict("x x", 5)
    assert sum(share for _, share in found) == pytest.approx(1.0)
    assert {label for label, _ in found} == set(labels)


def test_a_label_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.bin"
    path.write_bytes(fasttext_file(["</s>"], ["hq", "lq"], np.zeros((1, 2)), np.zeros((2, 2))))
    with pytest.raises(ModelError, match=r"no label 'best'; it has hq, lq"):
        load_scorer(ScoreConfig.model_validate({"model": {"paths": [str(path)]}, "label": "best"}))
