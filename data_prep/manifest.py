"""The end of sharding a split: index, ledger, and last of all the manifest."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sigma_pipeline.data_prep.index import DatasetRef, encode_rows
from sigma_pipeline.data_prep.ledger import LedgerRow, encode_ledger
from sigma_pipeline.data_prep.receipts import Receipt, root_hash
from sigma_pipeline.infra.storage import Storage, read_json, write_json_if_absent

Manifest = dict[str, Any]
"""``dataset split version root_hash samples frames bytes rejected rejected_counted rejected_reasons
inputs_counted shards classes settings attempt``; ``bytes`` are those of the tars, ``rejected`` all
rows of the ledger, ``rejected_counted`` those that had claimed to be videos, ``rejected_reasons``
the latter by reason, ``inputs_counted`` the latter and the samples."""


def write_tables(
    storage: Storage,
    ref: DatasetRef,
    receipts: Sequence[Receipt],
    left_out: Sequence[LedgerRow],
) -> Manifest:
    """Puts ``index.parquet`` and ``rejected.parquet``; the manifest's numbers, not yet put.

    Args:
        storage: the store.
        ref: the split.
        receipts: of all shards, in order.
        left_out: files that no shard was asked about.
    """
    rows = [row for receipt in receipts for row in receipt.rows]
    rejected = [row for receipt in receipts for row in receipt.shard.rejected]
    ledger = sorted([*rejected, *left_out], key=lambda row: row.source)
    storage.write(ref.index_key, encode_rows(rows))
    storage.write(ref.ledger_key, encode_ledger(ledger))
    reasons = Counter(row.reason for row in ledger if row.counted)
    return {
        "dataset": ref.name,
        "split": ref.split,
        "version": ref.version,
        "root_hash": root_hash(receipts),
        "samples": len(rows),
        "frames": sum(row.frames for row in rows),
        "bytes": sum(receipt.shard.size for receipt in receipts),
        "rejected": len(ledger),
        "rejected_counted": reasons.total(),
        "rejected_reasons": dict(sorted(reasons.items())),
        "inputs_counted": len(rows) + reasons.total(),
        "shards": len(receipts),
    }


def read_manifest(storage: Storage, ref: DatasetRef) -> Manifest | None:
    """The manifest of a complete split; None where it is not complete."""
    try:
        manifest: Manifest = read_json(storage, ref.manifest_key)
    except FileNotFoundError:
        return None
    return manifest


def put_manifest(storage: Storage, ref: DatasetRef, manifest: Manifest) -> Manifest:
    """The manifest that counts: ``manifest``, or that of another who was first."""
    if write_json_if_absent(storage, ref.manifest_key, manifest):
        return manifest
    adopted: Manifest = read_json(storage, ref.manifest_key)
    return adopted


def remove_orphans(storage: Storage, ref: DatasetRef, receipts: Sequence[Receipt]) -> None:
    """Deletes tars that no receipt names: left by killed attempts, or by losers of a race.

    Only for a complete split, where no further tar can come to count. Readers that go by
    ``shard-*.tar`` would otherwise see samples twice.
    """
    wanted = {f"{ref.prefix}/{receipt.tar}" for receipt in receipts}
    for key in storage.list(ref.prefix):
        if key.endswith(".tar") and key not in wanted:
            storage.delete(key)


def remove_split(storage: Storage, ref: DatasetRef) -> None:
    """Deletes a split, marker first, so that what is left never looks complete."""
    storage.delete(ref.manifest_key)
    for key in storage.list(ref.prefix):
        storage.delete(key)
