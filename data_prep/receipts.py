"""The receipt of one shard: a shard exists when, and only when, its receipt does.

Two writers may make the same shard at once, each under a name that carries its attempt. The
receipt that was put first decides which of the two tars counts.
"""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.ledger import LedgerRow
from sigma_pipeline.data_prep.rows import SampleRow
from sigma_pipeline.data_prep.shards import Shard
from sigma_pipeline.infra.storage import Storage, read_json, write_json_if_absent

_READS_AT_ONCE = 8
_READ_AHEAD = 64
"""Receipts held in memory; one of a large shard is a megabyte."""


@dataclass(frozen=True)
class Receipt:
    """What one shard holds, and which tar holds it."""

    number: int
    attempt: str
    shard: Shard

    @property
    def tar(self) -> str | None:
        """File name of the tar; None where no sample was left."""
        return None if self.shard.sha256 is None else tar_name(self.number, self.attempt)

    @property
    def rows(self) -> tuple[SampleRow, ...]:
        """The shard's rows of the index."""
        return tuple(replace(row, tar=self.tar or "") for row in self.shard.rows)

    @classmethod
    def from_plain(cls, value: dict[str, Any]) -> Self:
        """The receipt that ``to_plain`` gave."""
        shard = Shard(
            rows=tuple(SampleRow.from_plain({**row, "tar": ""}) for row in value["rows"]),
            rejected=tuple(LedgerRow.from_plain(row) for row in value["rejected"]),
            sha256=value["sha256"],
            size=value["size"],
        )
        return cls(value["number"], value["attempt"], shard)

    def to_plain(self) -> dict[str, Any]:
        """The receipt as JSON takes it."""
        return {"attempt": self.attempt, "tar": self.tar, **self.content()}

    def content(self) -> dict[str, Any]:
        """What does not depend on the attempt that made the shard."""
        rows = [row.to_plain() for row in self.shard.rows]
        for row in rows:
            del row["tar"]
        return {
            "number": self.number,
            "sha256": self.shard.sha256,
            "size": self.shard.size,
            "rows": rows,
            "rejected": [row.to_plain() for row in self.shard.rejected],
        }


def tar_name(number: int, attempt: str) -> str:
    """File name of the tar of shard ``number`` made by ``attempt``."""
    return f"shard-{number:06d}.{attempt}.tar"


def receipt_key(ref: DatasetRef, number: int) -> str:
    """Where the receipt of shard ``number`` lies."""
    return f"{ref.prefix}/parts/{number:06d}.json"


def put_receipt(storage: Storage, ref: DatasetRef, receipt: Receipt) -> Receipt:
    """The receipt that counts from now on: ``receipt``, or the one of another who was first."""
    key = receipt_key(ref, receipt.number)
    if write_json_if_absent(storage, key, receipt.to_plain()):
        return receipt
    return Receipt.from_plain(read_json(storage, key))


def read_receipt(storage: Storage, ref: DatasetRef, number: int) -> Receipt:
    """The receipt of shard ``number``.

    Raises:
        FileNotFoundError: there is none; names its URI.
    """
    return Receipt.from_plain(read_json(storage, receipt_key(ref, number)))


def read_receipts(storage: Storage, ref: DatasetRef, count: int) -> Iterator[Receipt]:
    """The receipts of all ``count`` shards, in order, some of them read ahead."""
    read = partial(read_receipt, storage, ref)
    with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
        for first in range(0, count, _READ_AHEAD):
            yield from pool.map(read, range(first, min(first + _READ_AHEAD, count)))


def missing_receipts(storage: Storage, ref: DatasetRef, count: int) -> list[int]:
    """The shards that are not there yet."""
    there = set(storage.list(f"{ref.prefix}/parts"))
    return [number for number in range(count) if receipt_key(ref, number) not in there]


class RootHash:
    """sha256 over what receipts say, in order: equal for equal datasets, whoever made them.

    The wording of rejections is left out; it may come from libav.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, receipt: Receipt) -> None:
        """Takes the next receipt."""
        content = receipt.content()
        for row in content["rejected"]:
            del row["detail"]
        self._digest.update(json.dumps(content, sort_keys=True).encode() + b"\n")

    def hexdigest(self) -> str:
        """The hash of those so far."""
        return self._digest.hexdigest()
