"""The model against transformers' GPT-2, its loss against the plain one, its files against theirs."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.nn import functional as F
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from tasks.gpt import export
from tasks.gpt.errors import ExportError
from tasks.gpt.export import load_hf, save_hf
from tasks.gpt.loss import linear_cross_entropy
from tasks.gpt.model import GPT, GPTConfig
from tasks.gpt.sampling import Sampling, draw, generate

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = GPTConfig(vocab_size=300, n_layer=2, n_head=2, n_embd=32, block_size=16)


@pytest.fixture
def model() -> GPT:
    built = GPT(SHAPE)
    built.init_weights(7)
    with torch.no_grad():  # biases and gains that are not at their neutral start
        generator = torch.Generator().manual_seed(3)
        for parameter in built.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return built.eval()


@pytest.fixture
def tokenizer_folder(tmp_path: Path) -> Path:
    """A byte-level tokenizer whose pre-tokenizer differs from GPT-2's: digits one by one."""
    vocab = {token: i for i, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocab["12"] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[("1", "2")]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def tokens(rows: int = 3, length: int = 16, vocab: int = 300) -> torch.Tensor:
    return torch.randint(0, vocab, (rows, length), generator=torch.Generator().manual_seed(1))


def test_logits_and_loss_equal_transformers(model: GPT, tokenizer_folder: Path, tmp_path: Path) -> None:
    save_hf(model, tokenizer_folder, tmp_path / "hf")
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path / "hf").eval()
    idx = tokens()
    with torch.no_grad():
        expected = theirs(idx, labels=idx)
        logits, _ = model(idx)
        _, loss = model(idx[:, :-1], idx[:, 1:])
    torch.testing.assert_close(logits, expected.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(loss, expected.loss, atol=1e-5, rtol=0)


def test_weights_of_transformers_load_and_come_back_unchanged(tokenizer_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=300, n_layer=2, n_head=4, n_embd=32, n_positions=16)
    theirs = GPT2LMHeadModel(config).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_hf(tmp_path / "theirs").eval()
    idx = tokens()
    with torch.no_grad():
        torch.testing.assert_close(ours(idx)[0], theirs(idx).logits, atol=1e-5, rtol=0)
    save_hf(ours, tokenizer_folder, tmp_path / "again")
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            theirs.state_dict().values(),
            GPT2LMHeadModel.from_pretrained(tmp_path / "again").state_dict().values(),
            strict=True,
        )
    )


def test_exported_tokenizer_gives_the_trained_ids(model: GPT, tokenizer_folder: Path, tmp_path: Path) -> None:
    save_hf(model, tokenizer_folder, tmp_path / "hf")
    text = "def f(x): return 12345  # 数据 é"
    expected = Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json")).encode(text).ids
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert tokenizer(text)["input_ids"] == expected
    assert tokenizer.decode(expected) == text


def test_export_is_the_same_bytes_each_time(model: GPT, tokenizer_folder: Path, tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        save_hf(model, tokenizer_folder, tmp_path / name)
        files = sorted((tmp_path / name).iterdir())
        digests.append([(f.name, hashlib.sha256(f.read_bytes()).hexdigest()) for f in files])
    assert digests[0] == digests[1]


def test_unsupported_folders_are_refused_by_name(model: GPT, tokenizer_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"holds no config\.json"):
        load_hf(tmp_path / "absent")
    save_hf(model, tokenizer_folder, tmp_path / "hf")
    config = json.loads((tmp_path / "hf/config.json").read_text())
    for key, other in (("activation_function", "relu"), ("scale_attn_weights", False)):
        (tmp_path / "hf/config.json").write_text(json.dumps(config | {key: other}))
        with pytest.raises(ExportError, match=f"{key} is {other!r}"):
            load_hf(tmp_path / "hf")
    for key, other in (("n_embd", 64), ("vocab_size", 299), ("vocab_size", 301), ("vocab_size", 64)):
        (tmp_path / "hf/config.json").write_text(json.dumps(config | {key: other}))
        with pytest.raises(ExportError, match=r"wte.weight is \[300, 32\], config\.json says"):
            load_hf(tmp_path / "hf")


def test_a_folder_that_is_torn_is_refused_by_its_file(
    model: GPT, tokenizer_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "hf"
    save_hf(model, tokenizer_folder, folder)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-9])
    with pytest.raises(ExportError, match=r"model\.safetensors cannot be read .*fetch it again"):
        load_hf(folder)
    for text, complaint in (
        ("{", "cannot be used .*fetch it again"),
        ("{}", "has no 'vocab_size'"),
        ("[]", r"cannot be used \(it is \[\]\)"),
    ):
        (folder / "config.json").write_text(text)
        with pytest.raises(ExportError, match=rf"config\.json {complaint}"):
            load_hf(folder)


def test_a_tokenizer_larger_than_the_model_is_refused(tokenizer_folder: Path, tmp_path: Path) -> None:
    small = GPT(GPTConfig(vocab_size=64, n_layer=1, n_head=1, n_embd=8, block_size=8))
    with pytest.raises(ExportError, match="258 entries, the model 64"):
        save_hf(small, tokenizer_folder, tmp_path / "out")


