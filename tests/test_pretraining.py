"""The stage `pretrain` on real shards: killed, resumed and undisturbed, to one digest, with its curve."""

import hashlib
import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, GPT2LMHeadModel

from flows.starting import starting_point
from storage import registry
from storage.artifacts import Artifact, Recipe
from storage.errors import ArtifactMissingError
from storage.shard_cache import RemoteSet
from storage.store import Draft, open_store
from storage.token_shards import (
    GroupInfo,
    PlanInfo,
    TokenIndex,
    open_set,
    write_index,
    write_plan,
    write_shard,
)
from storage.tracking import STATE
from tasks.gpt.config import TrainConfig
from tasks.gpt.errors import ExportError, TrainingError
from tasks.gpt.export import load_hf, save_hf
from tasks.gpt.model import GPT, GPTConfig
from tasks.pretraining import flatten, listener, pretrain
from tasks.progress import listening
from tasks.registration_facts import card_facts
from tasks.serving.model_card import training_section
from tasks.tokens import packing
from tasks.tokens.errors import ChangedDataError, TokensError, TooLittleTextError
from tasks.train_process import TokenBatches, open_tokens

pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning")

CONFIG = TrainConfig.model_validate(
    {
        "model": {"layers": 2, "heads": 2, "width": 32, "context": 32},
        "steps": 120,
        "batch_sequences": 4,
        "held_out": {"every_steps": 40, "sequences": 8},
        "checkpoints": {"every_steps": 10},
        "hardware": {"threads": 1},
    }
)


def make_tokenizer(folder: Path) -> None:
    vocab = {
        token: i for i, token in enumerate(["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet())])
    }
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))


def make_shards(folder: Path, packed: int) -> None:
    def shard(name: str, seed: int, documents: int) -> Any:
        rng = np.random.default_rng(seed)
        texts = [(rng.integers(1, 257) + 5 * np.arange(99)) % 256 + 1 for _ in range(documents)]
        ids = np.concatenate([np.append(text, 0) for text in texts]).astype(np.uint16)
        names = [f"{name}-{number}" for number in range(documents)]
        return write_shard(
            folder / name,
            doc_ids=names,
            urls=names,
            source_sha256=[hashlib.sha256(n.encode()).digest() for n in names],
            ids=ids,
            offsets=np.arange(documents + 1) * 100,
            tokenizer="none",
            eos=0,
            vocab_size=257,
        )

    shards = (shard("a.arrow", 0, 60), shard("b.arrow", 1, 60))
    held_out = shard("heldout/heldout.arrow", 2, 5).model_copy(update={"name": "heldout/heldout.arrow"})
    groups = (GroupInfo(name="", tokens=12_000, repeats=1.0, share=1.0),)
    plans: tuple[PlanInfo, ...] = ()
    if packed:
        plan = packing.plan(np.full(120, 100), packed)
        write_plan(folder / "packing/0.arrow", plan.starts, plan.lengths, plan.offsets)
        plans = (
            PlanInfo(name="packing/0.arrow", group="", length=packed, sequences=plan.sequences, padding=0.0),
        )
    write_index(
        folder,
        TokenIndex(
            tokenizer="none",
            vocab_size=257,
            eos=0,
            shards=shards,
            groups=groups,
            held_out=held_out,
            plans=plans,
        ),
    )


def made(name: str, make: Callable[[Path], None]) -> Artifact:
    """An artifact of a stage, made without it."""

    def work(draft: Draft) -> dict[str, Any]:
        make(draft.path)
        return {}

    return open_store().make(Recipe(stage=name, code={}, inputs={}), (), work)


