"""The order of a training's clips: of one dataset or a mixture, each sample once or several times.

It follows from the sizes of the datasets and the settings alone, so any rank and any worker finds
the sample of any position.
"""

from collections.abc import Sequence

from sigma_pipeline.data_prep.config import ClipConfig, LoaderConfig
from sigma_pipeline.data_prep.draws import sample_seed
from sigma_pipeline.data_prep.mixture import MixtureOrder, mixture_counts
from sigma_pipeline.data_prep.order import GlobalOrder, Order, RepeatedOrder
from sigma_pipeline.data_prep.pool import Pool
from sigma_pipeline.data_prep.windows import WindowedOrder


def build_order(
    pool: Pool, weights: Sequence[float], *, clip: ClipConfig, loader: LoaderConfig, seed: int
) -> Order:
    """The order of the samples of ``pool``; ``weights`` are those of its datasets, in any unit.

    Raises:
        ConfigError: nothing fits in an epoch.
    """
    order: Order
    if len(pool.indexes) == 1:
        order = _part(pool, 0, loader.order_window_shards, seed)
    else:
        # Seeds of their own: datasets of one size would be gone through in one and the same order.
        parts = [
            _part(pool, number, loader.order_window_shards, sample_seed(seed, 0, number, "part"))
            for number in range(len(pool.indexes))
        ]
        order = MixtureOrder(parts, weights, seed)
    return RepeatedOrder(order, clip.clips_per_decode) if clip.clips_per_decode > 1 else order


def epoch_clips(
    num_samples: Sequence[int], weights: Sequence[float], clips_per_decode: int
) -> list[int]:
    """How many of an epoch's clips each dataset gives, in the order of ``build_order``.

    Args:
        num_samples: of each dataset.
        weights: of each dataset, in any unit.
        clips_per_decode: clips cut from each sample.

    Raises:
        ConfigError: nothing fits in an epoch.
    """
    samples = num_samples if len(num_samples) == 1 else mixture_counts(num_samples, weights)
    return [number * clips_per_decode for number in samples]


def _part(pool: Pool, number: int, window_shards: int, seed: int) -> Order:
    index = pool.indexes[number]
    if window_shards:
        return WindowedOrder(index.samples_per_shard, window_shards, seed)
    return GlobalOrder(len(index), seed)
