"""The ledger of files that were left out."""

import io

import pandas as pd

from sigma_pipeline.data_prep.ledger import LedgerRow, encode_ledger

ROWS = [
    LedgerRow("a.mp4", 3, "unreadable", "cannot be read", counted=True, retryable=True),
    LedgerRow("b.txt", 0, "not_a_video", "a .txt file is no video", counted=False),
]


def test_pandas_reads_what_was_written() -> None:
    table = pd.read_parquet(io.BytesIO(encode_ledger(ROWS)))

    assert table["source"].tolist() == ["a.mp4", "b.txt"]
    assert table["reason"].tolist() == ["unreadable", "not_a_video"]
    assert table["retryable"].tolist() == [True, False]
    assert table["counted"].dtype == bool


def test_an_empty_ledger_has_all_columns() -> None:
    table = pd.read_parquet(io.BytesIO(encode_ledger([])))

    assert {"source", "size", "reason", "detail", "counted", "retryable"} == set(table.columns)


def test_a_row_survives_json() -> None:
    assert [LedgerRow.from_plain(row.to_plain()) for row in ROWS] == ROWS
