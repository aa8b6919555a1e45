"""The order of an epoch is a permutation, and any number of ranks shares it out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_pipeline.data_prep.order import (
    GlobalOrder,
    RepeatedOrder,
    accumulation_steps,
    batches_per_epoch,
)
from sigma_pipeline.infra.errors import ConfigError


def whole_epoch(num_samples: int, seed: int, epoch: int) -> list[int]:
    samples = GlobalOrder(num_samples, seed).samples(epoch, np.arange(num_samples))
    return [int(sample) for sample in samples]


@pytest.mark.parametrize("num_samples", [*range(1, 40), 97, 255, 256, 257, 1009, 10_000])
def test_every_sample_stands_at_exactly_one_position(num_samples: int) -> None:
    assert sorted(whole_epoch(num_samples, 0, 0)) == list(range(num_samples))


@given(st.integers(1, 3000), st.integers(-(2**70), 2**70), st.integers(0, 2**40))
def test_every_seed_and_epoch_gives_a_permutation(num_samples: int, seed: int, epoch: int) -> None:
    assert sorted(whole_epoch(num_samples, seed, epoch)) == list(range(num_samples))


def test_any_position_is_found_without_the_others() -> None:
    order = GlobalOrder(10**12, 5)
    positions = np.array([0, 10**12 - 1, 123_456_789_012])

    together = order.samples(2, positions)

    assert [order.samples(2, positions[i : i + 1])[0] for i in range(3)] == together.tolist()
    assert len(set(together.tolist())) == 3
    assert together.max() < 10**12


def test_epochs_and_seeds_differ() -> None:
    first = whole_epoch(100, 0, 0)

    assert whole_epoch(100, 0, 0) == first
    assert whole_epoch(100, 0, 1) != first
    assert whole_epoch(100, 1, 0) != first


def test_each_permutation_of_four_samples_comes_up_about_equally_often() -> None:
    epochs = 4800
    counts: dict[tuple[int, ...], int] = {}
    for epoch in range(epochs):
        permutation = tuple(whole_epoch(4, 0, epoch))
        counts[permutation] = counts.get(permutation, 0) + 1

    chi_square = sum((count - epochs / 24) ** 2 for count in counts.values()) / (epochs / 24)
    assert len(counts) == 24
    assert chi_square < 50  # 23 degrees of freedom: 0.1 % lie above 49.7


def test_each_sample_stands_at_each_position_about_equally_often() -> None:
    epochs, num_samples = 2000, 13
    counts = np.zeros((num_samples, num_samples))
    for epoch in range(epochs):
        counts[np.arange(num_samples), whole_epoch(num_samples, 1, epoch)] += 1

    expected = epochs / num_samples
    assert ((counts - expected) ** 2 / expected).sum() < 205  # 144 degrees of freedom: 0.1 %


def test_neighbours_of_one_order_are_strangers_in_the_index() -> None:
    steps = np.diff(whole_epoch(10_000, 0, 0))

    assert (np.abs(steps) == 1).mean() < 0.002  # 0.0002 for a random permutation
    assert abs(np.abs(steps).mean() / (10_000 / 3) - 1) < 0.05


def test_the_tail_left_out_is_another_one_each_epoch() -> None:
    order = GlobalOrder(10, 0)
    in_batches = batches_per_epoch(order, 4) * 4

    tails = {frozenset(whole_epoch(10, 0, epoch)[in_batches:]) for epoch in range(20)}

    assert in_batches == 8
    assert len(tails) > 10


def test_positions_outside_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[0, 10\)"):
        GlobalOrder(10, 0).samples(0, np.array([3, 10]))


def test_fewer_samples_than_a_batch_are_refused_with_both_numbers() -> None:
    with pytest.raises(ConfigError, match="is 48, but an epoch has only 47 clips"):
        batches_per_epoch(GlobalOrder(47, 0), 48)
    with pytest.raises(ConfigError, match="is 1, but an epoch has only 0 clips"):
        batches_per_epoch(GlobalOrder(0, 0), 1)


def test_the_order_of_a_run_never_changes() -> None:
    order = GlobalOrder(1_000_003, 7)

    assert order.samples(3, np.arange(4)).tolist() == [310100, 754745, 145281, 789298]


def test_repeated_samples_stand_side_by_side() -> None:
    order = RepeatedOrder(GlobalOrder(13, 4), 3)

    samples = order.samples(1, np.arange(order.num_positions))

    assert (order.num_positions, order.num_samples) == (39, 13)
    assert samples.tolist() == np.repeat(whole_epoch(13, 4, 1), 3).tolist()
    assert order.samples(1, np.array([5, 38])).tolist() == samples[[5, 38]].tolist()
    with pytest.raises(ValueError, match="positions must lie in"):
        order.samples(0, np.array([39]))


@pytest.mark.parametrize(("world_size", "micro", "steps"), [(1, 2, 12), (2, 4, 3), (4, 6, 1)])
def test_accumulation_fills_the_global_batch(world_size: int, micro: int, steps: int) -> None:
    assert accumulation_steps(24, micro, world_size) == steps


def test_ranks_that_cannot_share_a_batch_are_told_what_can() -> None:
    with pytest.raises(ConfigError) as refused:
        accumulation_steps(24, 4, 4)

    assert "Ranks that fit this micro-batch: 1, 2, 3, 6" in str(refused.value)
    assert "micro-batches that fit 4 ranks: 1, 2, 3, 6" in str(refused.value)


def test_ranks_that_fit_no_micro_batch_are_told_so() -> None:
    with pytest.raises(ConfigError, match="micro-batches that fit 5 ranks: none"):
        accumulation_steps(24, 4, 5)
