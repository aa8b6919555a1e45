"""The ledger of a split: every file of the source that did not become part of a sample, and why."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import pyarrow as pa

from sigma_pipeline.data_prep.rows import table_bytes
from sigma_pipeline.data_prep.verdicts import Reason


@dataclass(frozen=True)
class LedgerRow:
    """One file that was left out."""

    source: str
    """Path relative to the dataset's source."""
    size: int
    reason: Reason
    detail: str
    counted: bool
    """Whether it claimed to be a video, so that it counts towards ``max_rejected_fraction``."""
    retryable: bool = False
    """Whether it may do better another time, although it did not while it was tried again."""

    @classmethod
    def from_plain(cls, row: dict[str, Any]) -> Self:
        """The row that ``to_plain`` gave."""
        return cls(**row)

    def to_plain(self) -> dict[str, Any]:
        """The row as JSON and parquet take it."""
        return asdict(self)


_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("counted", pa.bool_(), nullable=False),
        pa.field("retryable", pa.bool_(), nullable=False),
    ]
)
assert _SCHEMA.names == [field.name for field in fields(LedgerRow)]


def encode_ledger(rows: Sequence[LedgerRow]) -> bytes:
    """``rows`` as the content of ``rejected.parquet``."""
    return table_bytes(pa.Table.from_pylist([row.to_plain() for row in rows], schema=_SCHEMA))
