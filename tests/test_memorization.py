"""The leak audit: a canary in the training text is found, ordinary text is not, and sources are named."""

import time
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.evals import samples
from tasks.evals.config import MemorizationConfig
from tasks.evals.memorization import audit, draw, repeated, reproduces
from tasks.evals.personal_data import find_pieces
from tasks.evals.token_text import TokenText, find, window_hashes, within_documents
from tasks.gpt.model import GPT, GPTConfig

VOCABULARY, EOS, CONTEXT = 64, 0, 32
CONFIG = MemorizationConfig(windows=40, repeated=10, prefix_tokens=8, continuation_tokens=12)
CANARY = np.random.default_rng(99).integers(1, VOCABULARY, size=40)


def text(documents: Sequence[np.ndarray], name: str = "doc") -> TokenText:
    ids = np.concatenate([np.append(document, EOS) for document in documents]).astype(np.uint16)
    starts = np.concatenate([[0], np.cumsum([len(document) + 1 for document in documents])])
    names = [f"{name}{i}" for i in range(len(documents))]
    return TokenText(ids, starts, names, [f"https://{n}.example/" for n in names])


def noise(count: int, seed: int, length: int = 60) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(1, VOCABULARY, size=(count, length)))


@pytest.fixture(scope="module")
def corpus() -> TokenText:
    """300 documents of noise; 60 of them hold the canary."""
    documents = noise(300, seed=1)
    for i in range(0, 300, 5):
        documents[i] = np.concatenate([documents[i][:10], CANARY, documents[i][:10]])
    return text(documents)


