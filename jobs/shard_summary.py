"""What became of a dataset's inputs: the numbers that are logged, recorded and judged."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from sigma_pipeline.data_prep.config import ShardConfig
from sigma_pipeline.data_prep.manifest import Manifest
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.shard_plan import DatasetPlan


def list_reasons(manifests: Iterable[Manifest]) -> str:
    """`` (corrupt 3, too_short 1)``, the most frequent one first; nothing where none was rejected.

    Just the inputs that had claimed to be what was asked for.
    """
    reasons: Counter[str] = Counter()
    for manifest in manifests:
        reasons.update(manifest["rejected_reasons"])
    listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    return f" ({listed})" if listed else ""


def check_listed(plan: DatasetPlan, shard: ShardConfig) -> None:
    """Compares what cannot be a sample, by the lists and names alone, with what may be rejected.

    Raises:
        StageError: it is too much already, so that nothing has to be made to know.
    """
    limit = _limit(plan, shard)
    left_out = Counter(row.reason for split in plan.splits for row in split.left_out if row.counted)
    inputs = left_out.total() + sum(split.num_videos for split in plan.splits)
    if left_out.total() > limit * inputs:
        reasons = ", ".join(f"{reason} {count}" for reason, count in left_out.most_common())
        first = next(row for split in plan.splits for row in split.left_out if row.counted)
        raise StageError(
            f"dataset {plan.name!r}: {left_out.total()} of {inputs} inputs cannot be used "
            f"({reasons}; the first: {first.source!r}, {first.detail}), more than "
            f"max_rejected_fraction={limit:g} allows; set datasets.{plan.name}.source to the "
            f"folder that holds them, or raise datasets.{plan.name}.max_rejected_fraction"
        )


def check_rejected(
    manifests: Collection[Manifest], plan: DatasetPlan, shard: ShardConfig, storage: Storage
) -> None:
    """Compares what was rejected with what may be.

    Raises:
        StageError: too much was, or nothing is left.
    """
    rejected = sum(manifest["rejected_counted"] for manifest in manifests)
    inputs = sum(manifest["inputs_counted"] for manifest in manifests)
    limit = _limit(plan, shard)
    ledgers = ", ".join(storage.uri(ref.ledger_key) for ref in plan.refs.values())
    if not any(manifest["samples"] for manifest in manifests):
        raise StageError(f"dataset {plan.name!r} has no usable video; why is in {ledgers}")
    if rejected > limit * inputs:
        raise StageError(
            f"dataset {plan.name!r}: {rejected} of {inputs} videos were rejected"
            f"{list_reasons(manifests)}, more than max_rejected_fraction={limit:g} allows; each "
            f"one's detail is in {ledgers}. If that is acceptable, raise "
            f"shard.max_rejected_fraction or datasets.{plan.name}.max_rejected_fraction and run "
            "again: the shards made so far are kept"
        )


def record_manifests(
    journal: Journal, storage: Storage, plan: DatasetPlan, manifests: Mapping[str, Manifest]
) -> None:
    """Puts each split's numbers and version into the journal, from where they go to MLflow."""
    for split, manifest in manifests.items():
        numbers = {name: manifest[name] for name in ("samples", "frames", "bytes", "rejected")}
        numbers["rejected_fraction"] = manifest["rejected_counted"] / max(
            1, manifest["inputs_counted"]
        )
        for reason, count in manifest["rejected_reasons"].items():
            numbers[f"rejected_{reason}"] = count
        prefix = f"shard/{plan.name}/{split}"
        journal.metrics(0, {f"{prefix}/{name}": float(value) for name, value in numbers.items()})
        uri = storage.uri(plan.refs[split].prefix)
        journal.dataset(plan.name, split, manifest["version"], manifest["root_hash"], uri)


def _limit(plan: DatasetPlan, shard: ShardConfig) -> float:
    own = plan.max_rejected_fraction
    return shard.max_rejected_fraction if own is None else own
