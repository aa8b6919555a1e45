"""Windows of shards: a permutation that touches few shards at a time."""

import pickle
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sigma_pipeline.data_prep.windows import WindowedOrder

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=30)
EPOCHS = st.integers(0, 2**40)


def order_of(sizes: list[int], window_shards: int, seed: int = 0) -> WindowedOrder:
    return WindowedOrder(np.array(sizes, dtype=np.int64), window_shards, seed)


def whole_epoch(order: WindowedOrder, epoch: int = 0) -> NDArray[np.int64]:
    return order.samples(epoch, np.arange(order.num_positions))


@given(SIZES, st.integers(1, 35), st.integers(-(2**70), 2**70), EPOCHS)
def test_every_sample_stands_at_exactly_one_position(
    sizes: list[int], window_shards: int, seed: int, epoch: int
) -> None:
    order = order_of(sizes, window_shards, seed)

    assert sorted(whole_epoch(order, epoch)) == list(range(sum(sizes)))


@given(SIZES, st.integers(1, 35), EPOCHS)
def test_a_window_is_all_samples_of_its_shards(
    sizes: list[int], window_shards: int, epoch: int
) -> None:
    samples = whole_epoch(order_of(sizes, window_shards), epoch)
    shard_of = np.repeat(np.arange(len(sizes)), sizes)[samples]
    drawn = sorted(range(len(sizes)), key=lambda shard: int(np.argmax(shard_of == shard)))
    end = 0
    for first in range(0, len(sizes), window_shards):
        places = np.flatnonzero(np.isin(shard_of, drawn[first : first + window_shards]))
        assert places.tolist() == list(range(end, end + len(places)))
        end += len(places)


@given(SIZES, st.integers(1, 5), EPOCHS, st.randoms(use_true_random=False))
def test_any_position_is_found_without_the_others(
    sizes: list[int], window_shards: int, epoch: int, random: Random
) -> None:
    order = order_of(sizes, window_shards)
    positions = list(range(order.num_positions))
    random.shuffle(positions)
    expected = whole_epoch(order, epoch)

    for first in range(0, len(positions), 7):
        some = np.array(positions[first : first + 7])
        fresh = order_of(sizes, window_shards)
        assert fresh.samples(epoch, some).tolist() == expected[some].tolist()


def test_epochs_and_seeds_differ_in_shards_and_within_them() -> None:
    sizes = [20] * 12
    orders = [order_of(sizes, 1, seed) for seed in (0, 1)]
    epochs = [whole_epoch(order, epoch) for order in orders for epoch in (0, 1)]

    assert len({tuple(epoch // 20) for epoch in epochs}) == 4
    within = {tuple(epoch[epoch // 20 == 3] % 20) for epoch in epochs}
    assert len(within) == 4


def test_windows_of_one_epoch_are_permuted_differently() -> None:
    epoch = whole_epoch(order_of([30] * 10, 1))

    assert len({tuple(epoch[first : first + 30] % 30) for first in range(0, 300, 30)}) == 10


def test_epochs_may_be_asked_for_in_any_order() -> None:
    order = order_of([5, 3, 8], 2)
    first, second = whole_epoch(order, 0), whole_epoch(order, 1)

    assert whole_epoch(order, 0).tolist() == first.tolist() != second.tolist()


def test_an_order_travels_to_other_processes() -> None:
    order = order_of([5, 3, 8], 2)
    expected = whole_epoch(order)

    assert whole_epoch(pickle.loads(pickle.dumps(order))).tolist() == expected.tolist()


def test_a_shard_without_samples_changes_nothing_for_the_others() -> None:
    assert sorted(whole_epoch(order_of([0, 4, 0, 3, 0], 1))) == list(range(7))


def test_positions_outside_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[0, 8\)"):
        order_of([5, 3], 1).samples(0, np.array([8]))
