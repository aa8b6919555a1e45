"""Rows of an index: one per sample, and their parquet form.

Parquet is what other programs read, too. It is written in row groups of a bounded size, so that
neither writing nor looking up one row takes the memory of the whole.
"""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sigma_pipeline.data_prep.items import Media
from sigma_pipeline.data_prep.row_groups import RowGroups

ROWS_PER_GROUP = 1 << 16
_ITERATED_ROWS = 1024
_MASK_MEMBER = re.compile(r"[^.]+\.(\d+)(\.mask)?\.png")


class Member(NamedTuple):
    """One file inside a tar: its name, and where its bytes are."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class SampleRow:
    """One sample: where its bytes lie, and what decoding found in its video.

    ``width`` and ``height`` are those of the upright picture; ``rotation`` (degrees anticlockwise,
    0, 90, 180, 270) is what turns a decoded frame upright. ``keyframes`` are the frame numbers,
    in presentation order, at which decoding may start, and ``keyframe_pts`` their timestamps in
    the stream's own unit; both hold just the first frame where seeking was found unreliable.
    """

    key: str
    shard: int
    tar: str
    media: Media
    sha256: str
    """Of the video or the image; of all frames one after another."""
    media_offset: int
    media_size: int
    suffix: str
    members: tuple[Member, ...]
    frames: int
    """Of the segment, where the sample is a part of its video."""
    first_frame: int
    """Of the segment in the video, 0 for a whole one; clips count from it, ``keyframes`` do not."""
    fps: float
    width: int
    height: int
    rotation: int
    keyframes: tuple[int, ...]
    keyframe_pts: tuple[int, ...]
    frame_grid: int
    """Frames at multiples of this after each keyframe decode without those between; 1 otherwise."""
    label: int | None
    labels: tuple[int, ...]
    """All classes that apply, where more than one can; else none."""
    class_name: str | None
    annotation: str | None
    """The sidecar file, as JSON text."""
    source: str
    """Path relative to the dataset's source."""
    group: str | None = None
    """See ``items.Item``; an index of an earlier format has none."""

    @classmethod
    def from_plain(cls, row: dict[str, Any]) -> Self:
        """The row that ``to_plain`` or parquet turned into dictionaries and lists."""
        members = tuple(Member(m["name"], m["offset"], m["size"]) for m in row["members"])
        keyframes, keyframe_pts = tuple(row["keyframes"]), tuple(row["keyframe_pts"])
        changed = {"members": members, "keyframes": keyframes, "keyframe_pts": keyframe_pts}
        return cls(**{**row, **changed, "labels": tuple(row["labels"])})

    def to_plain(self) -> dict[str, Any]:
        """The row as JSON and parquet take it."""
        return {**asdict(self), "members": [member._asdict() for member in self.members]}

    @property
    def mask_members(self) -> list[tuple[int, Member]]:
        """(frame number, member) of each object mask, by frame; often none.

        Beside frames that are PNG files themselves, masks end in ``.mask.png``.
        """
        numbered = (
            (_masked_frame(member.name, self.media, self.suffix), member) for member in self.members
        )
        return sorted((frame, member) for frame, member in numbered if frame is not None)


def _masked_frame(member: str, media: Media, suffix: str) -> int | None:
    """The frame that the member of this name is a mask of; None if it is no mask."""
    mark = ".mask" if media == "frames" and suffix == ".png" else None
    match = _MASK_MEMBER.fullmatch(member)
    return int(match[1]) if match and match[2] == mark else None


SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("tar", pa.string(), nullable=False),
        pa.field("media", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("media_offset", pa.int64(), nullable=False),
        pa.field("media_size", pa.int64(), nullable=False),
        pa.field("suffix", pa.string(), nullable=False),
        pa.field(
            "members",
            pa.list_(
                pa.struct([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])
            ),
            nullable=False,
        ),
        pa.field("frames", pa.int32(), nullable=False),
        pa.field("first_frame", pa.int32(), nullable=False),
        pa.field("fps", pa.float64(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("rotation", pa.int32(), nullable=False),
        pa.field("keyframes", pa.list_(pa.int32()), nullable=False),
        pa.field("keyframe_pts", pa.list_(pa.int64()), nullable=False),
        pa.field("frame_grid", pa.int32(), nullable=False),
        pa.field("label", pa.int32()),
        pa.field("labels", pa.list_(pa.int32()), nullable=False),
        pa.field("class_name", pa.string()),
        pa.field("annotation", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("group", pa.string()),
    ]
)
assert SCHEMA.names == [field.name for field in fields(SampleRow)]


def rows_table(rows: Sequence[SampleRow]) -> pa.Table:
    """``rows`` as a table."""
    columns = {name: [getattr(row, name) for row in rows] for name in SCHEMA.names}
    return pa.Table.from_pydict(columns, schema=SCHEMA)


def write_index(target: Path | BinaryIO, rows: Iterable[SampleRow]) -> None:
    """Writes ``rows``, in the order of their shards, as ``index.parquet``.

    The same bytes for the same rows. Takes the memory of one row group.
    """
    remaining = iter(rows)
    with pq.ParquetWriter(target, SCHEMA, compression="zstd") as writer:
        while group := list(islice(remaining, ROWS_PER_GROUP)):
            writer.write_table(rows_table(group), row_group_size=ROWS_PER_GROUP)


def encode_rows(rows: Iterable[SampleRow]) -> bytes:
    """``rows`` as the content of ``index.parquet``; for few of them."""
    buffer = io.BytesIO()
    write_index(buffer, rows)
    return buffer.getvalue()


def table_bytes(table: pa.Table) -> bytes:
    """A table as a parquet file, the same bytes for the same rows."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


class ParquetRows(Sequence[SampleRow]):
    """The rows of an ``index.parquet``, or some of them, read by row group when asked for.

    Picklable: what has been read stays behind.
    """

    def __init__(self, source: Path | bytes) -> None:
        self._source = source
        self._chosen: NDArray[np.integer] | None = None
        with self._open() as file:
            metadata = file.metadata
        groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self._starts = np.cumsum([0, *groups])
        self._group: tuple[int, pa.Table] | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return int(self._starts[-1]) if self._chosen is None else len(self._chosen)

    @overload
    def __getitem__(self, i: int) -> SampleRow: ...

    @overload
    def __getitem__(self, i: slice) -> list[SampleRow]: ...

    def __getitem__(self, i: int | slice) -> SampleRow | list[SampleRow]:
        """Row ``i``; its row group stays in memory until another one is asked for."""
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        place = range(len(self))[i]
        if self._chosen is not None:
            place = int(self._chosen[place])
        group = int(np.searchsorted(self._starts, place, side="right")) - 1
        table = self._read_group(group).slice(place - int(self._starts[group]), 1)
        return SampleRow.from_plain(table.to_pylist()[0])

    def __iter__(self) -> Iterator[SampleRow]:
        """All rows, a few at a time."""
        for batch in self.batches():
            yield from map(SampleRow.from_plain, batch.to_pylist())

    def keys(self) -> Iterator[str]:
        """The keys of all rows, in their order; far quicker than reading the rows."""
        for batch in self.batches(["key"], ROWS_PER_GROUP):
            yield from batch["key"].to_pylist()

    def annotations(self) -> Iterator[str | None]:
        """The annotations of all rows, in their order; far quicker than reading the rows."""
        for batch in self.batches(["annotation"]):
            yield from batch["annotation"].to_pylist()

    def has_labels(self) -> bool:
        """Whether any row has a class, or several; far quicker than reading the rows."""
        return any(
            row["label"] is not None or row["labels"]
            for batch in self.batches(["label", "labels"], ROWS_PER_GROUP)
            for row in batch.to_pylist()
        )

    def has_masks(self) -> bool:
        """Whether any row has an object mask; far quicker than reading the rows."""
        columns = ["media", "suffix", "members.list.element.name"]
        return any(
            _masked_frame(member["name"], row["media"], row["suffix"]) is not None
            for batch in self.batches(columns)
            for row in batch.to_pylist()
            for member in row["members"]
        )

    def batches(
        self, columns: Sequence[str] | None = None, rows: int = _ITERATED_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """The columns named, or all, of so many rows at a time."""
        with self._open() as file:
            if self._chosen is None:
                yield from file.iter_batches(rows, columns=columns, use_threads=False)
                return
            groups = RowGroups(file, self._starts, columns)
            for first in range(0, len(self), rows):
                yield from groups.take(self._chosen[first : first + rows]).to_batches()

    def part(self, positions: NDArray[np.integer]) -> Self:
        """The rows at these places, in that order; reads nothing.

        Args:
            positions: shape [rows of the part], each from 0 to less than there are rows here.
        """
        part = copy(self)
        part._chosen = positions if self._chosen is None else self._chosen[positions]
        return part

    def __getstate__(self) -> dict[str, Any]:
        """All but the row group in memory; of a part, too, which is a copy."""
        return {**vars(self), "_group": None}

    def _read_group(self, group: int) -> pa.Table:
        if self._group is None or self._group[0] != group:
            with self._open() as file:
                self._group = group, file.read_row_group(group, use_threads=False)
        return self._group[1]

    def _open(self) -> pq.ParquetFile:
        source = self._source
        return pq.ParquetFile(pa.BufferReader(source) if isinstance(source, bytes) else source)