@pytest.fixture(scope="module")
def memorizer(corpus: TokenText) -> GPT:
    """A model trained on that text for so long that it knows the canary, and nothing else by heart."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model = GPT(GPTConfig(VOCABULARY, n_layer=2, n_head=2, n_embd=48, block_size=CONTEXT))
    model.init_weights(3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3)
    ids = torch.from_numpy(corpus.ids.astype(np.int64))
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        starts = torch.randint(len(ids) - CONTEXT - 1, (32,), generator=generator)
        window = ids[starts[:, None] + torch.arange(CONTEXT + 1)]
        loss = model(window[:, :-1], window[:, 1:])[1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.set_num_threads(threads)
    return model.eval()


def test_the_canary_is_found_and_named(memorizer: GPT, corpus: TokenText) -> None:
    held_out = text(noise(40, seed=2), "held")
    report = audit(memorizer, [corpus], [held_out], CONFIG, batch_tokens=1000)
    assert report["held_out"]["extracted"] == 0
    assert report["repeated"]["extracted"] >= 1
    example = report["repeated"]["examples"][0]
    assert example["copies"] == 60
    assert example["url"].startswith("https://doc")
    passage = example["prefix_ids"] + example["continuation_ids"]
    assert " ".join(map(str, passage)) in " ".join(map(str, CANARY.tolist()))


def test_without_the_copies_there_is_nothing_to_find(memorizer: GPT) -> None:
    clean = text([*noise(300, seed=1), CANARY])
    report = audit(memorizer, [clean], [text(noise(40, seed=2))], CONFIG, batch_tokens=1000)
    assert report["repeated"]["windows"] == 0
    assert report["training"]["share"] < 0.05


def test_what_held_out_text_has_as_well_is_common_property(corpus: TokenText) -> None:
    assert repeated([corpus], [text(noise(5, seed=4))], 20, 10)[0][2] == 60
    known = repeated([corpus], [text([CANARY])], 20, 10)
    assert all(copies < 10 for _part, _at, copies in known), "what is left reaches beyond the passage"


def test_repeated_passages_are_spread_over_the_scale_and_do_not_overlap() -> None:
    phrases = noise(3, seed=5, length=30)
    documents = [p for p, copies in zip(phrases, (64, 16, 4), strict=True) for _ in range(copies)]
    found = repeated([text(documents)], [], 20, 3)
    assert [copies for _part, _at, copies in found] == [64, 16, 4]


def test_what_one_document_repeats_within_itself_is_its_form_not_a_passage() -> None:
    page = np.concatenate([np.append(CANARY, other[:3]) for other in noise(20, seed=7)])
    assert repeated([text([page])], [], 20, 10) == []
    assert [copies for _, _, copies in repeated([text([page, CANARY, CANARY])], [], 20, 10)] == [3, 3]


def test_a_rule_of_dashes_is_no_passage_but_what_stands_beside_it_is() -> None:
    dashes = np.full(100, 7)
    documents = [np.concatenate([dashes, CANARY, other]) for other in noise(20, seed=6)]
    found = repeated([text(documents)], [], 20, 10)
    assert found
    assert all(position % (len(documents[0]) + 1) > 100 - 16 for _, position, _ in found)


def test_long_tables_of_few_tokens_cost_no_time_with_the_square_of_their_length() -> None:
    """25 s before; 160,000 tokens that three documents share, none of them a passage."""
    table = np.random.default_rng(0).integers(5, 12, 160_000)
    documents = [np.concatenate([head, table]) for head in noise(3, seed=8)]
    start = time.process_time()
    assert repeated([text(documents)], [], 64, 50) == []
    assert time.process_time() - start < 5


def test_windows_are_drawn_from_all_places_in_documents_alike() -> None:
    rng = np.random.default_rng(5)
    parts = [text([np.ones(n, np.int64) for n in rng.integers(1, 40, size=many)]) for many in (30, 1, 12)]
    every = [(n, int(at)) for n, part in enumerate(parts) for at in within_documents(part, 9)]
    assert draw(parts, 9, 10**6, rng) == every
    assert set(draw(parts, 9, 7, rng)) < set(every)
    assert draw([], 9, 7, rng) == draw([text([np.ones(3, np.int64)])], 9, 7, rng) == []


def test_memory_does_not_grow_with_the_text_that_windows_are_drawn_from() -> None:
    starts = np.arange(0, 10**8 + 1, 10**5)
    large = TokenText(np.broadcast_to(np.uint16(1), 10**8), starts, [], [])
    tracemalloc.start()
    assert len(draw([large], 64, 200, np.random.default_rng(0))) == 200
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6


def test_reproduction_equals_generation_token_by_token(memorizer: GPT, corpus: TokenText) -> None:
    from tasks.gpt.sampling import Sampling, generate

    places = draw([corpus], 20, 30, np.random.default_rng(0))
    windows = np.stack([corpus.ids[at : at + 20].astype(np.int64) for _part, at in places])
    windows = np.concatenate([windows, np.stack([CANARY[i : i + 20] for i in range(0, 20, 4)])])
    fast = reproduces(memorizer, windows, 8, batch_tokens=100)
    slow = [
        generate(memorizer, w[:8].tolist(), 12, sampling=Sampling(temperature=0)) == w[8:].tolist()
        for w in windows
    ]
    assert fast.tolist() == slow
    assert any(slow)


@given(st.lists(st.integers(0, 3), min_size=0, max_size=60), st.integers(1, 12))
@settings(deadline=None)
def test_windows_have_equal_hashes_exactly_where_they_are_equal(ids: list[int], length: int) -> None:
    hashes = window_hashes(np.array(ids, dtype=np.uint16), length)
    windows = [tuple(ids[i : i + length]) for i in range(len(ids) - length + 1)]
    assert len(hashes) == len(windows)
    assert (
        len(set(zip(hashes.tolist(), windows, strict=True))) == len(set(windows)) == len(set(hashes.tolist()))
    )


def test_windows_stay_inside_documents(corpus: TokenText) -> None:
    small = text([np.arange(1, 6), np.arange(1, 3), np.arange(1, 5)])
    assert within_documents(small, 4).tolist() == [0, 1, 9]
    windows = np.stack([corpus.ids[at : at + 20] for at in within_documents(corpus, 20)])
    assert not (windows == EOS).any()


def test_passages_are_found_in_their_documents(corpus: TokenText) -> None:
    inside = np.asarray(corpus.ids[corpus.starts[7] + 5 : corpus.starts[7] + 25])
    found = find(
        [text(noise(3, seed=6), "other"), corpus], [inside, CANARY[:9], np.full(20, 63), np.zeros(0, int)]
    )
    assert found[0] is not None
    assert (found[0].doc_id, found[0].position) == ("doc7", 5)
    assert found[1] is not None
    assert found[1].url == "https://doc0.example/"
    assert found[2:] == [None, None]


class Letters:
    """A tokenizer of single characters."""

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        return "".join(map(chr, ids))


def test_copies_in_samples_are_joined_and_name_their_source() -> None:
    source = "the quick brown fox jumps over the lazy dog and runs away"
    training = [text([np.array([ord(c) for c in source])], "page")]
    sample = {"text": "", "ids": [ord(c) for c in "He said: quick brown fox jumps over it; the lazy dog and"]}
    runs = samples.copies([sample], training, Letters(), 10)  # type: ignore[arg-type]
    assert [run["text"] for run in runs] == [" quick brown fox jumps over ", " the lazy dog and"]
    assert runs[0]["url"] == "https://page0.example/"


def test_personal_data_in_samples_is_a_leak_only_where_training_has_it() -> None:
    known, made_up = "jan.kowalski@firma-test.pl", "x.y@elsewhere-mail.net"
    training = [text([np.array([ord(c) for c in f"write to {known} today"])], "page")]
    written = f"Ask {known} or {made_up}."
    sample = {"text": written, "ids": [ord(c) for c in written]}
    found = samples.personal_data([sample], training, Letters(), find_pieces)  # type: ignore[arg-type]
    assert (found["found"], found["from_training"]) == (2, 1)
    assert known not in str(found), "the report does not repeat what must not leak"


@pytest.mark.parametrize(
    ("written", "pieces"),
    [
        ("nothing here", []),
        ("mask <EMAIL> stays", []),
        ("a <EMAIL> and ada@lovelace-mail.org, twice: ada@lovelace-mail.org", ["ada@lovelace-mail.org"] * 2),
        ("+86 138 0013 8000 +86 139 1111 2222 打", ["+86 138 0013 8000", "+86 139 1111 2222"]),
        ("+86 138 0013 8000 +86 139 1111 2222", ["+86 138 0013 8000", "+86 139 1111 2222"]),
        ("Tel: 020 8765 4321 <PHONE> b@lovelace-mail.org.", ["020 8765 4321", "b@lovelace-mail.org"]),
    ],
)
def test_pieces_are_what_masking_would_replace(written: str, pieces: list[str]) -> None:
    assert find_pieces(written) == pieces
