"""Which videos of a split can be learned from, and which be scored."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.rows import ParquetRows, SampleRow, encode_rows
from sigma_pipeline.jobs.benchmarks.cycle_videos import MarkedVideos
from tests.jobs.evaluation.squares import sample_row

ANNOTATIONS = (
    '{"boundaries": [0, 10, 20]}',
    None,
    '{"boundaries": [0, 10, 40]}',  # cycles that say nothing of each other
    '{"boundaries": [4, 9]}',  # one alone
    '{"motion": "swing"}',
)


def index_of(*annotations: str | None, is_stored: bool = False) -> Index:
    rows: Sequence[SampleRow] = [
        replace(sample_row("train", number, {"mp4": b"video"}, 0), annotation=annotation)
        for number, annotation in enumerate(annotations)
    ]
    kept = ParquetRows(encode_rows(rows)) if is_stored else rows
    return Index(DatasetRef("cycles", "train", "v1"), ("blue",), "0", kept)


@pytest.mark.parametrize("is_stored", [False, True])
def test_training_wants_neighbours_of_like_length_and_tests_just_cycles(is_stored: bool) -> None:
    index = index_of(*ANNOTATIONS, is_stored=is_stored)

    train, test = MarkedVideos.of(index, "train"), MarkedVideos.of(index, "test")

    assert (train.positions, train.keys, train.counts) == ((0,), ("train-0",), [2])
    assert train.notes == (
        "4 of 5 train samples have no two marked cycles of like length: left out",
    )
    assert (test.positions, test.counts) == ((0, 2, 3), [2, 2, 1])
    assert test.notes == ("2 of 5 test samples have no cycles marked: left out",)


def test_positions_are_those_of_the_whole_split() -> None:
    index = index_of(None, '{"boundaries": [0, 10, 20]}', '{"boundaries": [3, 9, 15]}')

    marked = MarkedVideos.of(index, "train", positions=(7, 9, 30))

    assert marked.positions == (9, 30)
    assert MarkedVideos.of(index.part([1, 2]), "test").notes == ()


def test_a_split_without_any_is_refused() -> None:
    with pytest.raises(ValueError, match="all 1 train samples have no two marked cycles"):
        MarkedVideos.of(index_of(ANNOTATIONS[3]), "train")
