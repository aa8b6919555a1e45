"""Packed columns say of every sample what its row says."""

import pickle
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigma_pipeline.data_prep.hot_columns import ClipSource, HotColumns
from sigma_pipeline.data_prep.hot_packing import pack
from sigma_pipeline.data_prep.rows import Member, SampleRow, rows_table

ROW = SampleRow(
    key="k",
    shard=0,
    tar="0.tar",
    media="video",
    sha256="0" * 64,
    media_offset=512,
    media_size=7,
    suffix=".mp4",
    members=(),
    frames=16,
    first_frame=0,
    fps=12.5,
    width=64,
    height=48,
    rotation=0,
    keyframes=(0,),
    keyframe_pts=(0,),
    frame_grid=1,
    labels=(),
    label=None,
    class_name=None,
    annotation=None,
    source="1.mp4",
)
PICTURES = (
    Member("k.00000.jpg", 512, 10),
    Member("k.00001.jpg", 1536, 11),
    Member("k.00001.png", 2560, 3),
    Member("k.00010.jpg", 3584, 12),
    Member("k.00002.jpg", 4608, 13),
    Member("k.json", 5632, 2),
)
_BIG = st.integers(0, 2**62)


@st.composite
def keyframes(draw: st.DrawFn) -> dict[str, tuple[int, ...]]:
    """Regular in both, in one, or in neither."""
    count = draw(st.integers(0, 5))
    first, step = draw(st.integers(0, 9)), draw(st.integers(1, 300))
    regular = tuple(range(first, first + count * step, step))
    times = st.lists(st.integers(-(2**40), 2**40), min_size=count, max_size=count, unique=True).map(
        sorted
    )
    frames = st.lists(st.integers(0, 2**31 - 1), min_size=count, max_size=count, unique=True)
    return {
        "keyframes": draw(st.just(regular) | frames.map(sorted).map(tuple)),
        "keyframe_pts": draw(st.just(tuple(512 * k - 7 for k in regular)) | times.map(tuple)),
    }


@st.composite
def sample_rows(draw: st.DrawFn) -> SampleRow:
    """A row of a video with anything that matters drawn."""
    changes: dict[str, Any] = {
        "media_offset": draw(_BIG),
        "media_size": draw(_BIG),
        "suffix": draw(st.sampled_from([".mp4", ".webm"])),
        "frames": draw(st.integers(1, 2**31 - 1)),
        "first_frame": draw(st.integers(0, 200)),
        "fps": draw(st.floats(0, 1000)),
        "width": draw(st.integers(1, 40_000)),
        "rotation": draw(st.sampled_from([0, 90, 180, 270])),
        "frame_grid": draw(st.sampled_from([1, 2, 4])),
        "label": draw(st.none() | st.integers(0, 2**31 - 1)),
    }
    return replace(ROW, **changes, **draw(keyframes()))


def packed(rows: list[SampleRow], rows_per_batch: int = 2) -> HotColumns:
    return HotColumns(pack(rows_table(rows).to_batches(rows_per_batch)), "datasets/d")


def expected_source(row: SampleRow) -> dict[str, Any]:
    wanted = {name: getattr(row, name) for name in ClipSource._fields if hasattr(row, name)}
    label = -1 if row.label is None else row.label
    return {**wanted, "tar": f"datasets/d/{row.tar}", "label": label}


def plain(source: ClipSource) -> dict[str, Any]:
    keyframes, pts = tuple(source.keyframes), tuple(source.keyframe_pts)
    return {**source._asdict(), "keyframes": keyframes, "keyframe_pts": pts}


@settings(deadline=None)  # the first call brings parts of Arrow
@given(st.lists(sample_rows(), min_size=1, max_size=7))
def test_every_field_is_that_of_the_row(rows: list[SampleRow]) -> None:
    rows = [replace(row, tar=f"{i // 3}.tar") for i, row in enumerate(rows)]
    columns = packed(rows)

    assert [plain(columns.source(i)) for i in range(len(rows))] == list(map(expected_source, rows))
    assert columns.labels.tolist() == [-1 if row.label is None else row.label for row in rows]


def test_a_source_holds_plain_numbers() -> None:
    source = packed([ROW]).source(0)

    assert {type(value) for value in source} == {int, float, str, range}


def test_samples_are_counted_by_shard() -> None:
    rows = [replace(ROW, tar=f"{shard}.tar") for shard in [0, 0, 0, 2, 3, 3]]

    assert packed(rows).samples_per_shard.tolist() == [3, 1, 2]
    assert packed([]).samples_per_shard.tolist() == []


def test_the_files_of_frames_come_by_frame_without_masks() -> None:
    image = replace(ROW, media="image", suffix=".png", members=(Member("k.00000.png", 0, 3),))
    rows = [image, replace(ROW, media="frames", suffix=".jpg", members=PICTURES), image]

    files = [packed(rows, rows_per_batch=3).frame_files(i) for i in range(3)]

    assert files == [[], [(512, 10), (1536, 11), (4608, 13), (3584, 12)], []]
    assert packed([ROW]).frame_files(0) == []


def test_masks_beside_png_frames_are_no_frames() -> None:
    members = (Member("k.00000.mask.png", 0, 1), Member("k.00000.png", 512, 2))
    row = replace(ROW, media="frames", suffix=".png", members=members)

    assert packed([row]).frame_files(0) == [(512, 2)]


@pytest.mark.parametrize(
    ("keyframes", "keyframe_pts", "is_regular"),
    [
        ((0, 16, 32), (0, 8192, 16384), True),
        ((5,), (-3,), True),
        ((), (), True),
        ((0, 16, 31), (0, 8192, 16384), False),
        ((0, 16, 32), (0, 8192, 16385), False),
        ((0, 16), (8192, 0), False),
        ((0, 16), (7, 7), False),
    ],
)
def test_keyframes_at_regular_places_take_no_list(
    keyframes: tuple[int, ...], keyframe_pts: tuple[int, ...], is_regular: bool
) -> None:
    row = replace(ROW, keyframes=keyframes, keyframe_pts=keyframe_pts)
    batch = pack(rows_table([row]).to_batches())

    assert (batch["listed_keyframes"].type == pa.null()) is is_regular
    source = HotColumns(batch, "").source(0)
    assert (tuple(source.keyframes), tuple(source.keyframe_pts)) == (keyframes, keyframe_pts)


def test_a_transcoded_sample_takes_a_few_bytes() -> None:
    rows = [
        replace(
            ROW,
            tar=f"{i // 200}.tar",
            media_offset=i << 20,
            media_size=400_000 + i,
            frames=300,
            keyframes=tuple(range(0, 300, 16)),
            keyframe_pts=tuple(range(0, 512 * 300, 512 * 16)),
            label=i % 400,
        )
        for i in range(1000)
    ]

    assert pack(rows_table(rows).to_batches(100)).nbytes / len(rows) < 50


def test_columns_travel_to_other_processes() -> None:
    columns = packed([ROW, replace(ROW, keyframes=(0, 3, 4), keyframe_pts=(0, 1, 2))])

    copy = pickle.loads(pickle.dumps(columns))

    assert [copy.source(i) for i in range(2)] == [columns.source(i) for i in range(2)]
