"""Batches for training, which waits where the store that holds them is out of reach for a while."""

import logging
import time
from collections.abc import Callable, Iterator

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.data_prep.loader import TrainLoader
from sigma_pipeline.infra.errors import StoreUnreachable

log = logging.getLogger(__name__)

_PAUSE_S = 10.0
"""Before the next try, for stores that fail at once; those that do not answer take minutes."""


def batches_through_outages(
    loader: TrainLoader, first: int, *, grace_s: float, on_outage: Callable[[], object]
) -> Iterator[list[Batch]]:
    """This rank's micro-batches of each global batch, without end and without a gap.

    After an error the loader's processes are started anew, at the batch that did not come.

    Args:
        loader: of this rank.
        first: global batch to begin with, counted from the start of the run.
        grace_s: how long one batch may be waited for while the store cannot be reached.
        on_outage: called before each further try.

    Raises:
        StoreUnreachable: the grace is over.
        StageError: see ``TrainLoader.micro_batches``; what is damaged is not waited for.
    """
    number, asked_s = first, time.monotonic()
    while True:
        try:
            for batches in loader.micro_batches(*divmod(number, loader.batches_per_epoch)):
                number += 1
                yield batches
                asked_s = time.monotonic()
        except StoreUnreachable as error:
            left_s = grace_s - (time.monotonic() - asked_s)
            if left_s <= 0:
                raise
            log.warning(
                "THERE IS NO DATA FOR STEP %d: %s. Training waits for it for %.0f s more "
                "(train.commit_grace_min); see to the store",
                number + 1,
                error,
                left_s,
            )
            on_outage()
            time.sleep(min(_PAUSE_S, left_s))
