"""From rows to hot columns: narrow numbers, repeated values by number, keyframes as arithmetic."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sigma_pipeline.data_prep.hot_columns import LISTED, NUMBERS, REPEATED, RUN
from sigma_pipeline.data_prep.rows import ROWS_PER_GROUP, SCHEMA, ParquetRows

_COLUMNS = (*NUMBERS, *REPEATED, "label", "keyframes", "keyframe_pts")
_INTEGERS = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
_FRAME_MEMBER = r"^[^.]+\.(?P<frame>\d+)(?P<suffix>\.[^.]+)$"


def pack_rows(rows: ParquetRows) -> pa.RecordBatch:
    """The hot columns of all ``rows``."""
    has_frames = any(
        "frames" in batch["media"].unique().to_pylist() for batch in _read(rows, ["media"])
    )
    # Members are most of the file, and only those of frames are needed often.
    return pack(_read(rows, [*_COLUMNS, "members"] if has_frames else _COLUMNS))


def pack(batches: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """The hot columns of the rows of ``batches``, in one batch."""
    packed = [_pack(batch) for batch in batches]
    if not packed:
        packed = [_pack(pa.RecordBatch.from_pylist([], schema=SCHEMA))]
    # Column by column, so that there are never two of the whole.
    columns = {name: _joined([part.pop(name) for part in packed]) for name in list(packed[0])}
    return pa.RecordBatch.from_pydict(columns)


def _pack(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    return {
        **{name: _narrowest(batch[name]) for name in NUMBERS},
        **{name: batch[name].dictionary_encode() for name in REPEATED},
        "label": pc.fill_null(batch["label"], -1).cast(pa.int64()),
        **_packed_keyframes(batch["keyframes"], batch["keyframe_pts"]),
        "frame_files": _frame_files(batch),
    }


def _packed_keyframes(frames: pa.ListArray, pts: pa.ListArray) -> dict[str, pa.Array]:
    counts = frames.value_lengths().to_numpy().astype(np.int64)
    flat_frames = frames.flatten().to_numpy().astype(np.int64)
    flat_pts = pts.flatten().to_numpy()
    first, step, has_strays = _runs(counts, flat_frames)
    first_pts, pts_step, has_pts_strays = _runs(counts, flat_pts)
    is_listed = has_strays | has_pts_strays
    runs = [np.where(is_listed, 0, each) for each in (first, step, first_pts, pts_step)]
    columns = (np.where(is_listed, LISTED, counts), *runs)
    return {
        **{name: _narrowest(pa.array(each)) for name, each in zip(RUN, columns, strict=True)},
        "listed_keyframes": _listed(is_listed, counts, flat_frames, flat_pts),
    }


def _runs(
    counts: NDArray[np.int64], values: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """First value and step of each row, and whether the row is no arithmetic sequence upwards.

    Args:
        counts: of the values of each row.
        values: of all rows, one after another.
    """
    ends = np.cumsum(counts)
    starts = ends - counts
    padded = np.append(values, [0, 0])
    first = np.where(counts > 0, padded[starts], 0)
    step = np.where(counts > 1, padded[starts + 1] - padded[starts], 1)
    is_stray = np.diff(values, prepend=0) != np.repeat(step, counts)
    is_stray[starts[counts > 0]] = False  # the first of a row follows nothing
    is_listed = step < 1
    is_listed[np.searchsorted(ends, np.flatnonzero(is_stray), side="right")] = True
    return first, step, is_listed


def _listed(
    is_listed: NDArray[np.bool_],
    counts: NDArray[np.int64],
    frames: NDArray[np.int64],
    pts: NDArray[np.int64],
) -> pa.Array:
    """Both lists of the rows that follow no arithmetic, empty for the others."""
    if not is_listed.any():
        return pa.nulls(len(counts))  # of Arrow's null type, which takes no room
    kept = np.repeat(is_listed, counts)
    values = {"frame": frames[kept], "pts": pts[kept]}
    return _lists(np.where(is_listed, counts, 0), values)


def _frame_files(batch: pa.RecordBatch) -> pa.Array:
    """Offset and size of each frame's file, of the rows whose frames are files."""
    has_files = pc.equal(batch["media"], "frames").to_numpy(zero_copy_only=False)
    if not has_files.any():
        return pa.nulls(len(has_files))
    counts = batch["members"].value_lengths().to_numpy()
    members = batch["members"].flatten()
    rows = np.repeat(np.arange(len(counts)), counts)
    names = pc.extract_regex(members.field("name"), _FRAME_MEMBER)
    is_frame = pc.fill_null(pc.equal(names.field("suffix"), batch["suffix"].take(rows)), False)
    found = np.flatnonzero(is_frame.to_numpy(zero_copy_only=False) & has_files[rows])
    numbers = names.field("frame").take(found).cast(pa.int64()).to_numpy()
    found = found[np.lexsort((numbers, rows[found]))]
    values = {name: members.field(name).to_numpy()[found] for name in ("offset", "size")}
    return _lists(np.bincount(rows[found], minlength=len(counts)), values)


def _lists(counts: NDArray[np.int64], values: dict[str, NDArray[np.int64]]) -> pa.Array:
    """A list of so many structs for each row."""
    offsets = np.concatenate([[0], np.cumsum(counts)])
    structs = pa.StructArray.from_arrays([pa.array(each) for each in values.values()], list(values))
    return pa.LargeListArray.from_arrays(offsets, structs)


def _narrowest(numbers: pa.Array) -> pa.Array:
    """The same whole numbers in as few bytes as all of them fit."""
    bounds = pc.min_max(numbers)
    low, high = bounds["min"].as_py() or 0, bounds["max"].as_py() or 0
    kind = next(
        t for t in _INTEGERS if -(1 << t.bit_width - 1) <= low and high < 1 << t.bit_width - 1
    )
    return numbers.cast(kind)


def _joined(parts: Sequence[pa.Array]) -> pa.Array:
    """All parts as one array, of a type that holds them all."""
    tables = [pa.table({"values": part}) for part in parts]
    table = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()
    joined = table["values"].combine_chunks()
    if pa.types.is_dictionary(joined.type):
        return pa.DictionaryArray.from_arrays(_narrowest(joined.indices), joined.dictionary)
    return joined


def _read(rows: ParquetRows, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    return rows.batches(columns, ROWS_PER_GROUP)
