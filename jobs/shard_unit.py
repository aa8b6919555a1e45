"""One unit of work: the videos of one shard to one tar in the store and its receipt."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.receipts import Receipt, put_receipt, receipt_key
from sigma_pipeline.data_prep.sample import Sample, SampleSettings
from sigma_pipeline.data_prep.shards import write_shard
from sigma_pipeline.infra.storage import Storage


@dataclass(frozen=True)
class UnitTask:
    """Everything a worker process needs to make one shard."""

    storage: Storage
    ref: DatasetRef
    number: int
    items: tuple[Item, ...]
    settings: SampleSettings
    attempt: str


def build_unit(
    task: UnitTask,
    prepare: Callable[[Item], Sample],
    progress: Callable[[int], None],
    scratch_dir: Path,
) -> None:
    """Makes the shard unless its receipt is there; adopts that of another who was faster.

    Args:
        task: what to do.
        prepare: makes a sample of a video, see ``samples.prepare``.
        progress: told the source's size of each video that is done.
        scratch_dir: an existing folder, for the unfinished tar.
    """
    if task.storage.exists(receipt_key(task.ref, task.number)):
        return
    with tempfile.TemporaryDirectory(dir=scratch_dir) as folder:
        path = Path(folder, "shard.tar")
        shard = write_shard(path, task.number, task.items, prepare, progress)
        ours = Receipt(task.number, task.attempt, shard)
        if ours.tar:
            task.storage.upload(path, f"{task.ref.prefix}/{ours.tar}")
    counting = put_receipt(task.storage, task.ref, ours)
    if ours.tar and counting.tar != ours.tar:
        task.storage.delete(f"{task.ref.prefix}/{ours.tar}")
