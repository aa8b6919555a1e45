"""Mixtures: exact counts, no sample twice, and each dataset's own order kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sigma_pipeline.data_prep.mixture import MixtureOrder, mixture_counts
from sigma_pipeline.data_prep.order import GlobalOrder, Order, RepeatedOrder
from sigma_pipeline.data_prep.windows import WindowedOrder
from sigma_pipeline.infra.errors import ConfigError

EPOCHS = st.integers(0, 2**40)


@st.composite
def mixtures(draw: st.DrawFn) -> MixtureOrder:
    sizes = draw(st.lists(st.integers(20, 300), min_size=1, max_size=5))
    weights = [draw(st.integers(1, 20)) / 10 for _ in sizes]
    seed = draw(st.integers(-(2**70), 2**70))
    return MixtureOrder([GlobalOrder(size, seed) for size in sizes], weights, seed)


def mixture_of(sizes: list[int], weights: list[float], seed: int = 0) -> MixtureOrder:
    return MixtureOrder([GlobalOrder(size, seed) for size in sizes], weights, seed)


def whole_epoch(order: Order, epoch: int = 0) -> NDArray[np.int64]:
    return order.samples(epoch, np.arange(order.num_positions))


@given(mixtures(), EPOCHS)
def test_no_sample_stands_twice_in_an_epoch(order: MixtureOrder, epoch: int) -> None:
    samples = whole_epoch(order, epoch)

    assert len(set(samples.tolist())) == order.num_positions
    assert 0 <= samples.min() <= samples.max() < order.num_samples


@given(mixtures(), EPOCHS, st.data())
def test_any_position_is_found_without_the_others(
    order: MixtureOrder, epoch: int, data: st.DataObject
) -> None:
    some = data.draw(st.lists(st.integers(0, order.num_positions - 1), max_size=9))
    positions = np.array(some, dtype=np.int64)

    expected = whole_epoch(order, epoch)[positions]
    assert order.samples(epoch, positions).tolist() == expected.tolist()


@given(
    st.lists(st.tuples(st.integers(30, 3000), st.integers(1, 30)), min_size=1, max_size=5), EPOCHS
)
def test_each_dataset_has_exactly_its_share_of_every_epoch(
    parts: list[tuple[int, int]], epoch: int
) -> None:
    sizes, weights = [size for size, _ in parts], [weight / 10 for _, weight in parts]
    order = mixture_of(sizes, weights)
    of_part = np.repeat(np.arange(len(sizes)), sizes)[whole_epoch(order, epoch)]

    counts = np.bincount(of_part, minlength=len(sizes))

    shares = np.array(weights) / sum(weights)
    assert counts.tolist() == mixture_counts(sizes, weights)
    assert np.abs(counts - shares * order.num_positions).max() < 1
    # The epoch could not be longer: one more clip, and some dataset would be short.
    assert (np.array(sizes) / shares).min() < order.num_positions + 1 + 1e-6


@given(mixtures(), EPOCHS, st.integers(1, 60))
def test_every_stretch_has_about_the_shares_of_the_whole(
    order: MixtureOrder, epoch: int, length: int
) -> None:
    sizes = [part.num_samples for part in order._parts]
    of_part = np.repeat(np.arange(len(sizes)), sizes)[whole_epoch(order, epoch)]
    shares = np.bincount(of_part, minlength=len(sizes)) / order.num_positions

    for first in range(0, order.num_positions - length, length):
        counts = np.bincount(of_part[first : first + length], minlength=len(sizes))
        assert np.abs(counts - shares * length).max() < len(sizes) + 1


@pytest.mark.parametrize(
    ("sizes", "weights", "counts"),
    [
        ([70, 1000], [0.7, 0.3], [70, 30]),
        ([10, 1000], [0.1, 0.9], [10, 90]),
        ([100, 200], [1 / 3, 2 / 3], [100, 200]),
        ([10, 10, 10], [1, 1, 1], [10, 10, 10]),
        ([10, 10, 10], [5, 1, 1], [10, 2, 2]),
        ([7, 100], [0.3, 0.7], [7, 16]),
        ([5], [2], [5]),
        ([1, 1000], [1, 1000], [1, 1000]),
    ],
)
def test_an_epoch_is_as_long_as_the_scarcest_dataset_allows(
    sizes: list[int], weights: list[float], counts: list[int]
) -> None:
    assert mixture_counts(sizes, weights) == counts


def test_weights_count_relative_to_each_other() -> None:
    assert mixture_counts([90, 90], [0.2, 0.1]) == mixture_counts([90, 90], [10, 5]) == [90, 45]


def test_a_dataset_of_which_an_epoch_takes_a_part_shows_another_part_the_next_time() -> None:
    order = mixture_of([1000, 50], [1, 1])
    epochs = [set(whole_epoch(order, epoch).tolist()) for epoch in range(3)]

    assert [len(epoch & set(range(1000))) for epoch in epochs] == [50, 50, 50]
    assert len(set.union(*epochs) & set(range(1000))) > 130
    assert all(set(range(1000, 1050)) <= epoch for epoch in epochs)


def test_epochs_and_seeds_differ() -> None:
    orders = [mixture_of([50, 70], [1, 1], seed) for seed in (0, 1)]

    assert len({tuple(whole_epoch(order, epoch)) for order in orders for epoch in (0, 1)}) == 4


def test_which_dataset_comes_first_is_drawn_for_each_epoch() -> None:
    order = mixture_of([50, 50], [1, 1])
    first = [bool(order.samples(epoch, np.array([0]))[0] < 50) for epoch in range(40)]

    assert 5 < sum(first) < 35


def test_windows_of_shards_stay_windows_in_a_mixture() -> None:
    windowed = WindowedOrder(np.full(20, 10), 2, 0)
    order = MixtureOrder([windowed, GlobalOrder(300, 0)], [1, 1], 0)

    samples = whole_epoch(order, 5)

    assert samples[samples < 200].tolist() == whole_epoch(windowed, 5).tolist()


def test_a_part_may_repeat_its_samples() -> None:
    order = MixtureOrder([RepeatedOrder(GlobalOrder(10, 0), 2), GlobalOrder(50, 0)], [1, 1], 0)

    counts = np.bincount(whole_epoch(order), minlength=order.num_samples)

    assert (order.num_positions, order.num_samples) == (40, 60)
    assert counts[:10].tolist() == [2] * 10
    assert counts[10:].max() == 1


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf"), 1e-9])
def test_a_weight_that_is_no_share_is_refused(weight: float) -> None:
    with pytest.raises(ConfigError, match="weights of a mixture must be"):
        mixture_of([10, 10], [1.0, weight])


def test_an_epoch_of_nothing_is_refused_with_its_reason() -> None:
    with pytest.raises(ConfigError, match=r"empty: .*datasets of \[10, 0\] samples"):
        mixture_of([10, 0], [1, 1])


def test_positions_outside_are_refused() -> None:
    order = mixture_of([10, 10], [1, 1])

    for position in (-1, 20):
        with pytest.raises(ValueError, match=r"\[0, 20\)"):
            order.samples(0, np.array([position]))
