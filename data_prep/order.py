"""Which sample stands at which position of an epoch, and how a global batch is shared out.

The order of an epoch is a permutation that is computed, not stored: a Feistel network over a
rectangle with at least as many places as there are samples, walked on while it ends outside
(Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). Any rank and any worker finds
the samples of any position without a table and without having seen those before.
"""

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from sigma_pipeline.data_prep.draws import generator
from sigma_pipeline.infra.errors import ConfigError

# Four rounds hide the structure of a large domain; small ones want more. About 5 us each.
_ROUNDS = 10
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class GlobalOrder:
    """A permutation of ``num_samples`` samples for each epoch, a pure function of the seed."""

    def __init__(self, num_samples: int, seed: int) -> None:
        self.num_samples = num_samples
        self._seed = seed
        # The smallest rectangle that is about square and has a place for every sample.
        self._rows = isqrt(max(num_samples, 1) - 1) + 1
        self._columns = -(-num_samples // self._rows)

    def samples(self, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The samples at ``positions`` of ``epoch``.

        Raises:
            ValueError: for positions outside [0, num_samples), whose walk might never end.
        """
        if positions.size and not 0 <= positions.min() <= positions.max() < self.num_samples:
            raise ValueError(f"positions must lie in [0, {self.num_samples})")
        philox = generator(self._seed, epoch, 0, "order").bit_generator
        keys = np.asarray(philox.random_raw(_ROUNDS), dtype=np.uint64)
        places = self._permute(positions.astype(np.uint64), keys)
        # The rectangle has at most 2 sqrt(N) places too many, so few walk and not far.
        while (outside := places >= self.num_samples).any():
            places[outside] = self._permute(places[outside], keys)
        return places.astype(np.int64)

    def batches_per_epoch(self, global_batch_clips: int) -> int:
        """Whole global batches in an epoch; the samples left out are others each epoch.

        Raises:
            ConfigError: when there are fewer samples than one global batch takes.
        """
        if self.num_samples < global_batch_clips:
            raise ConfigError(
                f"train.global_batch_clips is {global_batch_clips}, but the split has only "
                f"{self.num_samples} samples: lower it or add videos"
            )
        return self.num_samples // global_batch_clips

    def _permute(self, places: NDArray[np.uint64], keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """One pass of the network: a permutation of the rectangle's places."""
        rows, columns = np.uint64(self._rows), np.uint64(self._columns)
        row, column = np.divmod(places, columns)
        for key in keys.reshape(-1, 2):
            row = (row + _mix(column ^ key[0])) % rows
            column = (column + _mix(row ^ key[1])) % columns
        return row * columns + column


def accumulation_steps(global_batch_clips: int, micro_batch_clips: int, world_size: int) -> int:
    """Micro-batches that each rank takes per global batch.

    Raises:
        ConfigError: when ranks x micro-batch x accumulation cannot be the global batch; names
            the rank counts and micro-batches that can.
    """
    steps, rest = divmod(global_batch_clips, micro_batch_clips * world_size)
    if not rest:
        return steps
    ranks = _listed(_divisors(global_batch_clips, micro_batch_clips))
    micro_batches = _listed(_divisors(global_batch_clips, world_size))
    raise ConfigError(
        f"{world_size} ranks cannot share train.global_batch_clips={global_batch_clips} in "
        f"micro-batches of train.micro_batch_clips={micro_batch_clips}: ranks x micro-batch x "
        f"accumulation must be the global batch. Ranks that fit this micro-batch: {ranks}; "
        f"micro-batches that fit {world_size} ranks: {micro_batches}"
    )


def _divisors(total: int, unit: int) -> list[int]:
    """What ``total / unit`` can be divided by; nothing when that is not a whole number."""
    quotient, rest = divmod(total, unit)
    return [] if rest else [d for d in range(1, quotient + 1) if quotient % d == 0]


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of splitmix64: each bit of the result depends on all bits of the value."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))
