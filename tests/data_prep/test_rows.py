"""Rows in parquet: written as a stream, read by row group."""

import io
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from sigma_pipeline.data_prep import rows as rows_module
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.rows import (
    Member,
    ParquetRows,
    SampleRow,
    encode_rows,
    rows_table,
    write_index,
)

ROW = SampleRow(
    key="walk-1",
    shard=0,
    tar="shard-000000.x.tar",
    media="video",
    sha256="0" * 64,
    media_offset=19,
    media_size=7,
    suffix=".mp4",
    members=(Member("walk-1.json", 17, 2), Member("walk-1.mp4", 19, 7)),
    frames=16,
    first_frame=0,
    fps=12.5,
    width=64,
    height=48,
    rotation=90,
    keyframes=(0, 12),
    keyframe_pts=(-512, 2**40),
    frame_grid=1,
    labels=(1, 4),
    label=3,
    class_name="walk",
    annotation='{"a":1}',
    source="walk/1.mp4",
    group="ann",
)
BARE_ROW = replace(
    ROW,
    key="bare",
    members=(),
    labels=(),
    label=None,
    class_name=None,
    annotation=None,
    group=None,
)
ROWS = [replace(row, key=f"{row.key}-{i}") for i in range(4) for row in (ROW, BARE_ROW)]


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows in a group."""
    monkeypatch.setattr(rows_module, "ROWS_PER_GROUP", 3)


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "index.parquet"
    write_index(path, ROWS)
    return path


def test_rows_come_back_as_they_were_from_a_file_and_from_memory(parquet: Path) -> None:
    assert list(ParquetRows(parquet)) == ROWS
    assert list(ParquetRows(parquet.read_bytes())) == ROWS


def test_an_index_from_before_there_were_groups_is_read(tmp_path: Path) -> None:
    path = tmp_path / "index.parquet"
    pq.write_table(rows_table(ROWS).drop_columns("group"), path)

    assert list(ParquetRows(path)) == [replace(row, group=None) for row in ROWS]


def test_any_row_is_found_in_its_group(parquet: Path) -> None:
    found = ParquetRows(parquet)

    assert [found[i] for i in (7, 0, 3, 2, 5, -1, -8)] == [ROWS[i] for i in (7, 0, 3, 2, 5, 7, 0)]
    assert (len(found), found[2:7:2]) == (8, ROWS[2:7:2])
    with pytest.raises(IndexError):
        found[8]


def test_a_row_takes_the_memory_of_one_group(parquet: Path) -> None:
    assert [pq.ParquetFile(parquet).metadata.row_group(i).num_rows for i in range(3)] == [3, 3, 2]


def test_another_process_gets_the_place_not_the_rows(parquet: Path) -> None:
    found = ParquetRows(parquet)
    found[0]

    assert len(pickle.dumps(found)) < 1000
    assert pickle.loads(pickle.dumps(found))[4] == ROWS[4]


def test_a_stream_of_rows_gives_the_same_bytes_as_a_list(parquet: Path) -> None:
    assert encode_rows(iter(ROWS)) == encode_rows(ROWS) == parquet.read_bytes()


def test_rows_are_written_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "index.parquet"
    sizes = []

    def stream() -> Iterator[SampleRow]:
        for row in ROWS:
            sizes.append(path.stat().st_size)
            yield row

    write_index(path, stream())

    assert 0 < sizes[4] < sizes[7] < path.stat().st_size


def test_no_rows_are_an_index_too() -> None:
    assert list(ParquetRows(encode_rows([]))) == []


def test_other_programs_can_read_the_index(parquet: Path) -> None:
    table = pd.read_parquet(io.BytesIO(parquet.read_bytes()))

    assert table["frames"].tolist() == [16] * 8
    assert table["keyframes"][0].tolist() == [0, 12]
    assert table["members"][0][1] == {"name": "walk-1.mp4", "offset": 19, "size": 7}


def test_parquet_and_json_hold_the_same_plain_row() -> None:
    assert SampleRow.from_plain(ROW.to_plain()) == ROW
    assert rows_table([ROW]).to_pylist()[0]["members"] == ROW.to_plain()["members"]


@pytest.mark.parametrize(
    ("media", "suffix", "expected"),
    [("video", ".mp4", [3, 12]), ("frames", ".jpg", [3, 12]), ("frames", ".png", [5])],
)
def test_masks_are_told_from_frames_by_number(
    media: rows_module.Media, suffix: str, expected: list[int]
) -> None:
    names = ("k.00012.png", "k.00003.png", "k.00005.mask.png", "k.00001.jpg", "k.png", "k.json")
    members = tuple(Member(name, 0, 1) for name in names)

    row = replace(ROW, media=media, suffix=suffix, members=members)

    assert [frame for frame, _ in row.mask_members] == expected
    bare = [member for member in members if member not in dict(row.mask_members).values()]
    for shown in (row, replace(row, members=tuple(bare))):
        stored = ParquetRows(encode_rows([replace(ROW, members=members[-1:]), shown]))
        assert stored.has_masks() == bool(shown.mask_members)


@pytest.mark.parametrize("changes", [{"label": 0}, {"labels": (4,)}])
def test_one_labelled_row_among_others_is_found(changes: dict[str, Any]) -> None:
    rows = [BARE_ROW, replace(BARE_ROW, **changes), BARE_ROW]

    for kept in (rows, ParquetRows(encode_rows(rows))):
        assert Index(DatasetRef("walks", "val", "v1"), "abcde", "0", kept).has_labels()
    assert not ParquetRows(encode_rows([BARE_ROW])).has_labels()
