"""The two stages over a small corpus: what is written, left out, refused and taken up."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.artifacts import Artifact
from storage.documents import PartWriter
from storage.schemas import DOCUMENTS
from storage.store import open_store
from storage.token_shards import open_plan, open_set
from tasks import tokenization
from tasks.hold_out import EXCLUDED
from tasks.stage import StageRun, stage
from tasks.tokenization import tokenize, train_tokenizer
from tasks.tokens import bpe, encode
from tasks.tokens.config import EncodingConfig, MixtureConfig, TokenizeConfig
from tasks.tokens.errors import TokensError, TooLittleTextError
from tasks.tokens.mixture import check_named, shares
from tasks.tokens.packed import PackedLoader
from tasks.tokens.packing import Plan
from tasks.tokens.sample import Candidates, choose, cut
from tasks.tokens.sampler import Order
from tasks.tokens.streams import Stream

pytestmark = pytest.mark.usefixtures("home")

SENTENCE = (
    "the mill turns water into flour and the miller keeps a ledger of every sack that went through it "
    "temporary files are renamed when they are complete so nobody finds half of one"
)
WORDS = SENTENCE.split()
HAN = "水车把水变成面粉磨坊主记下每一袋经过的粮食临时文件写完以后才改名所以没有人会看到一半"


def document(number: int, language: str, source: str = "a") -> dict[str, Any]:
    rng = random.Random(number)
    if language == "zh":
        text = "。".join("".join(rng.choices(HAN, k=rng.randint(5, 20))) for _ in range(20))
    else:
        text = ". ".join(" ".join(rng.choices(WORDS, k=rng.randint(5, 15))) for _ in range(20))
    text += f"\n<|endoftext|> {number}"
    return {
        "doc_id": hashlib.sha256(f"{number}{text}".encode()).hexdigest(),
        "url": f"https://{source}.example/{number}",
        "domain": f"{source}.example",
        "source_file": source,
        "source_offset": number,
        "language": language,
        "text": text,
    }


PARTS = [
    [document(n, "en", "a") for n in range(40)],
    [document(n, "zh" if n % 2 else "en", "b") for n in range(40, 70)],
]
ALL = [row for rows in PARTS for row in rows]
HELD_OUT = [document(n, "zh" if n % 2 else "en") for n in (3, 51)]


def write(path: Path, rows: list[dict[str, Any]], schema: Any = DOCUMENTS) -> None:
    with PartWriter(path, schema) as writer:
        writer.write_all(rows)


@stage("corpus", summary="Documents.")
def corpus(run: StageRun, count: int) -> dict[str, Any]:
    for index, rows in enumerate(PARTS):
        write(run.path / f"part-{index:05d}.parquet", rows[:count])
    return {}


@stage("heldout", summary="Held-out documents.")
def heldout(run: StageRun) -> dict[str, Any]:
    write(run.path / "heldout.parquet", HELD_OUT)
    return {}


@stage("excluded", summary="What must not be trained on.")
def excluded(run: StageRun, everything: bool) -> dict[str, Any]:
    rows = ALL if everything else [PARTS[0][3], PARTS[1][11]]
    rest = {"url": "", "domain": "", "stage": "exclude", "reason": "held_out", "detail": ""}
    write(run.path / "excluded.parquet", [{"doc_id": row["doc_id"], **rest} for row in rows], EXCLUDED)
    return {}


CONFIG = TokenizeConfig(vocab_size=400, shard_megatokens=0.002)


def inputs(count: int = 1000, everything: bool = False) -> tuple[Artifact, Artifact, Artifact]:
    return corpus.run_now(count), heldout.run_now(), excluded.run_now(everything)


def run(config: TokenizeConfig = CONFIG) -> Artifact:
    documents, held_out, left_out = inputs()
    tokenizer = train_tokenizer.run_now(documents, left_out, config.tokenizer)
    return tokenize.run_now(documents, held_out, left_out, tokenizer, config)


def folder(artifact: Artifact) -> Path:
    return open_store().open(artifact)


def test_shards_hold_every_document_but_the_excluded_in_the_corpus_order() -> None:
    artifact = run()
    tokens = open_set(folder(artifact))
    wanted = [row for row in ALL if row["url"] not in {PARTS[0][3]["url"], PARTS[1][11]["url"]}]
    found = [name for shard in tokens.shards for name in shard.batch["doc_id"].to_pylist()]
    assert found == [row["doc_id"] for row in wanted]
    assert len(tokens.shards) > 3
    assert all(shard.tokens <= 2000 for shard in tokens.shards)
    stats = artifact.stats
    assert stats["documents"] == len(wanted) == sum(part.rows or 0 for part in artifact.parts) - len(HELD_OUT)
    assert stats["tokens"] == tokens.index.tokens
    assert stats["bytes"] == sum(len(row["text"].encode()) for row in wanted)
    assert stats["skipped"] == {"excluded": 2}
    assert stats["languages"]["zh"]["characters"] == sum(
        len(r["text"]) for r in wanted if r["language"] == "zh"
    )
    assert stats["engine"] == "fastokens"
    assert stats["held_out"]["documents"] == 2


def test_ids_give_the_text_back_and_control_ids_stand_at_ends_only() -> None:
    documents, held_out, left_out = inputs()
    tokenizer = train_tokenizer.run_now(documents, left_out, CONFIG.tokenizer)
    artifact = tokenize.run_now(documents, held_out, left_out, tokenizer, CONFIG)
    reference, tokens = bpe.load(folder(tokenizer)), open_set(folder(artifact))
    texts = {row["doc_id"]: row["text"] for row in ALL + HELD_OUT}
    assert tokens.held_out is not None
    for shard in [*tokens.shards, tokens.held_out]:
        for row in shard.batch.to_pylist():
            *ids, end = row["input_ids"]
            assert end == tokens.index.eos
            assert end not in ids
            assert reference.decode(ids) == texts[row["doc_id"]]
            assert row["source_sha256"] == hashlib.sha256(texts[row["doc_id"]].encode()).digest()


def test_datasets_opens_a_shard_and_the_set_without_the_held_out() -> None:
    path = folder(run())
    whole = datasets.load_from_disk(str(path))
    assert len(whole) == 68
    assert not {row["doc_id"] for row in HELD_OUT} & set(whole["doc_id"])
    one = datasets.Dataset.from_file(str(path / "shard-00000.arrow"))
    assert one[0]["doc_id"] == whole[0]["doc_id"]
    assert one[0]["input_ids"] == whole[0]["input_ids"]
    held_out = datasets.load_from_disk(str(path / "heldout"))
    assert sorted(held_out["url"]) == sorted(row["url"] for row in HELD_OUT)


def test_workers_and_engine_do_not_change_a_byte(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    digests = set()
    for name, settings in {
        "one": {"workers": 1},
        "four": {"workers": 4},
        "hf": {"engine": "tokenizers"},
    }.items():
        monkeypatch.setenv("MODELMILL_HOME", str(tmp_path / name))
        digests.add(
            run(CONFIG.model_copy(update={"encoding": CONFIG.encoding.model_copy(update=settings)})).digest
        )
    assert len(digests) == 1


def test_an_encoder_that_lies_is_found_out_and_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    right = run()
    flat = encode.Fastokens.flat

    def lying(self: encode.Fastokens, texts: list[str]) -> Any:
        ids, offsets = flat(self, texts)
        wrong = ids.copy()
        if any("粮食" in text for text in texts):
            wrong[-1] = 5
        return wrong, offsets

    monkeypatch.setattr(encode.Fastokens, "flat", lying)
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path / "lied-to"))
    artifact = run()
    assert artifact.stats["engine"] == "tokenizers"
    assert "fastokens differs from tokenizers" in artifact.stats["engine_reason"]
    assert artifact.digest == right.digest


def test_an_interrupted_run_goes_on_after_its_last_shard(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    right = run()
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path / "interrupted"))
    write_shard, written = tokenization.write_shard, []

    def dying(path: Path, **columns: Any) -> Any:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path.name)
        return write_shard(path, **columns)

    monkeypatch.setattr(tokenization, "write_shard", dying)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert written == ["heldout.arrow", "shard-00000.arrow", "shard-00001.arrow"]
    written.clear()
    monkeypatch.setattr(
        tokenization, "write_shard", lambda path, **c: (written.append(path.name), write_shard(path, **c))[1]
    )
    artifact = run()
    assert "shard-00001.arrow" not in written
    assert "shard-00002.arrow" in written
    assert artifact.digest == right.digest
    assert artifact.stats == right.stats


def test_a_mixture_states_its_repeats_and_keeps_groups_apart() -> None:
    config = CONFIG.model_copy(update={"mixture": MixtureConfig(weights=("en=1", "zh=1"))})
    tokens = open_set(folder(run(config)))
    english, chinese = tokens.index.groups
    assert (english.name, chinese.name) == ("en", "zh")
    assert english.repeats == 1
    assert chinese.repeats == pytest.approx(english.tokens / chinese.tokens, abs=1e-5)
    assert sum(shard.tokens for shard in tokens.group("zh")) == chinese.tokens
    plain = open_set(folder(run()))
    assert plain.index.tokens == tokens.index.tokens
    assert plain.index.digest != tokens.index.digest


def test_a_packing_plan_is_stored_for_each_group() -> None:
    mixture = MixtureConfig(weights=("en=1", "zh=1"))
    artifact = run(CONFIG.model_copy(update={"mixture": mixture, "packed_length": 128}))
    tokens = open_set(folder(artifact))
    streams, plans = [], []
    for group, info in zip(tokens.index.groups, tokens.index.plans, strict=True):
        plan = Plan(*open_plan(tokens.folder / info.name))
        assert (info.group, info.length, info.sequences) == (group.name, 128, plan.sequences)
        assert plan.lengths.sum() == group.tokens
        assert not plan.starts.flags.owndata
        streams.append(Stream(tokens.group(group.name), group.repeats))
        plans.append(plan)
    loader = PackedLoader(streams, plans, eos=tokens.index.eos, order=Order(128, 4, 0, tokens.index.digest))
    assert max(loader.packed(index).pieces.max() for index in range(loader.sequences // 4)) > 0
    texts = {row["doc_id"] for row in ALL}
    assert set(loader.documents(1)) <= texts


def test_a_mixture_by_source_may_leave_the_rest_out() -> None:
    config = CONFIG.model_copy(update={"mixture": MixtureConfig(by="source", weights=("b=1",))})
    artifact = run(config)
    assert artifact.stats["skipped"] == {"excluded": 2, "not_in_mixture": 39}
    rest = CONFIG.model_copy(update={"mixture": MixtureConfig(by="source", weights=("b=1", "*=3"))})
    assert [g["name"] for g in run(rest).stats["mixture"]] == ["*", "b"]


def test_repeats_are_bounded_and_groups_without_text_are_named() -> None:
    found = shares({"en": 1000, "zh": 10}, MixtureConfig(weights=("en=1", "zh=1"), max_repeats=4))
    assert [(s.name, s.repeats, s.share) for s in found] == [("en", 0.04, 0.5), ("zh", 4.0, 0.5)]
    with pytest.raises(TokensError, match=r"names ko, of which there is no text; by language there is: en"):
        shares({"en": 1000}, MixtureConfig(weights=("en=1", "ko=1")))


def test_of_many_groups_those_with_most_text_are_named() -> None:
    amounts = {f"site-{number}.example": 100 - number for number in range(50)}
    config = MixtureConfig(by="domain", weights=("other.example=1", "*=1"))
    with pytest.raises(TokensError, match=r"there is: site-0.*, site-19.example and 30 more\. Correct"):
        check_named({**amounts, "*": 1}, config)


@pytest.mark.parametrize("weights", [("en=1", "ko=1"), ("ko=1",), ("en=1", "zh=1", "*=1")])
def test_a_weight_without_text_is_refused_before_anything_is_encoded(
    weights: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode_nothing(*_args: object) -> None:
        raise AssertionError("something was encoded")

    documents, held_out, left_out = inputs()
    tokenizer = train_tokenizer.run_now(documents, left_out, CONFIG.tokenizer)
    monkeypatch.setattr(encode.Encoder, "encode", encode_nothing)
    options = {"mixture": MixtureConfig(weights=weights), "encoding": EncodingConfig(engine="tokenizers")}
    with pytest.raises(TokensError, match=r"names (ko|\*), .* by language there is: en, zh\. Correct"):
        tokenize.run_now(documents, held_out, left_out, tokenizer, CONFIG.model_copy(update=options))


def test_nothing_left_to_train_on_is_said_with_the_numbers() -> None:
    documents, held_out, left_out = inputs()
    tokenizer = train_tokenizer.run_now(documents, left_out, CONFIG.tokenizer)
    none = excluded.run_now(True)
    with pytest.raises(TooLittleTextError, match=r"of 70, 70 are held out"):
        tokenize.run_now(documents, held_out, none, tokenizer, CONFIG)


def test_too_little_text_for_the_vocabulary_is_said_with_both_numbers() -> None:
    documents, _, left_out = inputs(count=2)
    with pytest.raises(TooLittleTextError, match=r"only \d+ entries where 8,192 were asked for"):
        train_tokenizer.run_now(documents, left_out, TokenizeConfig().tokenizer)


def test_a_tokenizer_says_what_it_gives_by_language_and_vocabulary() -> None:
    documents, _, left_out = inputs()
    stats = train_tokenizer.run_now(documents, left_out, CONFIG.tokenizer).stats
    assert stats["vocab_size"] == 400
    assert stats["documents"] == 68
    assert (
        stats["measured"]["en"]["400"]["bytes_per_token"]
        > stats["measured"]["zh"]["400"]["characters_per_token"]
    )


def test_a_tokenizer_can_be_adopted(tmp_path: Path) -> None:
    documents, _, left_out = inputs()
    first = train_tokenizer.run_now(documents, left_out, CONFIG.tokenizer)
    config = CONFIG.tokenizer.model_copy(update={"adopt": str(folder(first))})
    adopted = train_tokenizer.run_now(documents, left_out, config)
    assert adopted.digest == first.digest


def test_another_mixture_does_not_ask_for_another_tokenizer() -> None:
    other = CONFIG.model_copy(update={"mixture": MixtureConfig(weights=("en=1",))})
    assert other.tokenizer == CONFIG.tokenizer
    assert "mixture" not in json.loads(other.tokenizer.model_dump_json())


@given(
    st.lists(st.tuples(st.sampled_from(["en", "zh", "ja"]), st.integers(1, 1000)), max_size=40),
    st.integers(1, 5000),
    st.integers(0, 9),
)
def test_a_sample_keeps_its_budget_and_the_languages_shares(
    documents: list[tuple[str, int]], budget: int, seed: int
) -> None:
    candidates = Candidates()
    for index, (language, size) in enumerate(documents):
        candidates.add([str(index)], [language], [size])
    chosen = choose(candidates, budget, seed)
    total = sum(candidates.sizes)
    assert sum(chosen.values()) == total if total <= budget else sum(chosen.values()) <= budget
    for language in {language for language, _ in documents}:
        of_language = sum(chosen.get(str(i), 0) for i, (name, _) in enumerate(documents) if name == language)
        share = sum(size for name, size in documents if name == language) / total
        assert abs(of_language - share * min(total, budget)) <= 1
    backwards = Candidates(candidates.doc_ids[::-1], candidates.languages[::-1], candidates.sizes[::-1])
    assert choose(backwards, budget, seed) == chosen


@given(st.text(), st.integers(0, 50))
def test_cutting_never_leaves_half_a_character(text: str, size: int) -> None:
    piece = cut(text, size)
    assert text.startswith(piece)
    assert size - 3 <= len(piece.encode()) <= size or piece == text


def test_ids_of_a_shard_are_views_of_the_file() -> None:
    tokens = open_set(folder(run()))
    ids = tokens.shards[0].ids
    assert ids.dtype == np.uint16
    assert not ids.flags.owndata
    assert not ids.flags.writeable


@pytest.mark.parametrize("line", ["en", "en=", "=1", "en=0", "en=-1", "en=nan", "en=1000001", "en 1"])
def test_a_weight_that_cannot_be_read_is_refused_with_how_to_write_it(line: str) -> None:
    with pytest.raises(ValueError, match=r"write group and weight as 'zh=0\.5'"):
        MixtureConfig(weights=(line,))
    with pytest.raises(ValueError, match="en: named more than once"):
        MixtureConfig(weights=("en=1", "en = 2"))


def test_the_name_of_a_group_may_hold_an_equals_sign() -> None:
    config = MixtureConfig(by="source", weights=("cc://CC?files=10=0.5", "*=1"))
    assert config.by_group == {"cc://CC?files=10": 0.5, "*": 1.0}
