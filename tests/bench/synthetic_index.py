"""Indexes of videos that do not exist, as large as one likes, made column by column.

Names, hashes and sizes are as those of ten-second clips; nine rows in ten have the keyframes of a
transcoded video, the others three keyframes at random, as copied ones have.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.rows import ROWS_PER_GROUP, SCHEMA
from sigma_pipeline.infra.storage import LocalStorage, write_json

SAMPLES_PER_SHARD = 256
CLASSES = 400


def make_split(storage: LocalStorage, ref: DatasetRef, num_rows: int) -> int:
    """Puts index and manifest of a split that has no tars; the size of its index in bytes."""
    path = Path(storage.uri(ref.index_key))
    path.parent.mkdir(parents=True)
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for table in _row_groups(num_rows):
            writer.write_table(table, row_group_size=ROWS_PER_GROUP)
    classes = [f"class {label:03d}" for label in range(CLASSES)]
    manifest = {"samples": num_rows, "classes": classes, "root_hash": f"synthetic-{num_rows}"}
    write_json(storage, ref.manifest_key, manifest)
    return path.stat().st_size


def _row_groups(num_rows: int) -> Iterator[pa.Table]:
    for first in range(0, num_rows, ROWS_PER_GROUP):
        yield _row_group(np.arange(first, min(first + ROWS_PER_GROUP, num_rows)))


def _row_group(rows: np.ndarray) -> pa.Table:
    draw = np.random.default_rng(int(rows[0]))
    count = len(rows)
    shards, labels = rows // SAMPLES_PER_SHARD, rows % CLASSES
    sizes = draw.integers(200_000, 900_000, count)
    offsets = rows % SAMPLES_PER_SHARD * 900_000 + 1536
    hashes = [draw.bytes(32).hex() for _ in range(count)]
    keys = [
        f"class-{label:03d}-clip-{row:08d}-{digest[:12]}"
        for label, row, digest in zip(labels, rows, hashes, strict=True)
    ]
    frames = draw.integers(240, 301, count)
    keyframes, pts = _keyframes(draw, frames)
    columns: dict[str, Any] = _constants(count) | {
        "key": keys,
        "shard": shards,
        "tar": [f"shard-{shard:06d}.20260101T120000000000-c0ffee.tar" for shard in shards],
        "sha256": hashes,
        "media_offset": offsets,
        "media_size": sizes,
        "members": _members(keys, offsets, sizes),
        "frames": frames,
        "fps": draw.choice([25.0, 30.0, 30000 / 1001, 24.0], count),
        "width": draw.choice([340, 342, 320, 192], count),
        "keyframes": keyframes,
        "keyframe_pts": pts,
        "label": labels,
        "class_name": [f"class {label:03d}" for label in labels],
        "source": [
            f"class {label:03d}/clip {row:08d}.mp4" for label, row in zip(labels, rows, strict=True)
        ],
    }
    return pa.table(
        {name: _cast(columns[name], SCHEMA.field(name).type) for name in SCHEMA.names},
        schema=SCHEMA,
    )


def _constants(count: int) -> dict[str, Any]:
    """Columns that are the same in all rows."""
    no_labels = pa.ListArray.from_arrays(
        np.zeros(count + 1, dtype=np.int32), pa.array([], pa.int32())
    )
    return {
        "media": ["video"] * count,
        "suffix": [".mp4"] * count,
        "first_frame": np.zeros(count, dtype=np.int32),
        "height": np.full(count, 256),
        "rotation": np.zeros(count, dtype=np.int32),
        "frame_grid": np.full(count, 4),
        "labels": no_labels,
        "annotation": pa.nulls(count, pa.string()),
        "group": pa.nulls(count, pa.string()),
    }


def _cast(values: Any, kind: pa.DataType) -> pa.Array:
    array = values if isinstance(values, pa.Array) else pa.array(values)
    return array.cast(kind)


def _keyframes(draw: np.random.Generator, frames: np.ndarray) -> tuple[pa.Array, pa.Array]:
    """Every 16th frame; in one row of ten three frames at random."""
    is_copied = draw.random(len(frames)) < 0.1
    counts = np.where(is_copied, 3, -(-frames // 16))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    rows = np.repeat(np.arange(len(frames)), counts)
    places = np.arange(offsets[-1]) - offsets[rows]
    copied = places * 80 + draw.integers(0, 80, len(rows)) * (places > 0)
    values = np.where(is_copied[rows], copied, places * 16)
    lists = [
        pa.ListArray.from_arrays(offsets.astype(np.int32), pa.array(each, kind))
        for each, kind in ((values, pa.int32()), (values * 512, pa.int64()))
    ]
    return lists[0], lists[1]


def _members(keys: Sequence[str], offsets: np.ndarray, sizes: np.ndarray) -> pa.Array:
    """``json`` and ``mp4`` of each sample."""
    values = pa.StructArray.from_arrays(
        [
            pa.array([name for key in keys for name in (f"{key}.json", f"{key}.mp4")]),
            pa.array(np.stack([offsets - 1024, offsets], 1).ravel()),
            pa.array(np.stack([np.full(len(keys), 180), sizes], 1).ravel()),
        ],
        ["name", "offset", "size"],
    )
    return pa.ListArray.from_arrays(np.arange(len(keys) + 1, dtype=np.int32) * 2, values)
