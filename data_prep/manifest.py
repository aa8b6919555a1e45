"""The end of sharding a split: index, ledger, and last of all the manifest."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.ledger import LedgerRow, encode_ledger
from sigma_pipeline.data_prep.receipts import Receipt, RootHash
from sigma_pipeline.data_prep.rows import SampleRow, write_index
from sigma_pipeline.infra.storage import Storage, read_json, write_json_if_absent

Manifest = dict[str, Any]
"""``dataset split version root_hash samples frames bytes rejected rejected_counted rejected_reasons
inputs_counted shards classes settings attempt``; ``bytes`` are those of the tars, ``rejected`` all
rows of the ledger, ``rejected_counted`` those that had claimed to be videos, ``rejected_reasons``
the latter by reason, ``inputs_counted`` the latter and the samples."""


class Tables(NamedTuple):
    """What was found while the tables of a split were written."""

    numbers: Manifest
    """The manifest's, not yet put."""
    tars: frozenset[str]
    """Names of the tars that count."""


def write_tables(
    storage: Storage,
    ref: DatasetRef,
    receipts: Iterable[Receipt],
    left_out: Sequence[LedgerRow],
) -> Tables:
    """Puts ``index.parquet`` and ``rejected.parquet``; memory does not grow with the samples.

    Args:
        storage: the store.
        ref: the split.
        receipts: of all shards, in order; gone through once.
        left_out: files that no shard was asked about.
    """
    tally = _Tally(list(left_out))
    with TemporaryDirectory() as folder:
        path = Path(folder, "index.parquet")
        write_index(path, tally.rows(receipts))
        storage.upload(path, ref.index_key)
    ledger = sorted(tally.ledger, key=lambda row: row.source)
    storage.write(ref.ledger_key, encode_ledger(ledger))
    reasons = Counter(row.reason for row in ledger if row.counted)
    numbers = {
        "dataset": ref.name,
        "split": ref.split,
        "version": ref.version,
        "root_hash": tally.root.hexdigest(),
        "samples": tally.samples,
        "frames": tally.frames,
        "bytes": tally.bytes,
        "rejected": len(ledger),
        "rejected_counted": reasons.total(),
        "rejected_reasons": dict(sorted(reasons.items())),
        "inputs_counted": tally.samples + reasons.total(),
        "shards": tally.shards,
    }
    return Tables(numbers, frozenset(tally.tars))


@dataclass
class _Tally:
    """Sums over receipts as they pass by."""

    ledger: list[LedgerRow]
    root: RootHash = field(default_factory=RootHash)
    tars: set[str] = field(default_factory=set)
    shards: int = 0
    samples: int = 0
    frames: int = 0
    bytes: int = 0

    def rows(self, receipts: Iterable[Receipt]) -> Iterator[SampleRow]:
        """The rows of all receipts."""
        for receipt in receipts:
            self.root.add(receipt)
            self.ledger += receipt.shard.rejected
            self.tars |= {receipt.tar} if receipt.tar else set()
            self.shards += 1
            self.bytes += receipt.shard.size
            self.samples += len(receipt.shard.rows)
            self.frames += sum(row.frames for row in receipt.shard.rows)
            yield from receipt.rows


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


def remove_orphans(storage: Storage, ref: DatasetRef, tars: Collection[str]) -> None:
    """Deletes all tars but ``tars``: left by killed attempts, or by losers of a race.

    Only for a complete split, where no further tar can come to count. Readers that go by
    ``shard-*.tar`` would otherwise see samples twice.
    """
    wanted = {f"{ref.prefix}/{tar}" for tar in tars}
    for key in storage.list(ref.prefix):
        if key.endswith(".tar") and key not in wanted:
            storage.delete(key)


def remove_split(storage: Storage, ref: DatasetRef) -> None:
    """Deletes a split, marker first, so that what is left never looks complete."""
    storage.delete(ref.manifest_key)
    for key in storage.list(ref.prefix):
        storage.delete(key)
