"""What the registered model's code does with prompts: transformers' tokens, any text, any length."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from flows.cli import app
from flows.commands import models
from tasks.gpt.export import save_hf
from tasks.gpt.model import GPT, GPTConfig
from tasks.tokens import bpe

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow", "ignore::DeprecationWarning")

CONTEXT = 40
TEXT = [
    "The mill turns text into models; the river turns the mill. ",
    "磨坊把文字变成模型，河水推动磨坊。",
] * 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served")
    tokenizer = bpe.train(TEXT, 320)
    bpe.save(tokenizer, root / "tokenizer")
    model = GPT(GPTConfig(320, n_layer=2, n_head=2, n_embd=32, block_size=CONTEXT))
    model.init_weights(4)
    with torch.no_grad():  # sharp enough that the likeliest token is not a matter of rounding
        for parameter in model.parameters():
            parameter.mul_(6)
    save_hf(model, root / "tokenizer", root / "hf")
    return root / "hf"


@pytest.fixture(scope="module")
def served(folder: Path) -> Any:
    from tasks.serving.pyfunc_model import TextModel

    model: Any = TextModel()
    model.load_context(SimpleNamespace(artifacts={"hf": str(folder)}))
    return model


def ask(served: Any, prompts: Any, **params: Any) -> Any:
    return served.predict(None, prompts, params)


PROMPTS = ["The mill", "磨坊", "", "models; the river turns", "The mill"]


def test_the_likeliest_tokens_are_those_of_transformers(served: Any, folder: Path) -> None:
    from transformers import AutoTokenizer, GPT2LMHeadModel

    hf: Any = GPT2LMHeadModel.from_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    found = ask(served, PROMPTS, max_new_tokens=20, temperature=0.0)
    for prompt, text in zip(PROMPTS, found, strict=True):
        ids = tokenizer(prompt or "<|endoftext|>", return_tensors="pt", split_special_tokens=bool(prompt))
        out = hf.generate(**ids, max_new_tokens=20, do_sample=False, pad_token_id=0)
        new = out[0, ids["input_ids"].shape[1] :]
        assert text == tokenizer.decode(new, skip_special_tokens=True).removesuffix("\ufffd")


def test_neighbours_in_a_batch_change_nothing(served: Any) -> None:
    options = {"max_new_tokens": 15, "seed": 7}
    together = ask(served, PROMPTS, **options)
    alone = [ask(served, [prompt], **options)[0] for prompt in PROMPTS[:4]]
    assert together[:4] == alone
    assert together[4] != together[0], "the second copy of a prompt takes other random numbers"


def test_a_seed_repeats_and_another_does_not(served: Any) -> None:
    first, again, other = (ask(served, ["The mill"], max_new_tokens=30, seed=s) for s in (1, 1, 2))
    assert first == again != other


def test_top_k_and_top_p_leave_the_likeliest(served: Any) -> None:
    greedy = ask(served, PROMPTS, max_new_tokens=12, temperature=0.0)
    assert ask(served, PROMPTS, max_new_tokens=12, top_k=1, temperature=3.0) == greedy
    assert ask(served, PROMPTS, max_new_tokens=12, top_k=0, top_p=1e-9, temperature=1.0) == greedy


def test_no_share_of_the_mass_leaves_the_likeliest_to_the_command(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "model_folder", lambda _model: folder)
    command = ["generate", "The mill", "--model", "models:/m/1", "--max-new-tokens", "12"]
    texts = {CliRunner().invoke(app, [*command, *more]).stdout for more in (["--top-p=0"], ["--top-k=1"])}
    assert len(texts) == 1


def test_text_ends_before_a_stop_string(served: Any) -> None:
    whole = ask(served, ["The mill"], max_new_tokens=30, temperature=0.0)[0]
    middle = whole[len(whole) // 2 : len(whole) // 2 + 3]
    stopped = ask(served, ["The mill"], max_new_tokens=30, temperature=0.0, stop=[middle, "never"])[0]
    assert stopped == whole[: whole.index(middle)]
    pieces = list(
        served.predict_stream(
            None, ["The mill"], {"max_new_tokens": 30, "temperature": 0.0, "stop": [middle]}
        )
    )
    assert "".join(pieces) == stopped


def test_a_stream_gives_the_same_text_piece_by_piece(served: Any) -> None:
    for prompt in PROMPTS:
        options = {"max_new_tokens": 25, "seed": 3}
        pieces = list(served.predict_stream(None, [prompt], options))
        assert "".join(pieces) == ask(served, [prompt], **options)[0]
        assert all("\ufffd" not in piece for piece in pieces[:-1]) or "\ufffd" in "".join(pieces)


def test_prompts_and_texts_longer_than_the_context(served: Any) -> None:
    long = "The mill turns text into models. " * 20
    ids = served.generator.tokenizer.encode(long).ids
    assert len(ids) > 3 * CONTEXT
    tail = served.generator.tokenizer.decode(ids[-(CONTEXT - 10) :])
    options = {"max_new_tokens": 10, "temperature": 0.0}
    assert ask(served, [long], **options) == ask(served, [tail], **options)
    far = {"max_new_tokens": 3 * CONTEXT, "temperature": 0.0}
    together = ask(served, [long, "The mill", "磨坊"], **far)
    assert together == [ask(served, [prompt], **far)[0] for prompt in (long, "The mill", "磨坊")]
    assert len(served.generator.tokenizer.encode(together[0]).ids) > CONTEXT


@given(st.lists(st.text(st.characters(codec=None), max_size=30), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_any_strings_give_as_many_strings(served: Any, prompts: list[str]) -> None:
    found = ask(served, prompts, max_new_tokens=3)
    assert len(found) == len(prompts)
    for text in found:
        text.encode()
    scores = ask(served, prompts, task="score")
    assert all(row["log_probability"] <= 0 <= row["tokens"] for row in scores)


def test_a_control_token_in_a_prompt_is_text(served: Any) -> None:
    assert 0 not in served.generator.tokenizer.encode("a <|endoftext|> b").ids
    assert ask(served, ["<|endoftext|>"], task="score")[0]["tokens"] > 1


def test_scores_equal_transformers(served: Any, folder: Path) -> None:
    from transformers import AutoTokenizer, GPT2LMHeadModel

    hf: Any = GPT2LMHeadModel.from_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    text = "The river turns the mill; 河水推动磨坊。"
    ids = torch.tensor([[0, *tokenizer(text)["input_ids"]]])
    with torch.no_grad():
        loss = float(hf(ids, labels=ids).loss)
    (score,) = ask(served, [text], task="score")
    assert score["tokens"] == ids.shape[1] - 1
    assert score["log_probability"] == pytest.approx(-loss * score["tokens"], rel=1e-4)
    assert score["perplexity"] == pytest.approx(torch.tensor(loss).exp().item(), rel=1e-3)
    assert ask(served, [""], task="score")[0]["tokens"] == 0


def test_a_long_text_is_scored_as_the_evaluation_scores_it(served: Any, folder: Path) -> None:
    from tasks.evals.windows import token_bits
    from tasks.gpt.export import load_hf

    text = "The mill turns text into models. " * 12
    ids = np.array([0, *served.generator.tokenizer.encode(text).ids])
    (bits,) = token_bits(load_hf(folder), [ids], overlap=0.5, batch_tokens=1000)
    (score,) = ask(served, [text], task="score")
    assert score["tokens"] == len(bits) > 2 * CONTEXT
    assert score["bits_per_byte"] == pytest.approx(bits.sum() / len(text.encode()), rel=1e-4)


def test_every_wrong_parameter_is_named_at_once(served: Any) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException) as caught:
        ask(served, ["x"], temperature=-1.0, top_p=0.0, max_new_tokens=0, colour="red", task="sing")
    for word in ("temperature", "top_p", "max_new_tokens", "colour", "task"):
        assert word in caught.value.message
    with pytest.raises(MlflowException, match="max_new_tokens is 1 to 65,536"):
        ask(served, ["x"], max_new_tokens=10**9)  # a random number for each is drawn beforehand


def test_prompts_come_as_lists_series_tables_and_single_strings(served: Any) -> None:
    import pandas as pd  # type: ignore[import-untyped]

    options = {"max_new_tokens": 4, "temperature": 0.0}
    wanted = ask(served, ["The mill"], **options)
    for form in (
        "The mill",
        np.array(["The mill"]),
        pd.Series(["The mill"]),
        pd.DataFrame({"prompt": ["The mill"]}),
    ):
        assert ask(served, form, **options) == wanted
    with pytest.raises(Exception, match="one column"):
        ask(served, pd.DataFrame({"a": ["x"], "b": ["y"]}), **options)
    assert ask(served, pd.Series([None, float("nan")]), **options) == ask(served, ["", ""], **options)