@pytest.fixture
def inputs(
    home: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> tuple[Artifact, Artifact]:
    """A store with shards (packed where asked for) and a tokenizer, and no MLflow server to be found."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    packed = getattr(request, "param", 0)
    return made("tokenize", lambda folder: make_shards(folder, packed)), made(
        "train_tokenizer", make_tokenizer
    )


def test_the_artifact_holds_a_model_its_curve_and_its_timings(inputs: tuple[Artifact, Artifact]) -> None:
    artifact = pretrain.run_now(*inputs, CONFIG)
    folder = open_store().open(artifact)
    names = {part.name for part in artifact.parts}
    assert names == {
        "hf/config.json", "hf/generation_config.json", "hf/model.safetensors", "hf/tokenizer.json",
        "hf/tokenizer_config.json", "curve.parquet", "timings.parquet", "environment.json", "summary.json",
        STATE,
    }  # fmt: skip
    assert {part.name for part in artifact.parts if part.volatile} == {
        "timings.parquet", "environment.json", STATE,
    }  # fmt: skip
    curve = pq.read_table(folder / "curve.parquet").to_pylist()
    assert [row["step"] for row in curve] == list(range(1, 121))
    assert curve[-1]["loss"] < 4.0 < curve[0]["loss"]
    assert [row["step"] for row in curve if row["heldout_loss"] is not None] == [40, 80, 120]
    assert artifact.stats["tokens"] == 120 * 4 * 32
    unsent = json.loads((folder / STATE).read_text())["unsent"]
    assert {name for name, *_ in unsent} >= {"loss", "lr", "grad_norm", "heldout_loss"}
    model = GPT2LMHeadModel.from_pretrained(folder / "hf")
    assert AutoTokenizer.from_pretrained(folder / "hf")("a")["input_ids"]
    assert model.config.vocab_size == 257


def test_a_training_that_stopped_early_tells_which_weights_it_kept(inputs: tuple[Artifact, Artifact]) -> None:
    rates = {"matrix_lr": 0.3, "embedding_lr": 0.3, "vector_lr": 0.3}
    early = {"held_out": {"every_steps": 2, "sequences": 8, "patience": 2}, "guard": {"spike_nats": 0}}
    changed = CONFIG.model_dump() | early | {"optimizer": rates}
    artifact = pretrain.run_now(*inputs, TrainConfig.model_validate(changed))
    curve = pq.read_table(open_store().open(artifact) / "curve.parquet").to_pylist()
    losses = {row["step"]: row["heldout_loss"] for row in curve if row["heldout_loss"] is not None}
    assert artifact.stats["kept_step"] == min(losses, key=lambda step: losses[step])
    assert artifact.stats["kept_step"] < artifact.stats["steps"] < 120
    facts = card_facts("m", [], artifact, open_store().open(artifact), {})
    assert f"- of these the weights after step {artifact.stats['kept_step']}, where" in training_section(
        facts
    )


@pytest.mark.parametrize("inputs", [32], indirect=True, ids=["packed"])
def test_packed_training_watches_held_out_documents_apart_as_it_trains_on_them(
    inputs: tuple[Artifact, Artifact],
) -> None:
    held_out = CONFIG.held_out.model_copy(update={"sequences": 1000})
    config = CONFIG.model_copy(update={"precision": "float32", "held_out": held_out})
    told = pretrain.run_now(*inputs, config)
    model = load_hf(open_store().open(told) / "hf").eval()
    shard = open_set(open_store().open(inputs[0])).held_out
    assert shard is not None
    losses = []
    for document in np.split(shard.ids.astype(np.int64), shard.offsets[1:-1]):
        before = np.append(0, document[:-1])
        for start in range(0, len(document), 32):
            x, y = (torch.from_numpy(row[None, start : start + 32]) for row in (before, document))
            losses += model.token_losses(x, y)[0].tolist()
    assert told.stats["heldout_loss"] == pytest.approx(np.mean(losses), abs=1e-4)


def test_shards_of_a_bucket_are_read_through_a_cache_to_the_same_weights(
    s3: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    one_at_a_time = CONFIG.hardware.model_copy(update={"shard_cache_gb": 20_000 / 1e9})
    config = CONFIG.model_copy(update={"steps": 20, "hardware": one_at_a_time})
    digests = []
    for store in (str(home / "store"), f"{s3}/{uuid.uuid4().hex}"):
        monkeypatch.setenv("MODELMILL_STORE", store)
        shards = made("tokenize", lambda folder: make_shards(folder, 0))
        digests.append(pretrain.run_now(shards, made("train_tokenizer", make_tokenizer), config).digest)
    assert digests[0] == digests[1]
    copies = {path.parents[1].name for path in home.glob("scratch/*/copies/*/*/manifest.json")}
    assert copies == {"train_tokenizer"}


def test_a_cache_that_holds_no_shard_is_refused_with_what_would(
    s3: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELMILL_STORE", f"{s3}/{uuid.uuid4().hex}")
    hardware = CONFIG.hardware.model_copy(update={"shard_cache_gb": 10_000 / 1e9})
    shards, tokenizer = made("tokenize", lambda folder: make_shards(folder, 0)), made("t", make_tokenizer)
    with pytest.raises(TokensError, match=r"shard_cache_gb is 1e-05, .* set it to at least 1\.\d+e-05"):
        pretrain.run_now(shards, tokenizer, CONFIG.model_copy(update={"hardware": hardware}))


def test_packed_shards_of_a_bucket_give_the_same_batches(
    s3: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELMILL_STORE", f"{s3}/{uuid.uuid4().hex}")
    artifact = made("tokenize", lambda folder: make_shards(folder, 32))
    hardware = CONFIG.hardware.model_copy(update={"shard_cache_gb": 20_000 / 1e9})
    config = CONFIG.model_copy(update={"hardware": hardware})
    near, far = (
        TokenBatches(open_tokens(place, tmp_path, config), config, rank=0, world=1)
        for place in (str(open_store().open(artifact)), artifact.uri)
    )
    assert near.identity == far.identity
    ahead: list[set[tuple[int, int]]] = []
    monkeypatch.setattr(RemoteSet, "prefetch", lambda _self, wanted: ahead.append(set(wanted)))
    for index in (70, 71, 72, 0):  # as a training that goes on from a checkpoint, and one that goes back
        assert all(map(np.array_equal, near.batch(index), far.batch(index)))
    assert ahead == [{(0, 0), (0, 1)}] * 2


SCRIPT = """
import sys
from storage.artifacts import Artifact
from tasks.gpt.config import TrainConfig
from tasks.pretraining import pretrain
shards, tokenizer = (Artifact.model_validate_json(text) for text in sys.argv[1:3])
pretrain.run_now(shards, tokenizer, TrainConfig.model_validate_json(sys.argv[3]))
"""


@pytest.mark.parametrize("inputs", [32], indirect=True, ids=["packed"])
@pytest.mark.slow
def test_killed_with_its_whole_tree_it_ends_with_the_same_bytes(
    inputs: tuple[Artifact, Artifact], home: Path, tmp_path: Path
) -> None:
    straight = pretrain.run_now(*inputs, CONFIG)
    open_store().open(straight).rename(tmp_path / "aside")
    arguments = [inputs[0].model_dump_json(), inputs[1].model_dump_json(), CONFIG.model_dump_json()]
    with subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments]) as process:
        try:
            while process.poll() is None and newest_step(home) < 50:
                time.sleep(0.02)
        finally:
            process.kill()
    notes: list[str] = []
    with listening(lambda event: notes.append(event.detail.get("text", ""))):
        again = pretrain.run_now(*inputs, CONFIG)
    assert again.key == straight.key
    assert again.digest == straight.digest
    assert '"resumed"' in (open_store().open(again) / "environment.json").read_text()
    assert any(note.startswith("going on from the checkpoint of step ") for note in notes)


@pytest.mark.slow
def test_one_of_two_processes_that_is_killed_costs_a_restart_and_no_bits(
    inputs: tuple[Artifact, Artifact], home: Path, tmp_path: Path
) -> None:
    two = CONFIG.hardware.model_copy(update={"processes": 2})
    config = CONFIG.model_copy(update={"hardware": two})
    straight = pretrain.run_now(*inputs, config)
    open_store().open(straight).rename(tmp_path / "aside")

    def kill_one() -> None:
        while newest_step(home) < 40:
            time.sleep(0.05)
        below = psutil.Process().children(recursive=True)
        next(process for process in below if rank(process) == "1").kill()

    killer = threading.Thread(target=kill_one)
    killer.start()
    again = pretrain.run_now(*inputs, config)
    killer.join()
    assert '"resumed"' in (open_store().open(again) / "environment.json").read_text()
    assert again.digest == straight.digest


@pytest.mark.slow
def test_what_several_processes_fail_of_is_said_without_a_traceback(
    inputs: tuple[Artifact, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    two = CONFIG.hardware.model_copy(update={"processes": 2, "device": "cuda"})
    with pytest.raises(TrainingError, match=r"words: train.hardware.device is cuda, [^\n]* to auto or cpu"):
        pretrain.run_now(*inputs, CONFIG.model_copy(update={"hardware": two}))


def rank(process: psutil.Process) -> str | None:
    with suppress(psutil.NoSuchProcess):  # what another test has left may end just now
        return process.environ().get("RANK")
    return None


def newest_step(home: Path) -> int:
    # No `**`: it would enter the folder of a checkpoint being written, and fail as that is renamed.
    saved = home.glob("store/pretrain/*.partial/work/checkpoints/step-*")
    return max((int(path.name.removeprefix("step-")) for path in saved), default=0)


def test_too_little_text_is_said_with_both_numbers(inputs: tuple[Artifact, Artifact]) -> None:
    with pytest.raises(TooLittleTextError, match=r"12,000 tokens has 374 sequences of 32"):
        pretrain.run_now(*inputs, CONFIG.model_copy(update={"batch_sequences": 10_000}))


def save_base(folder: Path, seed: int) -> Path:
    model = GPT(GPTConfig(257, 2, 2, 32, 32))
    model.init_weights(seed)
    with torch.no_grad():
        model.ln_f.bias.add_(model.wte.weight[7] * 500)  # a model of few words: it always says token 7
    (folder / "tokenizer").mkdir(parents=True)
    make_tokenizer(folder / "tokenizer")
    save_hf(model, folder / "tokenizer", folder / "hf")
    return folder / "hf"


def found(config: TrainConfig, inputs: tuple[Artifact, Artifact]) -> Artifact | None:
    """The starting point of a run that has these inputs' tokenizer."""
    return starting_point(config, open_store().open(inputs[1]))


def test_training_goes_on_from_a_model_wherever_it_lies(
    inputs: tuple[Artifact, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.model_copy(update={"steps": 1, "init_from": str(save_base(tmp_path / "a", 1))})
    base = found(config, inputs)
    assert base is not None
    trained = pretrain.run_now(*inputs, config, base)
    assert pretrain.run_now(*inputs, config.model_copy(update={"steps": 1}), base) == trained
    elsewhere = config.model_copy(update={"init_from": str(save_base(tmp_path / "b", 1))})
    assert found(elsewhere, inputs) == base
    assert pretrain.recipe_for(*inputs, elsewhere, base) == pretrain.recipe_for(*inputs, config, base)
    other = found(config.model_copy(update={"init_from": str(save_base(tmp_path / "c", 2))}), inputs)
    assert other is not None
    assert pretrain.recipe_for(*inputs, config, other) != pretrain.recipe_for(*inputs, config, base)
    losses = pq.read_table(open_store().open(trained) / "curve.parquet")["loss"].to_pylist()
    assert losses[0] > 6.0  # drawn anew it would be ln 257 = 5.55
    monkeypatch.setattr(registry, "version_artifact", lambda model: ("pretrain", trained.key))
    assert found(config.model_copy(update={"init_from": "models:/m@champion"}), inputs) == trained


def test_an_older_files_spelling_of_the_same_tokenizer_is_no_other_one(
    inputs: tuple[Artifact, Artifact], tmp_path: Path
) -> None:
    folder = save_base(tmp_path / "base", 1)
    settings = json.loads((folder / "tokenizer.json").read_text())
    for newer in ("byte_fallback", "ignore_merges"):
        del settings["model"][newer]
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    config = CONFIG.model_copy(update={"steps": 1, "init_from": str(folder)})
    assert pretrain.run_now(*inputs, config, found(config, inputs)).stats["steps"] == 1


def altered(file: Path, before: str, after: str) -> None:
    """Replace text in a file that has it."""
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


@pytest.mark.parametrize(
    ("file", "before", "after", "complaint"),
    [
        ("config.json", '"n_layer": 2', '"n_layer": 3', r"another shape: set train.model.layers to 3$"),
        ("config.json", '"n_inner": null', '"n_inner": 7', r"n_inner is 7"),
        ("config.json", '"vocab_size": 257', '"vocab_size": 320', r"257 entries and its embedding 320 rows"),
        ("tokenizer.json", '"!":', '"~~":', r"another tokenizer than the run: set tokenize.adopt to /.*/hf$"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_with_what_does_before_it_is_taken(
    inputs: tuple[Artifact, Artifact], tmp_path: Path, file: str, before: str, after: str, complaint: str
) -> None:
    folder = save_base(tmp_path / "base", 1)
    config = CONFIG.model_copy(update={"init_from": str(folder)})
    base = found(config, inputs)
    altered(folder / file, before, after)
    with pytest.raises((TrainingError, ExportError), match=complaint):
        found(config, inputs)
    assert list(open_store().artifacts("adopt_model")) == [base]


def test_pretraining_itself_refuses_a_model_of_another_shape(
    inputs: tuple[Artifact, Artifact], tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"init_from": str(save_base(tmp_path / "base", 1))})
    shape = CONFIG.model.model_copy(update={"context": 16, "layers": 3})
    with pytest.raises(TrainingError, match=r"set train.model.layers to 2, train.model.context to 32$"):
        pretrain.run_now(*inputs, config.model_copy(update={"model": shape}), found(config, inputs))


def test_weights_that_are_not_whole_are_refused_before_any_work(
    inputs: tuple[Artifact, Artifact], tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"init_from": str(save_base(tmp_path / "base", 1))})
    weights = tmp_path / "base/hf/model.safetensors"
    tensors = load_file(weights)
    short = {**tensors, "transformer.wpe.weight": tensors["transformer.wpe.weight"][:8].clone()}
    less = {name: tensor for name, tensor in tensors.items() if "h.1.mlp.c_fc.bias" not in name}
    for broken, complaint in (
        (less, r"lacks transformer.h.1.mlp.c_fc.bias: it is not a whole GPT-2"),
        (short, r"transformer.wpe.weight is \[8, 32\], config.json says \[32, 32\]"),
    ):
        save_file(broken, weights)
        with pytest.raises(ExportError, match=complaint):
            found(config, inputs)
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ExportError, match=r"cannot be read .*: fetch it again"):
        found(config, inputs)


def test_half_a_folder_is_refused_and_a_tokenizer_of_the_runs_own(
    inputs: tuple[Artifact, Artifact], tmp_path: Path
) -> None:
    folder = save_base(tmp_path / "base", 1)
    config = CONFIG.model_copy(update={"init_from": str(folder)})
    with pytest.raises(TrainingError, match=f"would train another: set tokenize.adopt to {folder}"):
        starting_point(config, None)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ArtifactMissingError, match=r"lacks model.safetensors"):
        found(config, inputs)


@pytest.mark.parametrize("inputs", [64], indirect=True, ids=["packed for 64"])
def test_packing_for_another_context_is_said(inputs: tuple[Artifact, Artifact]) -> None:
    with pytest.raises(ChangedDataError, match=r"sequences of 64 tokens.*tokenize.packed_length to 32"):
        pretrain.run_now(*inputs, CONFIG)


def test_what_people_should_know_of_a_training_is_shown_and_a_rewind_reaches_the_curve() -> None:
    shown: list[str] = []
    run, curve = Mock(), Mock()
    run.progress.note = shown.append
    hear = listener(run, CONFIG, curve)
    hear({"kind": "note", "text": "the checkpoint of step 50 is damaged"})
    curve.go_back.assert_not_called()
    hear({"kind": "note", "text": "step 51: a spike", "batch": 50, "checkpoint": 40})
    curve.go_back.assert_called_once_with(40)
    assert shown == ["the checkpoint of step 50 is damaged", "step 51: a spike"]


def test_settings_are_flat_parameters() -> None:
    assert flatten({"a": 1, "b": {"c": 2, "d": {"e": 3}}}) == {"a": 1, "b.c": 2, "b.d.e": 3}
