"""Shards made again from their source, the same bytes under the same name.

A version never changes: what cannot be made again exactly as it was is left broken, and said.
"""

import logging
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sigma_pipeline.data_prep.manifest import write_tables
from sigma_pipeline.data_prep.receipts import read_receipt, read_receipts
from sigma_pipeline.data_prep.samples import prepare
from sigma_pipeline.data_prep.shards import write_shard
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.shard_check import Fault
from sigma_pipeline.jobs.shard_plan import DatasetPlan, SplitPlan

log = logging.getLogger(__name__)


def repair_split(
    storage: Storage, plan: DatasetPlan, split: SplitPlan, faults: Sequence[Fault]
) -> None:
    """Makes the faulty parts of a split again; all shards that can be, before anything is raised.

    Args:
        storage: where the split lies.
        plan: of the dataset, from the source as it is now.
        split: of the plan; the one that ``faults`` are about.
        faults: what ``shard_check`` found.

    Raises:
        StageError: something cannot be made again as it was; names it.
    """
    hopeless = [fault.what for fault in faults if not fault.is_rebuildable]
    for fault in faults:
        if not fault.is_rebuildable:
            continue
        if fault.shard is None:
            receipts = read_receipts(storage, split.ref, len(split.units))
            write_tables(storage, split.ref, receipts, split.left_out)
        elif problem := _rebuild(storage, plan, split, fault.shard):
            hopeless.append(problem)
    if hopeless:
        raise StageError(
            f"{split.ref.name}/{split.ref.split} cannot be repaired in full: {'; '.join(hopeless)}."
            " Make it anew with: sigma-pipeline run --stage shard --force (the same --config and "
            "--set)"
        )


def _rebuild(storage: Storage, plan: DatasetPlan, split: SplitPlan, number: int) -> str | None:
    """Makes one shard again; why it is not the same, if it is not (it is not stored then)."""
    receipt = read_receipt(storage, split.ref, number)
    make = partial(prepare, settings=plan.sample_settings)
    plan.scratch_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=plan.scratch_dir) as folder:
        path = Path(folder, "shard.tar")
        shard = write_shard(path, number, split.units[number], make, lambda _size: None)
        if shard.sha256 != receipt.shard.sha256:
            return (
                f"shard {number} comes out with other bytes than it had (a source file or the "
                "encoder's version changed)"
            )
        storage.upload(path, f"{split.ref.prefix}/{receipt.tar}")
    log.info("%s: rebuilt %s", split.ref.prefix, receipt.tar)
    return None
