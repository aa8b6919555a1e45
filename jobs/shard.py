"""Sharding a dataset: every split's shards, then index, ledger and manifest.

A shard counts when its receipt is there, a split when its manifest is. So a run that was killed
goes on where it was, several at once agree on each shard, and a finished split costs one look.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sigma_pipeline.data_prep.config import ShardConfig
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.manifest import (
    Manifest,
    Tables,
    put_manifest,
    read_manifest,
    remove_orphans,
    remove_split,
    write_tables,
)
from sigma_pipeline.data_prep.receipts import Receipt, missing_receipts, read_receipts
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.shard_plan import DatasetPlan, SplitPlan, plan_dataset
from sigma_pipeline.jobs.shard_progress import Progress
from sigma_pipeline.jobs.shard_scratch import own_folder
from sigma_pipeline.jobs.shard_summary import check_rejected, list_reasons, record_manifests
from sigma_pipeline.jobs.shard_unit import UnitTask
from sigma_pipeline.jobs.shard_workers import build_units

__all__ = [
    "DatasetPlan",
    "SplitPlan",
    "Unit",
    "build_missing",
    "build_some",
    "finish_dataset",
    "missing_units",
    "plan_dataset",
    "remove_dataset",
    "shard_dataset",
]

log = logging.getLogger(__name__)


def shard_dataset(
    plan: DatasetPlan,
    *,
    storage: Storage,
    shard: ShardConfig,
    workers: int,
    journal: Journal | None,
    attempt: str,
    force: bool,
) -> dict[str, Manifest]:
    """Makes all splits of a dataset in one go; the manifest of each.

    Splits that are complete are left as they are, unless ``force`` has them made anew: then their
    old content is deleted first.

    Args:
        plan: of the dataset.
        storage: where everything goes.
        shard: for the fraction of inputs that may be rejected, where the dataset has none.
        workers: processes.
        journal: gets the numbers, if there is one.
        attempt: the name of this life of the job; part of the names of tars.
        force: see above.

    Raises:
        StageError: too many inputs were rejected, or none was left.
    """
    if force:
        remove_dataset(plan, storage)
    build_missing(plan, storage=storage, workers=workers, attempt=attempt)
    return finish_dataset(plan, storage=storage, shard=shard, journal=journal, attempt=attempt)


def remove_dataset(plan: DatasetPlan, storage: Storage) -> None:
    """Deletes what the store holds of the plan's versions; nothing may be building them."""
    for ref in plan.refs.values():
        remove_split(storage, ref)


class Unit(NamedTuple):
    """One shard of a plan."""

    split: SplitPlan
    number: int
    place: int
    """Among all shards of the dataset."""


def missing_units(plan: DatasetPlan, storage: Storage) -> list[Unit]:
    """The shards that have no receipt yet."""
    missing: list[Unit] = []
    before = 0
    for split in plan.splits:
        if read_manifest(storage, split.ref) is None:
            numbers = missing_receipts(storage, split.ref, len(split.units))
            missing += [Unit(split, number, before + number) for number in numbers]
        before += len(split.units)
    return missing


def build_missing(plan: DatasetPlan, *, storage: Storage, workers: int, attempt: str) -> None:
    """Makes the shards that have no receipt yet; puts neither index nor manifest.

    Raises:
        StageError: processes do not start, or a source changed meanwhile.
    """
    missing = missing_units(plan, storage)
    if not missing:
        log.info("%s: all shards are there", plan.name)
        return
    log.info(
        "%s: %d of %d shards to do, %d items, into %s",
        plan.name,
        len(missing),
        sum(len(split.units) for split in plan.splits),
        sum(len(unit.split.units[unit.number]) for unit in missing),
        ", ".join(dict.fromkeys(storage.uri(unit.split.ref.prefix) for unit in missing)),
    )
    build_some(plan, missing, storage=storage, workers=workers, attempt=attempt)


def build_some(
    plan: DatasetPlan,
    units: Sequence[Unit],
    *,
    storage: Storage,
    workers: int,
    attempt: str,
) -> None:
    """Makes the shards ``units``, but for those that others have made meanwhile.

    Raises:
        StageError: processes do not start, or a source changed meanwhile.
    """
    tasks = [
        UnitTask(storage, split.ref, number, split.units[number], plan.sample_settings, attempt)
        for split, number, _ in units
    ]
    sizes = [item.source_bytes for task in tasks for item in task.items]
    progress = Progress(plan.name, len(sizes), sum(sizes))
    with own_folder(plan.scratch_dir / "shard") as folder:
        build_units(tasks, workers=workers, scratch_dir=folder, progress=progress)


def finish_dataset(
    plan: DatasetPlan,
    *,
    storage: Storage,
    shard: ShardConfig,
    journal: Journal | None,
    attempt: str,
) -> dict[str, Manifest]:
    """Puts index, ledger and manifest of the splits that have none yet; the manifest of each.

    Several jobs may do so at once; the first manifest put is the one that counts.

    Raises:
        StageError: shards are missing, too many inputs were rejected, or none was left.
    """
    found = {split: read_manifest(storage, ref) for split, ref in plan.refs.items()}
    manifests = {split: manifest for split, manifest in found.items() if manifest}
    unfinished = [split for split in plan.splits if split.ref.split not in manifests]
    made: dict[DatasetRef, Tables] = {}
    for split in unfinished:
        receipts = _all_receipts(plan, storage, split)
        made[split.ref] = write_tables(storage, split.ref, receipts, split.left_out)
        manifests[split.ref.split] = {
            **made[split.ref].numbers,
            "classes": list(plan.classes),
            "settings": plan.settings,
            "attempt": attempt,
        }
    check_rejected(manifests.values(), plan, shard, storage)
    for ref, tables in made.items():
        manifests[ref.split] = put_manifest(storage, ref, manifests[ref.split])
        remove_orphans(storage, ref, tables.tars)
        _log_outcome(storage, ref, manifests[ref.split])
    if journal:
        record_manifests(journal, storage, plan, manifests)
    return manifests


def _all_receipts(plan: DatasetPlan, storage: Storage, split: SplitPlan) -> Iterator[Receipt]:
    missing = missing_receipts(storage, split.ref, len(split.units))
    if missing:
        raise StageError(
            f"dataset {plan.name!r}, split {split.ref.split!r}: {len(missing)} of "
            f"{len(split.units)} shards are not made yet; run the shard stage again to make them"
        )
    return read_receipts(storage, split.ref, len(split.units))


def _log_outcome(storage: Storage, ref: DatasetRef, manifest: Manifest) -> None:
    log.info(
        "%s/%s: %d samples, %.1f MB, %d videos rejected%s; %s",
        ref.name,
        ref.split,
        manifest["samples"],
        manifest["bytes"] / 1e6,
        manifest["rejected_counted"],
        list_reasons([manifest]),
        storage.uri(ref.manifest_key),
    )
