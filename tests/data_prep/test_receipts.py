"""Receipts of shards."""

from dataclasses import replace
from pathlib import Path

import pytest

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.ledger import LedgerRow
from sigma_pipeline.data_prep.receipts import (
    Receipt,
    RootHash,
    missing_receipts,
    put_receipt,
    read_receipts,
)
from sigma_pipeline.data_prep.rows import Member, SampleRow
from sigma_pipeline.data_prep.shards import Shard
from sigma_pipeline.infra.storage import Storage, open_storage

REF = DatasetRef("set", "train", "v1")
ROW = SampleRow(
    key="a-1",
    shard=0,
    tar="",
    media="video",
    sha256="ab",
    media_offset=512,
    media_size=7,
    suffix=".mp4",
    members=(Member("a-1.mp4", 512, 7),),
    frames=16,
    first_frame=0,
    fps=30000 / 1001,
    width=64,
    height=48,
    rotation=0,
    keyframes=(0, 12),
    keyframe_pts=(0, 512),
    frame_grid=1,
    labels=(),
    label=None,
    class_name=None,
    annotation=None,
    source="a.mp4",
)
REJECTED = LedgerRow("b\\xff.mp4", 3, "corrupt", "frames decoded: 3", counted=True)
SHARD = Shard((ROW,), (REJECTED,), sha256="cd", size=10240)
EMPTY = Shard((), (REJECTED,), sha256=None, size=0)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path))


def hash_of(receipts: list[Receipt]) -> str:
    root = RootHash()
    for receipt in receipts:
        root.add(receipt)
    return root.hexdigest()


def test_a_receipt_comes_back_as_it_was(storage: Storage) -> None:
    put_receipt(storage, REF, Receipt(0, "one", SHARD))
    put_receipt(storage, REF, Receipt(1, "one", EMPTY))

    assert list(read_receipts(storage, REF, 2)) == [
        Receipt(0, "one", SHARD),
        Receipt(1, "one", EMPTY),
    ]


def test_rows_name_the_tar_of_the_attempt(storage: Storage) -> None:
    assert Receipt(3, "one", SHARD).rows == (replace(ROW, tar="shard-000003.one.tar"),)
    assert Receipt(3, "one", EMPTY).tar is None


def test_who_comes_second_adopts_the_receipt_of_the_first(storage: Storage) -> None:
    first = put_receipt(storage, REF, Receipt(0, "one", SHARD))

    second = put_receipt(storage, REF, Receipt(0, "two", SHARD))

    assert (first.attempt, second.attempt) == ("one", "one")


def test_missing_receipts_are_those_not_put(storage: Storage) -> None:
    put_receipt(storage, REF, Receipt(1, "one", SHARD))

    assert missing_receipts(storage, REF, 3) == [0, 2]


def test_the_root_hash_does_not_depend_on_who_made_the_shards() -> None:
    one = [Receipt(0, "one", SHARD), Receipt(1, "one", EMPTY)]
    two = [Receipt(0, "two", SHARD), Receipt(1, "three", EMPTY)]

    assert hash_of(one) == hash_of(two)


@pytest.mark.parametrize(
    "other",
    [
        replace(SHARD, sha256="ef"),
        replace(SHARD, rejected=()),
        replace(SHARD, rows=(replace(ROW, label=1),)),
        replace(SHARD, rejected=(replace(REJECTED, reason="too_short"),)),
    ],
)
def test_the_root_hash_depends_on_all_that_is_in_them(other: Shard) -> None:
    assert hash_of([Receipt(0, "one", SHARD)]) != hash_of([Receipt(0, "one", other)])


def test_the_root_hash_does_not_depend_on_the_wording_of_a_rejection() -> None:
    reworded = replace(SHARD, rejected=(replace(REJECTED, detail="three frames"),))

    assert hash_of([Receipt(0, "one", SHARD)]) == hash_of([Receipt(0, "one", reworded)])
