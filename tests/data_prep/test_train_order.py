"""The order of a training: one dataset or several, samples one by one or window by window."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from sigma_pipeline.data_prep.config import ClipConfig, LoaderConfig
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.order import GlobalOrder
from sigma_pipeline.data_prep.pool import Pool
from sigma_pipeline.data_prep.train_order import build_order, epoch_clips
from sigma_pipeline.infra.errors import ConfigError

WholeEpoch = Callable[..., NDArray[np.int64]]


@pytest.fixture
def whole_epoch(make_index: Callable[..., Index]) -> WholeEpoch:
    """The samples of an epoch, of datasets of some sizes and weights."""

    def samples(
        sizes: Sequence[int], weights: Sequence[float], *, repeats: int = 1, window_shards: int = 0
    ) -> NDArray[np.int64]:
        order = build_order(
            Pool([make_index(size, f"d{number}") for number, size in enumerate(sizes)]),
            weights,
            clip=ClipConfig(clips_per_decode=repeats),
            loader=LoaderConfig(order_window_shards=window_shards),
            seed=5,
        )
        return order.samples(1, np.arange(order.num_positions))

    return samples


def test_one_dataset_is_gone_through_in_its_global_order(whole_epoch: WholeEpoch) -> None:
    expected = GlobalOrder(40, 5).samples(1, np.arange(40))

    assert whole_epoch([40], [7.0]).tolist() == expected.tolist()


def test_an_epoch_is_as_long_as_was_said_and_shared_as_asked(whole_epoch: WholeEpoch) -> None:
    samples = whole_epoch([90, 20], [3, 1], repeats=2)

    assert [int((samples < 90).sum()), int((samples >= 90).sum())] == [120, 40]
    assert epoch_clips([90, 20], [3, 1], 2) == [120, 40]
    assert np.unique(samples, return_counts=True)[1].tolist() == [2] * 80


def test_datasets_of_one_size_are_not_gone_through_in_one_order(whole_epoch: WholeEpoch) -> None:
    samples = whole_epoch([50, 50], [1, 1])

    assert samples[samples < 50].tolist() != (samples[samples >= 50] - 50).tolist()


def test_a_window_keeps_neighbours_in_few_shards(whole_epoch: WholeEpoch) -> None:
    shards = whole_epoch([64], [1.0], window_shards=2) // 4

    assert [len(set(shards[start : start + 8])) for start in range(0, 64, 8)] == [2] * 8


def test_a_mixture_with_an_empty_dataset_is_refused(whole_epoch: WholeEpoch) -> None:
    with pytest.raises(ConfigError, match="an epoch of the mixture is empty"):
        whole_epoch([10, 0], [1, 1])
