"""Training batches: the same global batches for any number of ranks and workers.

What a clip holds follows from (seed, epoch, position) and the indexes alone. So "where were we" is
an epoch and a global batch, and going on from there is exact.
"""

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from sigma_pipeline.data_prep.batches import Batch, BatchPlan
from sigma_pipeline.data_prep.clip_plan import ClipPlan
from sigma_pipeline.data_prep.config import LoaderConfig
from sigma_pipeline.data_prep.frames import FrameReader, decoded_gib
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.order import accumulation_steps, batches_per_epoch
from sigma_pipeline.data_prep.pool import Pool
from sigma_pipeline.data_prep.ranges import RangeReader
from sigma_pipeline.data_prep.train_clips import TrainClips
from sigma_pipeline.data_prep.train_order import build_order
from sigma_pipeline.data_prep.workers import read_ahead
from sigma_pipeline.infra.storage import Storage

log = logging.getLogger(__name__)


class TrainLoader:
    """This rank's share of every global batch of a run.

    Raises:
        ConfigError: an epoch has fewer clips than a global batch, or ranks x micro-batch x
            accumulation cannot be the global batch.
    """

    def __init__(
        self,
        storage: Storage,
        indexes: Sequence[Index],
        plan: ClipPlan,
        *,
        loader: LoaderConfig,
        global_batch_clips: int,
        micro_batch_clips: int,
        weights: Sequence[float] = (1.0,),
        rank: int = 0,
        world_size: int = 1,
        cache_dir: Path | None = None,
    ) -> None:
        """Takes datasets with their ``weights``, and a folder on the node's disk for caches."""
        self.accumulation_steps = accumulation_steps(
            global_batch_clips, micro_batch_clips, world_size
        )
        pool = Pool(indexes)
        order = build_order(pool, weights, clip=plan.clip, loader=loader, seed=plan.seed)
        self.batches_per_epoch = batches_per_epoch(order, global_batch_clips)
        if rank == 0:
            _warn_of_small_cache(pool, loader.decoded_cache_gib)
        self._loader = loader
        self._shares = (global_batch_clips, micro_batch_clips, rank, world_size)
        ranges = RangeReader(
            storage,
            cache_dir=cache_dir,
            cache_gib=loader.range_cache_gib,
            threads=loader.read_threads,
        )
        reader = FrameReader(storage, pool, cache_gib=loader.decoded_cache_gib, ranges=ranges)
        self._clips = TrainClips(pool, reader, order, plan)

    def micro_batches(self, start_epoch: int, start_batch: int) -> Iterator[list[Batch]]:
        """From one global batch on, without end: this rank's micro-batches of each.

        Nothing of the batches before is read.

        Args:
            start_epoch: counted from 0.
            start_batch: global batch within the epoch; one past the last means the next epoch's
                first.

        Raises:
            StageError: the store does not answer, too many samples in a row are bad, or a decoding
                process was killed.
        """
        plan = BatchPlan(self.batches_per_epoch, *self._shares, start_epoch, start_batch)
        micro_batches = read_ahead(
            self._clips,
            plan,
            workers=self._loader.workers,
            prefetch=self._loader.prefetch_batches,
        )
        while True:
            yield list(islice(micro_batches, self.accumulation_steps))


def _warn_of_small_cache(pool: Pool, cache_gib: float) -> None:
    if cache_gib == 0:
        return
    needed_gib = decoded_gib(pool)
    if cache_gib < needed_gib:
        log.warning(
            "decoded_cache_gib is %g, but all videos take %.1f GiB in each decoding process: many "
            "are decoded whole and soon dropped, where 0 would decode just the frames of a clip",
            cache_gib,
            needed_gib,
        )
