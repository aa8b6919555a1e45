"""An order for slow stores: shards are shuffled, then samples within a window of shards.

Whoever reads a range of positions touches the tars of one window or two, and not all of them.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sigma_pipeline.data_prep.order import GlobalOrder, check_positions, epoch_keys
from sigma_pipeline.data_prep.permutation import mix, permute


class _Drawn(NamedTuple):
    """The shards of one epoch in the order drawn."""

    first_samples: NDArray[np.int64]
    """Shape [shards]: number of each shard's first sample."""
    shard_positions: NDArray[np.int64]
    """Shape [shards + 1]: where each shard begins, and the end."""
    window_positions: NDArray[np.int64]
    """Shape [windows + 1]: where each window begins, and the end."""


class WindowedOrder:
    """A permutation of all samples that goes through the shards window by window."""

    def __init__(self, samples_per_shard: NDArray[np.int64], window_shards: int, seed: int) -> None:
        """Samples are numbered through the shards.

        Args:
            samples_per_shard: shape [shards].
            window_shards: shards whose samples are mixed, at least 1.
            seed: any integer.
        """
        self.num_samples = int(samples_per_shard.sum())
        self.num_positions = self.num_samples
        self._sizes = samples_per_shard
        self._window_shards = window_shards
        self._seed = seed
        self._last: tuple[int, _Drawn] | None = None

    def samples(self, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """See ``Order``; the first call for an epoch goes through the list of shards."""
        check_positions(positions, self.num_positions)
        drawn = self._drawn(epoch)
        window = np.searchsorted(drawn.window_positions, positions, side="right") - 1
        start = drawn.window_positions[window]
        keys = epoch_keys(self._seed, epoch, "window") ^ mix(window.astype(np.uint64))
        size = drawn.window_positions[window + 1] - start
        place = start + permute(positions - start, size, mix(keys))
        shard = np.searchsorted(drawn.shard_positions, place, side="right") - 1
        return drawn.first_samples[shard] + place - drawn.shard_positions[shard]

    def _drawn(self, epoch: int) -> _Drawn:
        """Kept for the epoch asked for last: one number per shard, not per sample."""
        if self._last is None or self._last[0] != epoch:
            self._last = epoch, self._draw(epoch)
        return self._last[1]

    def _draw(self, epoch: int) -> _Drawn:
        num_shards = len(self._sizes)
        shards = GlobalOrder(num_shards, self._seed).samples(epoch, np.arange(num_shards))
        ends = np.cumsum(self._sizes[shards])
        positions = np.concatenate([[0], ends])
        windows = np.append(positions[: -1 : self._window_shards], positions[-1])
        first_samples = np.cumsum(self._sizes) - self._sizes
        return _Drawn(first_samples[shards], positions, windows)
