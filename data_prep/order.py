"""Which sample stands at which position of an epoch, and how a global batch is shared out.

An order is computed, not stored: any rank and any worker finds the samples of any position without
a table of samples and without having seen those before.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sigma_pipeline.data_prep.draws import generator
from sigma_pipeline.data_prep.permutation import ROUNDS, permute
from sigma_pipeline.infra.errors import ConfigError


class Order(Protocol):
    """A pure function of seed, epoch and position. Picklable."""

    @property
    def num_samples(self) -> int:
        """Samples are numbered below this; an epoch need not have all of them."""

    @property
    def num_positions(self) -> int:
        """Positions in every epoch."""

    def samples(self, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The samples at ``positions`` of ``epoch``, in the same shape [positions].

        Raises:
            ValueError: for positions outside [0, num_positions).
        """


class GlobalOrder:
    """A permutation of ``num_samples`` samples for each epoch."""

    def __init__(self, num_samples: int, seed: int) -> None:
        self.num_samples = num_samples
        self.num_positions = num_samples
        self._seed = seed

    def samples(self, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """See ``Order``."""
        check_positions(positions, self.num_positions)
        return permute(positions, self.num_samples, epoch_keys(self._seed, epoch, "order"))


class RepeatedOrder:
    """Each sample of ``order`` several times, side by side: an epoch is that much longer."""

    def __init__(self, order: Order, repeats: int) -> None:
        self.num_samples = order.num_samples
        self.num_positions = order.num_positions * repeats
        self._order = order
        self._repeats = repeats

    def samples(self, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """See ``Order``."""
        return self._order.samples(epoch, positions // self._repeats)


def epoch_keys(seed: int, epoch: int, purpose: str) -> NDArray[np.uint64]:
    """Keys of ``permute``, shape [rounds, 1], of one purpose in one epoch."""
    philox = generator(seed, epoch, 0, purpose).bit_generator
    return np.asarray(philox.random_raw(ROUNDS), dtype=np.uint64)[:, None]


def check_positions(positions: NDArray[np.int64], num_positions: int) -> None:
    """Refuses what is no position of an epoch.

    Raises:
        ValueError: a position lies outside [0, num_positions).
    """
    if positions.size and not 0 <= positions.min() <= positions.max() < num_positions:
        raise ValueError(f"positions must lie in [0, {num_positions})")


def batches_per_epoch(order: Order, global_batch_clips: int) -> int:
    """Whole global batches in an epoch; the samples left out are others each epoch.

    Raises:
        ConfigError: when there are fewer positions than one global batch takes.
    """
    if order.num_positions < global_batch_clips:
        raise ConfigError(
            f"train.global_batch_clips is {global_batch_clips}, but an epoch has only "
            f"{order.num_positions} clips: lower it or add videos"
        )
    return order.num_positions // global_batch_clips


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
