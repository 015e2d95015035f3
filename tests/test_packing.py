"""Packing: every token once, whole documents where they fit, hardly any padding, pieces told apart."""

import bisect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.gpt.model import GPT, GPTConfig
from tasks.tokens.errors import TooLittleTextError
from tasks.tokens.packed import PackedLoader, held_out
from tasks.tokens.packing import best_fit_decreasing, plan
from tasks.tokens.sampler import Order
from tasks.tokens.streams import ArrayShard, Stream

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 24))
@settings(max_examples=100, deadline=None)
def test_every_token_is_in_exactly_one_piece(lengths: list[int], seq_len: int) -> None:
    found = plan(np.array(lengths), seq_len)
    places = [
        np.arange(start, start + length)
        for start, length in zip(found.starts.tolist(), found.lengths.tolist(), strict=True)
    ]
    assert np.array_equal(np.sort(np.concatenate(places)), np.arange(sum(lengths)))
    sizes = np.add.reduceat(found.lengths, found.offsets[:-1])
    assert sizes.max() <= seq_len
    ends = np.cumsum([0, *lengths])
    for place in places:  # no piece crosses a document, and only what does not fit is split
        document = bisect.bisect_right(ends, place[0]) - 1
        assert place[-1] < ends[document + 1]
        assert len(place) == seq_len or len(place) == lengths[document] % seq_len


@given(st.lists(st.integers(1, 20), max_size=80), st.integers(20, 30))
@settings(max_examples=150, deadline=None)
def test_the_histogram_packs_as_piece_after_piece_would(lengths: list[int], capacity: int) -> None:
    rooms: list[list[int]] = []
    for length in sorted(lengths, reverse=True):
        fitting = [row for row in rooms if capacity - sum(row) >= length]
        if fitting:
            max(fitting, key=sum).append(length)
        else:
            rooms.append([length])
    counts = np.bincount(lengths, minlength=capacity + 1)[1:]
    found = [
        sorted(length for length, times in pattern for _ in range(times))
        for pattern, count in best_fit_decreasing(counts, capacity)
        for _ in range(count)
    ]
    assert sorted(map(sum, found)) == sorted(map(sum, rooms))
    assert sorted(length for row in found for length in row) == sorted(lengths)


def test_padding_is_next_to_nothing_on_lengths_like_the_webs() -> None:
    rng = np.random.default_rng(0)
    documents = np.maximum(rng.lognormal(6.3, 1.1, 20_000).astype(np.int64), 10)
    assert plan(documents, 1024).padding(1024) < 0.002


def loader(lengths: list[int], seq_len: int = 8, batch: int = 2, **settings: int) -> PackedLoader:
    ids = np.concatenate([[*range(100 * n + 1, 100 * n + length), 0] for n, length in enumerate(lengths)])
    shards = [ArrayShard(part.astype(np.uint16)) for part in np.array_split(ids, 3)]
    order = Order(seq_len, batch, 1, "m", **settings)
    return PackedLoader([Stream(shards)], [plan(np.array(lengths), seq_len)], eos=0, order=order)


