"""Rows of a parquet file by their places, read by row group."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray


class RowGroups:
    """Row groups of an open file, the newest of which stays in memory."""

    def __init__(
        self, file: pq.ParquetFile, starts: NDArray[np.int64], columns: Sequence[str] | None
    ) -> None:
        """Reads nothing yet.

        Args:
            file: open for as long as it is read from.
            starts: first row of each group, and the number of all rows.
            columns: to be read; None: all.
        """
        self._file = file
        self._starts = starts
        self._columns = columns
        self._held: tuple[int, pa.Table] | None = None

    def take(self, positions: NDArray[np.integer]) -> pa.Table:
        """The rows at ``positions``, in that order and in one chunk.

        Each group is read once at most, and not anew where the last call ended in it.
        """
        order = np.argsort(positions, kind="stable")
        ascending = positions[order].astype(np.int64)
        groups = np.searchsorted(self._starts, ascending, side="right") - 1
        parts = [
            self._read(group).take(ascending[groups == group] - self._starts[group])
            for group in np.unique(groups).tolist()
        ]
        return pa.concat_tables(parts).take(np.argsort(order)).combine_chunks()

    def _read(self, group: int) -> pa.Table:
        if self._held is None or self._held[0] != group:
            table = self._file.read_row_group(group, columns=self._columns, use_threads=False)
            self._held = group, table
        return self._held[1]