def test_on_a_cpu_in_bfloat16_all_layers_compile_to_one_graph(model: GPT) -> None:
    traced = torch.compile(model.hidden, backend="aot_eager", fullgraph=True)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(traced(tokens()), model.hidden(tokens()), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("chunk", [0, 5, 48])
@pytest.mark.parametrize("closed", [False, True])
def test_chunked_loss_and_gradients_equal_the_plain_ones(chunk: int, closed: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(48, 16, generator=generator, requires_grad=True)
    weight = torch.randn(70, 16, generator=generator, requires_grad=True)
    bias = None
    if closed:
        bias = torch.zeros(70)
        bias[64:] = -1e9
    targets = torch.randint(0, 64, (48,), generator=generator)
    plain = F.cross_entropy(F.linear(x, weight if bias is None else weight[:64]), targets)
    expected = torch.autograd.grad(plain * 3, [x, weight])
    chunked = linear_cross_entropy(x, weight, bias, targets, chunk)
    found = torch.autograd.grad(chunked * 3, [x, weight])
    torch.testing.assert_close(chunked, plain)
    torch.testing.assert_close(found, expected)


def test_padded_rows_never_move_and_never_count(model: GPT) -> None:
    _, loss = model(tokens()[:, :-1], tokens()[:, 1:])
    loss.backward()
    assert model.config.padded_vocab == 320
    assert model.wte.weight.grad is not None
    assert not model.wte.weight.grad[300:].any()
    assert model.logits(model.hidden(tokens())).shape[-1] == 300


def test_no_token_sees_the_future(model: GPT) -> None:
    idx = tokens()
    changed = idx.clone()
    changed[:, 9] = (changed[:, 9] + 1) % 300
    with torch.no_grad():
        before, after = model(idx)[0], model(changed)[0]
    torch.testing.assert_close(before[:, :9], after[:, :9])
    assert not torch.allclose(before[:, 9:], after[:, 9:])


def test_token_losses_sum_to_the_loss(model: GPT) -> None:
    x, y = tokens()[:, :-1], tokens()[:, 1:]
    losses = model.token_losses(x, y)
    assert losses.shape == y.shape
    torch.testing.assert_close(losses.mean(), model(x, y)[1])


def test_recomputed_activations_give_the_same_gradients(model: GPT) -> None:
    model.train()
    x, y = tokens()[:, :-1], tokens()[:, 1:]
    expected = torch.autograd.grad(model(x, y)[1], list(model.parameters()))
    model.recompute = True
    torch.testing.assert_close(torch.autograd.grad(model(x, y)[1], list(model.parameters())), expected)


def test_the_seed_decides_the_weights() -> None:
    def weights(seed: int) -> torch.Tensor:
        built = GPT(SHAPE)
        built.init_weights(seed)
        return built.h[1].mlp.c_proj.weight.detach()

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_too_long_a_sequence_is_refused_with_both_numbers(model: GPT) -> None:
    with pytest.raises(ValueError, match="17 tokens do not fit a context of 16"):
        model(tokens(1, 17))


def test_cached_generation_equals_computing_everything_anew(model: GPT) -> None:
    prompt = [5, 9, 2]
    expected = list(prompt)
    with torch.no_grad():
        for _ in range(10):
            expected.append(int(model(torch.tensor([expected]))[0][0, -1].argmax()))
    assert generate(model, prompt, 10, sampling=Sampling(temperature=0)) == expected[3:]


def test_generation_goes_on_past_the_context_and_repeats_by_seed(model: GPT) -> None:
    first = generate(model, [1] * 40, 50, sampling=Sampling(seed=4))
    assert first == generate(model, [1] * 40, 50, sampling=Sampling(seed=4))
    assert first != generate(model, [1] * 40, 50, sampling=Sampling(seed=5))
    assert len(first) == 50
    assert all(0 <= token < 300 for token in first)


def test_generation_ends_at_the_end_of_text_and_refuses_an_empty_prompt(model: GPT) -> None:
    greedy = Sampling(temperature=0)
    first = generate(model, [5, 9], 3, sampling=greedy)
    assert generate(model, [5, 9], 3, eos=first[0], sampling=greedy) == []
    with pytest.raises(ValueError, match="prompt is empty"):
        generate(model, [], 3)


def test_only_the_likeliest_tokens_are_drawn() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    generator = torch.Generator().manual_seed(0)
    for rule, allowed in (
        (Sampling(1.0, top_k=2, top_p=1.0), {0, 1}),
        (Sampling(1.0, top_k=0, top_p=0.7), {0, 1}),
        (Sampling(1.0, top_k=0, top_p=1.0), {0, 1, 2, 3}),
        (Sampling(0.0), {0}),
    ):
        assert {draw(logits, rule, generator) for _ in range(300)} == allowed


def test_a_full_disk_while_weights_are_written_is_told_with_the_mend(
    model: GPT, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(export, "save_file", full)
    with pytest.raises(ExportError, match=r"could not write .*No space left.*make room and run again"):
        save_hf(model, tokenizer_folder, tmp_path / "hf")
