"""Sharding a dataset: every split's shards, then index, ledger and manifest.

A shard counts when its receipt is there, a split when its manifest is. So a run that was killed
goes on where it was, two at once agree on each shard, and a finished split costs one look.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sigma_pipeline.data_prep.config import ShardConfig
from sigma_pipeline.data_prep.manifest import (
    Manifest,
    put_manifest,
    read_manifest,
    remove_orphans,
    remove_split,
    write_tables,
)
from sigma_pipeline.data_prep.receipts import missing_receipts, read_receipts
from sigma_pipeline.data_prep.units import source_bytes
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.shard_plan import DatasetPlan, SplitPlan, plan_dataset
from sigma_pipeline.jobs.shard_progress import Progress
from sigma_pipeline.jobs.shard_scratch import own_folder
from sigma_pipeline.jobs.shard_unit import UnitTask
from sigma_pipeline.jobs.shard_workers import build_units

__all__ = ["DatasetPlan", "SplitPlan", "plan_dataset", "shard_dataset"]

log = logging.getLogger(__name__)

CPU_LIMIT_S = 600
"""Processor time for one video, besides what its size earns it."""


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
    """Makes all splits of a dataset; the manifest of each.

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
    job = _Job(plan, storage, shard, workers, attempt)
    if force:
        for ref in plan.refs.values():
            remove_split(storage, ref)
    manifests = job.run()
    if journal:
        _record(journal, storage, plan, manifests)
    return manifests


@dataclass(frozen=True)
class _Job:
    """One life of the job on one dataset."""

    plan: DatasetPlan
    storage: Storage
    shard: ShardConfig
    workers: int
    attempt: str

    def run(self) -> dict[str, Manifest]:
        """Does what is left to do."""
        manifests = {
            split: manifest
            for split, ref in self.plan.refs.items()
            if (manifest := read_manifest(self.storage, ref))
        }
        unfinished = [split for split in self.plan.splits if split.ref.split not in manifests]
        if not unfinished:
            log.info("%s: all splits are complete", self.plan.name)
            return manifests
        self._build(unfinished)
        return manifests | self._finish(unfinished, manifests)

    def _build(self, splits: Sequence[SplitPlan]) -> None:
        """Makes the shards that have no receipt yet."""
        tasks = [
            UnitTask(
                storage=self.storage,
                ref=split.ref,
                number=number,
                videos=split.units[number],
                settings=self.plan.sample_settings,
                attempt=self.attempt,
                cpu_limit_s=CPU_LIMIT_S,
            )
            for split in splits
            for number in missing_receipts(self.storage, split.ref, len(split.units))
        ]
        videos = [video for task in tasks for video in task.videos]
        log.info(
            "%s: %d of %d shards to do, %d videos, into %s",
            self.plan.name,
            len(tasks),
            sum(len(split.units) for split in splits),
            len(videos),
            ", ".join(self.storage.uri(split.ref.prefix) for split in splits),
        )
        progress = Progress(self.plan.name, len(videos), sum(map(source_bytes, videos)))
        with own_folder(self.plan.scratch_dir / "shard") as folder:
            build_units(tasks, workers=self.workers, scratch_dir=folder, progress=progress)

    def _finish(
        self, splits: Sequence[SplitPlan], complete: Mapping[str, Manifest]
    ) -> dict[str, Manifest]:
        """Puts index and ledger of ``splits`` and, unless too much was rejected, manifests."""
        receipts = {
            split.ref: read_receipts(self.storage, split.ref, len(split.units)) for split in splits
        }
        made: dict[str, Manifest] = {}
        for split in splits:
            numbers = write_tables(self.storage, split.ref, receipts[split.ref], split.left_out)
            made[split.ref.split] = {
                **numbers,
                "classes": list(self.plan.classes),
                "settings": self.plan.settings,
                "attempt": self.attempt,
            }
        self._check_rejected([*complete.values(), *made.values()])
        for split in splits:
            manifest = put_manifest(self.storage, split.ref, made[split.ref.split])
            remove_orphans(self.storage, split.ref, receipts[split.ref])
            made[split.ref.split] = manifest
            log.info(
                "%s/%s: %d samples, %.1f MB, %d videos rejected%s; %s",
                self.plan.name,
                split.ref.split,
                manifest["samples"],
                manifest["bytes"] / 1e6,
                manifest["rejected_counted"],
                _by_reason([manifest]),
                self.storage.uri(split.ref.manifest_key),
            )
        return made

    def _check_rejected(self, manifests: Sequence[Manifest]) -> None:
        rejected = sum(manifest["rejected_counted"] for manifest in manifests)
        inputs = sum(manifest["inputs_counted"] for manifest in manifests)
        limit = self.plan.max_rejected_fraction
        limit = self.shard.max_rejected_fraction if limit is None else limit
        name = self.plan.name
        ledgers = ", ".join(self.storage.uri(ref.ledger_key) for ref in self.plan.refs.values())
        if not any(manifest["samples"] for manifest in manifests):
            raise StageError(f"dataset {name!r} has no usable video; why is in {ledgers}")
        if rejected > limit * inputs:
            raise StageError(
                f"dataset {name!r}: {rejected} of {inputs} videos were rejected"
                f"{_by_reason(manifests)}, more than max_rejected_fraction={limit:g} allows; each "
                f"one's detail is in {ledgers}. If that is acceptable, raise "
                f"shard.max_rejected_fraction or datasets.{name}.max_rejected_fraction and run "
                "again: the shards made so far are kept"
            )


def _by_reason(manifests: Sequence[Manifest]) -> str:
    reasons: Counter[str] = Counter()
    for manifest in manifests:
        reasons.update(manifest["rejected_reasons"])
    listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    return f" ({listed})" if listed else ""


def _record(
    journal: Journal, storage: Storage, plan: DatasetPlan, manifests: Mapping[str, Manifest]
) -> None:
    for split, manifest in manifests.items():
        prefix = f"shard/{plan.name}/{split}"
        numbers = {name: manifest[name] for name in ("samples", "rejected", "bytes")}
        journal.metrics(0, {f"{prefix}/{name}": value for name, value in numbers.items()})
        uri = storage.uri(plan.refs[split].prefix)
        journal.dataset(plan.name, split, manifest["version"], manifest["root_hash"], uri)
