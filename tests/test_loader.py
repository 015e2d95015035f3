"""The loader: one global order for any number of ranks, from any position, over everything exactly once."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.tokens.errors import ChangedDataError, TooLittleTextError
from tasks.tokens.loader import ArrayShard, Loader, Stream, evenly_spaced
from tasks.tokens.permutation import combine, permute


def make(lengths: list[int], **settings: int) -> Loader:
    ids = np.arange(sum(lengths), dtype=np.uint16)
    pieces = np.split(ids, np.cumsum(lengths)[:-1])
    options = {"seq_len": 4, "global_batch": 2, "seed": 1, **settings}
    return Loader(pieces, manifest_digest="m", **options)  # type: ignore[arg-type]


def firsts(loader: Loader, batches: range) -> list[int]:
    return [int(first) for index in batches for first in loader.batch(index)[0][:, 0]]


@given(st.integers(1, 5000), st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_a_permutation_is_one(n: int, key: int) -> None:
    found = permute(np.arange(n), n, key)
    assert np.array_equal(np.sort(found), np.arange(n))


@given(st.integers(2**30, 2**52), st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_large_permutations_stay_inside_and_apart(n: int, key: int) -> None:
    places = np.unique(np.linspace(0, n - 1, 2000).astype(np.int64))
    found = permute(places, n, key)
    assert found.min() >= 0
    assert found.max() < n
    assert len(np.unique(found)) == len(places)
    assert np.array_equal(permute(places[::-1], n, key)[::-1], found)


def test_permutations_are_fixed_for_ever() -> None:
    assert permute(np.arange(10), 10, 7).tolist() == [6, 8, 1, 7, 9, 2, 3, 5, 4, 0]
    assert combine(1, 2, 3) == 15020427595393229491


def test_a_permutation_mixes() -> None:
    n = 10_000
    moved = permute(np.arange(n), n, 3)
    assert abs(np.corrcoef(np.arange(n), moved)[0, 1]) < 0.05
    steps = np.abs(np.diff(moved))
    assert 0.30 * n < steps.mean() < 0.37 * n
    assert (permute(np.arange(n), n, 4) == moved).mean() < 0.002


def test_positions_outside_are_refused() -> None:
    with pytest.raises(ValueError, match=r"outside 0\.\.9"):
        permute(np.array([10]), 10, 0)


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(lambda lengths: sum(lengths) > 20),
    st.integers(1, 7),
    st.integers(0, 100),
    st.sampled_from([(1, 1), (2, 1), (3, 2), (1024, 4)]),
)
@settings(max_examples=40, deadline=None)
def test_an_epoch_is_every_window_once_across_shards(
    lengths: list[int], seq_len: int, seed: int, blocks: tuple[int, int]
) -> None:
    block, pool = blocks
    loader = make(lengths, seq_len=seq_len, global_batch=1, seed=seed, block_windows=block, pool_blocks=pool)
    windows = (sum(lengths) - 1) // seq_len
    assert loader.sequences == windows
    for epoch in range(2):
        seen = []
        for index in range(epoch * windows, (epoch + 1) * windows):
            x, y = loader.batch(index)
            assert x.dtype == y.dtype == np.int64
            assert np.array_equal(x[0] + 1, y[0])
            assert np.array_equal(np.diff(x[0]), np.ones(seq_len - 1))
            seen.append(int(x[0, 0]))
        assert sorted(seen) == list(range(0, windows * seq_len, seq_len))


@given(st.integers(1, 4), st.integers(0, 30), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_ranks_together_see_what_one_sees(world: int, index: int, seed: int) -> None:
    options = {"global_batch": 12, "seed": seed, "seq_len": 5}
    alone = make([100, 333], **options)
    x, y = alone.batch(index)
    slices = [make([100, 333], **options, rank=rank, world=world).batch(index) for rank in range(world)]
    assert np.array_equal(np.concatenate([part[0] for part in slices]), x)
    assert np.array_equal(np.concatenate([part[1] for part in slices]), y)


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=12))
@settings(max_examples=30, deadline=None)
def test_any_position_gives_what_going_there_gives(jumps: list[int]) -> None:
    straight, jumping = make([4000, 3000]), make([4000, 3000])
    for index in jumps:
        there = make([4000, 3000])
        assert np.array_equal(jumping.batch(index)[0], there.batch(index)[0])
    sequence = [straight.batch(index)[0] for index in range(40)]
    assert np.array_equal(sequence[39], jumping.batch(39)[0])


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    loader = make([2001], global_batch=10)
    epoch = loader.sequences // 10
    orders = [firsts(loader, range(0, epoch)), firsts(loader, range(epoch, 2 * epoch))]
    orders.append(firsts(make([2001], global_batch=10, seed=2), range(0, epoch)))
    assert len({tuple(order) for order in orders}) == 3
    assert len({tuple(sorted(order)) for order in orders}) == 1


def test_batches_go_on_over_the_end_of_an_epoch() -> None:
    loader = make([41], global_batch=3)  # ten sequences: the fourth batch ends two into the next epoch
    found = firsts(loader, range(10))
    for epoch in range(3):
        assert sorted(found[epoch * 10 : (epoch + 1) * 10]) == list(range(0, 40, 4))


def test_pools_keep_the_shards_in_use_few() -> None:
    options = {"seq_len": 4, "global_batch": 8, "block_windows": 16, "pool_blocks": 4}
    near, far = (make([64 * 4] * 32, **options | {"pool_blocks": pool}) for pool in (4, 1000))
    assert len(near.upcoming(0, 8)) <= 8
    assert len(far.upcoming(0, 8)) > 20
    touched = {shard for _, shard in near.upcoming(3, 1)}
    starts = {int(first) // 256 for first in near.batch(3)[0][:, 0]}
    assert starts <= touched


def test_a_small_cache_serves_many_batches_of_a_large_set() -> None:
    blocks, sequences = 64, 1024
    shard = ArrayShard(np.zeros(blocks * sequences * 4, np.uint16))
    loader = Loader([Stream([shard] * 100)], seq_len=4, global_batch=512, seed=0, manifest_digest="m")
    for index in (0, 960):
        assert len(loader.upcoming(index, 32)) <= 2 * 16


@given(
    st.lists(
        st.tuples(st.integers(10, 200), st.sampled_from([0.25, 0.5, 1.0, 1.5, 3.0])), min_size=1, max_size=4
    )
)
@settings(max_examples=40, deadline=None)
def test_a_mixture_reads_each_group_as_often_as_stated(groups: list[tuple[int, float]]) -> None:
    streams, first = [], 0
    for length, repeats in groups:
        ids = np.arange(first, first + length, dtype=np.uint16)
        streams.append(Stream([ArrayShard(ids)], repeats, str(first)))
        first += length
    try:
        loader = Loader(streams, seq_len=2, global_batch=1, seed=3, manifest_digest="m")
    except TooLittleTextError:
        assert not all(round((length - 1) // 2 * repeats) for length, repeats in groups)
        return
    epochs = 4
    found = np.array(firsts(loader, range(epochs * loader.sequences)))
    first = 0
    for length, repeats in groups:
        windows, mine = (length - 1) // 2, found[(found >= first) & (found < first + length)]
        expected = round(windows * repeats)
        assert len(mine) == epochs * expected
        if windows:
            counts = np.bincount((mine - first) // 2, minlength=windows)
            exact = Fraction(epochs * expected, windows)
            assert counts.min() >= exact // 1
            assert counts.max() <= -(-exact // 1)
        first += length


def test_a_state_leads_back_and_other_data_is_refused() -> None:
    loader = make([1000])
    loader.batch(6)
    state = loader.state()
    assert state == {"manifest_digest": "m", "seed": 1, "sequence_length": 4, "samples_seen": 14}
    again = make([1000])
    assert again.restore(state) == 7
    assert again.state() == state
    wide = make([1000], global_batch=14)
    assert wide.restore(state) == 1
    for key, value, said in [
        ("manifest_digest", "other", r"manifest_digest was 'other' and is 'm'"),
        ("seed", 2, "seed was 2 and is 1"),
        ("sequence_length", 8, "sequence_length was 8 and is 4"),
        ("samples_seen", 13, "13 samples are no multiple of the batch of 2"),
    ]:
        with pytest.raises(ChangedDataError, match=said):
            make([1000]).restore({**state, key: value})


def test_too_little_text_is_said_with_both_numbers() -> None:
    with pytest.raises(TooLittleTextError, match=r"has 100 tokens, but one sequence takes 257"):
        make([60, 40], seq_len=256)
    with pytest.raises(
        TooLittleTextError, match=r"of 100 tokens has 24 sequences of 4, but one batch takes 32"
    ):
        make([60, 40], global_batch=32)
    with pytest.raises(ValueError, match="batch of 5 sequences cannot be shared by 2"):
        make([100], global_batch=5, world=2)


def test_a_group_of_the_mixture_too_small_for_one_sequence_is_said_and_not_left_out() -> None:
    streams = [
        Stream([ArrayShard(np.zeros(tokens, np.uint16))], repeats, name)
        for name, tokens, repeats in (("en", 10_000, 0.04), ("zh", 100, 4.0))
    ]
    with pytest.raises(TooLittleTextError, match=r"the text of zh is too little for one sequence of 128"):
        Loader(streams, seq_len=128, global_batch=1, seed=0, manifest_digest="m")
    Loader(streams, seq_len=64, global_batch=1, seed=0, manifest_digest="m")


class Named(ArrayShard):
    def documents(self, start: int, stop: int) -> list[str]:
        return [str(token) for token in self.ids[start:stop]]


def test_the_documents_of_a_batch_are_those_of_its_tokens() -> None:
    ids = np.arange(100, dtype=np.uint16)
    shards = [Named(ids[:33]), Named(ids[33:35]), Named(ids[35:])]
    loader = Loader([Stream(shards)], seq_len=7, global_batch=4, seed=0, manifest_digest="m", rank=1, world=2)
    alone = Loader([Stream(shards)], seq_len=7, global_batch=4, seed=0, manifest_digest="m")
    x, y = alone.batch(2)
    tokens = np.unique(np.concatenate([x.ravel(), y.ravel()])).tolist()
    assert sorted(map(int, loader.documents(2))) == tokens


def test_held_out_windows_are_spread_and_whole() -> None:
    ids = np.arange(1000, dtype=np.uint16)
    windows = evenly_spaced(ids, 9, 5)
    assert windows.shape == (5, 10)
    assert windows[:, 0].tolist() == [0, 240, 490, 740, 990]
    assert evenly_spaced(ids, 9, 5000).shape == (100, 10)
    assert evenly_spaced(ids[:5], 9, 5).shape == (0, 10)
