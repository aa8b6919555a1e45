"""The index of a sharded split: one row per sample, enough to read any sample by one range.

Written once, by the shard job, as ``index.parquet`` beside ``manifest.json``; read by loaders and
benchmarks. The manifest is put last, so a split without one does not exist yet.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sigma_pipeline.infra.errors import MissingInputError, StageError
from sigma_pipeline.infra.storage import Storage, read_json

_MASK_MEMBER = re.compile(r"[^.]+\.(\d+)\.png")


@dataclass(frozen=True)
class DatasetRef:
    """One immutable version of one split of a dataset."""

    name: str
    split: str
    version: str

    @property
    def prefix(self) -> str:
        """The store folder that holds it."""
        return f"datasets/{self.name}/{self.split}/{self.version}"

    @property
    def manifest_key(self) -> str:
        """The object whose presence says that the split is complete."""
        return f"{self.prefix}/manifest.json"

    @property
    def index_key(self) -> str:
        """Where the rows lie."""
        return f"{self.prefix}/index.parquet"

    @property
    def ledger_key(self) -> str:
        """Where the files that were left out are listed."""
        return f"{self.prefix}/rejected.parquet"


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
    sha256: str
    """Of the video member."""
    video_offset: int
    video_size: int
    suffix: str
    members: tuple[Member, ...]
    frames: int
    fps: float
    width: int
    height: int
    rotation: int
    keyframes: tuple[int, ...]
    keyframe_pts: tuple[int, ...]
    label: int | None
    class_name: str | None
    annotation: str | None
    """The sidecar file, as JSON text."""
    source: str
    """Path relative to the dataset's source."""

    @classmethod
    def from_plain(cls, row: dict[str, Any]) -> Self:
        """The row that ``to_plain`` or parquet turned into dictionaries and lists."""
        members = tuple(Member(m["name"], m["offset"], m["size"]) for m in row["members"])
        keyframes, keyframe_pts = tuple(row["keyframes"]), tuple(row["keyframe_pts"])
        changed = {"members": members, "keyframes": keyframes, "keyframe_pts": keyframe_pts}
        return cls(**{**row, **changed})

    def to_plain(self) -> dict[str, Any]:
        """The row as JSON and parquet take it."""
        return {**asdict(self), "members": [member._asdict() for member in self.members]}


_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("tar", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("video_offset", pa.int64(), nullable=False),
        pa.field("video_size", pa.int64(), nullable=False),
        pa.field("suffix", pa.string(), nullable=False),
        pa.field(
            "members",
            pa.list_(
                pa.struct([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])
            ),
            nullable=False,
        ),
        pa.field("frames", pa.int32(), nullable=False),
        pa.field("fps", pa.float64(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("rotation", pa.int32(), nullable=False),
        pa.field("keyframes", pa.list_(pa.int32()), nullable=False),
        pa.field("keyframe_pts", pa.list_(pa.int64()), nullable=False),
        pa.field("label", pa.int32()),
        pa.field("class_name", pa.string()),
        pa.field("annotation", pa.string()),
        pa.field("source", pa.string(), nullable=False),
    ]
)
assert _SCHEMA.names == [field.name for field in fields(SampleRow)]


def encode_rows(rows: Sequence[SampleRow]) -> bytes:
    """``rows`` as the content of ``index.parquet``."""
    table = pa.Table.from_pylist([row.to_plain() for row in rows], schema=_SCHEMA)
    return table_bytes(table)


def table_bytes(table: pa.Table) -> bytes:
    """A table as a parquet file, the same bytes for the same rows."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


class Index:
    """The samples of one split, in the order of their shards."""

    def __init__(
        self, ref: DatasetRef, classes: Sequence[str], root_hash: str, rows: Sequence[SampleRow]
    ) -> None:
        """Takes what the manifest and ``index.parquet`` say; ``load`` reads them."""
        self.ref = ref
        self.classes = tuple(classes)
        """Names of the labels of all splits: ``classes[row.label] == row.class_name``."""
        self.root_hash = root_hash
        self.rows = rows

    @classmethod
    def load(cls, storage: Storage, ref: DatasetRef) -> Self:
        """Reads the index of a complete split.

        Raises:
            MissingInputError: the split has not been sharded to the end.
            StageError: the index does not hold what the manifest says.
        """
        try:
            manifest = read_json(storage, ref.manifest_key)
        except FileNotFoundError as error:
            raise MissingInputError(
                f"dataset {ref.name!r}, split {ref.split!r}, is not there yet ({error}); "
                "make it with: sigma-pipeline run --stage shard"
            ) from error
        table = pq.read_table(io.BytesIO(storage.read(ref.index_key)), schema=_SCHEMA)
        if table.num_rows != manifest["samples"]:
            raise StageError(
                f"{storage.uri(ref.index_key)} has {table.num_rows} rows, but its manifest says "
                f"{manifest['samples']}; rebuild it with: sigma-pipeline run --stage shard --force"
            )
        rows = [SampleRow.from_plain(row) for row in table.to_pylist()]
        return cls(ref, manifest["classes"], manifest["root_hash"], rows)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.rows)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class number of each sample, shape [samples]; -1 where there is none."""
        return np.array(
            [-1 if row.label is None else row.label for row in self.rows], dtype=np.int64
        )

    def read_video(self, storage: Storage, i: int) -> bytes:
        """The video file of sample ``i``.

        Raises:
            StageError: the tar is shorter than the index says.
        """
        row = self.rows[i]
        return self._read_range(storage, row, row.video_offset, row.video_size)

    def read_masks(self, storage: Storage, i: int) -> list[tuple[int, bytes]]:
        """(frame number, PNG file) of each object mask of sample ``i``, by frame; often none.

        Raises:
            StageError: the tar is shorter than the index says.
        """
        row = self.rows[i]
        masks = sorted(
            (int(match[1]), member)
            for member in row.members
            if (match := _MASK_MEMBER.fullmatch(member.name))
        )
        if not masks:
            return []
        # The masks of a sample lie side by side, so that one read brings them all.
        start = min(member.offset for _, member in masks)
        end = max(member.offset + member.size for _, member in masks)
        data = self._read_range(storage, row, start, end - start)
        return [
            (frame, data[member.offset - start : member.offset - start + member.size])
            for frame, member in masks
        ]

    def _read_range(self, storage: Storage, row: SampleRow, start: int, length: int) -> bytes:
        key = f"{self.ref.prefix}/{row.tar}"
        data = storage.read(key, start, length)
        if len(data) != length:
            raise StageError(
                f"{storage.uri(key)} ends before sample {row.key!r} does; rebuild it with: "
                "sigma-pipeline run --stage shard --force"
            )
        return data
