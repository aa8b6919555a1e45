"""The end of sharding a split."""

import io
from pathlib import Path

import pandas as pd
import pytest

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.ledger import LedgerRow
from sigma_pipeline.data_prep.manifest import (
    put_manifest,
    read_manifest,
    remove_orphans,
    remove_split,
    write_tables,
)
from sigma_pipeline.data_prep.receipts import Receipt
from sigma_pipeline.data_prep.shards import Shard
from sigma_pipeline.infra.storage import Storage, open_storage

REF = DatasetRef("set", "train", "v1")
BROKEN = LedgerRow("b.mp4", 3, "corrupt", "frames decoded: 3", counted=True)
NOTES = LedgerRow("a.txt", 5, "not_a_video", "a .txt file is no video", counted=False)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path))


def test_the_ledger_holds_what_was_rejected_and_what_was_never_opened(storage: Storage) -> None:
    receipts = [Receipt(0, "one", Shard((), (BROKEN,), None, 0))]

    numbers, tars = write_tables(storage, REF, receipts, [NOTES])

    assert tars == frozenset()
    ledger = pd.read_parquet(io.BytesIO(storage.read(REF.ledger_key)))
    assert ledger["source"].tolist() == ["a.txt", "b.mp4"]
    assert ledger["counted"].tolist() == [False, True]
    assert (numbers["rejected"], numbers["rejected_counted"], numbers["inputs_counted"]) == (
        2,
        1,
        1,
    )


def test_there_is_no_manifest_before_it_is_put(storage: Storage) -> None:
    write_tables(storage, REF, [], [])

    assert read_manifest(storage, REF) is None


def test_the_first_manifest_counts(storage: Storage) -> None:
    put_manifest(storage, REF, {"attempt": "one"})

    assert put_manifest(storage, REF, {"attempt": "two"}) == {"attempt": "one"}
    assert read_manifest(storage, REF) == {"attempt": "one"}


def test_tars_that_no_receipt_names_are_removed(storage: Storage) -> None:
    for attempt in ("one", "killed"):
        storage.write(f"{REF.prefix}/shard-000000.{attempt}.tar", b"tar")

    remove_orphans(storage, REF, ["shard-000000.one.tar"])

    assert storage.list(REF.prefix) == [f"{REF.prefix}/shard-000000.one.tar"]


def test_a_removed_split_leaves_nothing_behind(storage: Storage) -> None:
    put_manifest(storage, REF, {})
    storage.write(f"{REF.prefix}/parts/000000.json", b"{}")
    other = DatasetRef("set", "val", "v1")
    put_manifest(storage, other, {})

    remove_split(storage, REF)

    assert storage.list("datasets") == [other.manifest_key]