@given(st.lists(st.integers(1, 40), min_size=12, max_size=40))
@settings(max_examples=40, deadline=None)
def test_each_token_is_predicted_once_from_its_own_document(lengths: list[int]) -> None:
    packed = loader(lengths, batch=1)
    predicted = []
    for index in range(packed.sequences):
        batch = packed.packed(index)
        x, y, document = batch.inputs[0], batch.targets[0], batch.pieces[0]
        inside = document >= 0
        assert (y[~inside] == 0).all()
        for piece in range(document.max() + 1):
            mine = document == piece
            assert np.ptp(np.flatnonzero(mine)) == mine.sum() - 1
            assert np.array_equal(x[mine][1:], y[mine][:-1])
            assert len({int(token) // 100 for token in y[mine] if token}) <= 1
            first = int(y[mine][0])
            before = 0 if first % 100 <= 1 else first - 1
            assert first == 0 or int(x[mine][0]) == before
        predicted += y[inside].tolist()
    assert sorted(predicted) == sorted(
        token for n, length in enumerate(lengths) for token in [*range(100 * n + 1, 100 * n + length), 0]
    )


def test_held_out_documents_are_packed_as_training_ones_and_spread() -> None:
    lengths = [7, 30, 2, 9, 11, 25, 8, 3, 3, 40, 5]
    ids = np.concatenate([[*range(100 * n + 1, 100 * n + length), 0] for n, length in enumerate(lengths)])
    packed, every = loader(lengths, batch=1), held_out(ids.astype(np.uint16), 0, 8, 1000)
    assert len(every.targets) == packed.sequences
    trained = {str([a.tolist() for a in packed.batch(index)]) for index in range(packed.sequences)}
    rows = zip(*every.arrays, strict=True)
    assert {str([[array.tolist()] for array in row]) for row in rows} == trained
    assert held_out(ids.astype(np.uint16), 0, 8, 5).targets.shape == (5, 8)
    assert held_out(np.zeros(0, np.uint16), 0, 8, 5).targets.shape == (0, 8)


def test_ranks_together_see_what_one_sees() -> None:
    lengths = [7, 30, 2, 9, 11, 25, 8, 3, 3, 40, 5]
    alone = loader(lengths, batch=4).packed(3)
    slices = [loader(lengths, batch=4, rank=rank, world=2).packed(3) for rank in range(2)]
    for name in ("inputs", "targets", "pieces"):
        assert np.array_equal(np.concatenate([getattr(s, name) for s in slices]), getattr(alone, name))


class Watched(ArrayShard):
    """A shard that knows whether it was read."""

    read = False

    @property
    def ids(self) -> np.ndarray:
        self.read = True
        return self.tokens_read

    @ids.setter
    def ids(self, value: np.ndarray) -> None:
        self.tokens_read = value

    @property
    def tokens(self) -> int:
        return len(self.tokens_read)


@pytest.mark.parametrize("index", range(6))
def test_what_is_fetched_ahead_is_what_batches_read(index: int) -> None:
    """The token before a piece too, which may lie in the shard before."""
    lengths = [7, 30, 2, 9, 11, 25, 8, 3, 3, 40, 5]
    parts = np.array_split(np.arange(sum(lengths)).astype(np.uint16), 9)
    shards = [Watched(part) for part in parts]
    packed = PackedLoader([Stream(shards)], [plan(np.array(lengths), 8)], eos=0, order=Order(8, 2, 1, "m"))
    expected = packed.upcoming(index, 2)
    packed.batch(index)
    packed.batch(index + 1)
    assert sorted(expected) == [(0, number) for number, shard in enumerate(shards) if shard.read]


def test_too_little_text_is_said() -> None:
    with pytest.raises(TooLittleTextError, match="of 12 tokens has 2 sequences of 8, but one batch takes 5"):
        loader([4, 4, 4], batch=5)


@pytest.fixture(scope="module")
def model() -> GPT:
    made = GPT(GPTConfig(vocab_size=60, n_layer=2, n_head=2, n_embd=32, block_size=24))
    made.init_weights(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(3)  # so that what is attended to decides
    return made


def packed_row() -> tuple[torch.Tensor, torch.Tensor]:
    """Documents of 9, 1 and 11 tokens and 3 places of padding: ids and pieces, (1, 24)."""
    ids = torch.randint(1, 60, (1, 24), generator=torch.Generator().manual_seed(1))
    pieces = torch.tensor([[0] * 9 + [1] + [2] * 11 + [-1] * 3], dtype=torch.int32)
    return ids, pieces


@pytest.mark.parametrize(("precision", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_a_packed_document_has_the_logits_it_has_alone(
    model: GPT, precision: torch.dtype, tolerance: float
) -> None:
    ids, pieces = packed_row()
    with torch.no_grad(), torch.autocast("cpu", precision, enabled=precision != torch.float32):
        together = model(ids, pieces_BT=pieces)[0]
        run_on = model(ids)[0]
        for places in (slice(0, 9), slice(9, 10), slice(10, 21)):
            alone = model(ids[:, places])[0]
            torch.testing.assert_close(together[:, places], alone, atol=tolerance, rtol=0)
    assert (run_on[:, 10:21] - together[:, 10:21]).abs().max() > 0.5


def test_padding_counts_nothing_and_recomputing_changes_nothing(model: GPT) -> None:
    ids, pieces = packed_row()
    targets = ids.roll(-1, dims=1)
    loss = model(ids, targets, pieces)[1]
    elsewhere = targets.clone()
    elsewhere[:, 21:] = 7
    assert torch.equal(model(ids, elsewhere, pieces)[1], loss)
    logits = model(ids, pieces_BT=pieces)[0]
    torch.testing.assert_close(
        loss, torch.nn.functional.cross_entropy(logits[0, :21], targets[0, :21]), atol=1e-5, rtol=0
    )
    model.recompute = True
    torch.testing.assert_close(model(ids, targets, pieces)[1], loss)
    model.recompute = False
