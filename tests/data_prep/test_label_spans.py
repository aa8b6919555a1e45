"""Labels of stretches of samples, as Charades annotates them by frame or by second."""

import csv
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import pytest

from sigma_pipeline.data_prep.catalogues.charades import list_charades
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.label_spans import SpanLabels, all_labels
from sigma_pipeline.data_prep.rows import SampleRow

Row = Callable[..., SampleRow]


@pytest.fixture
def make_row(make_index: Callable[..., Index]) -> Row:
    """A video of 30 frames, 10 a second, without a label, but for what is said of it."""

    def make(annotation: Any = None, **changes: Any) -> SampleRow:
        row = replace(make_index(1).row(0), label=None, class_name=None, frames=30, fps=10.0)
        text = None if annotation is None else json.dumps(annotation)
        return replace(row, annotation=text, **changes)

    return make


def labels_between(row: SampleRow, first: int, last: int, num_classes: int = 6) -> list[int]:
    target = SpanLabels([row], num_classes).between(0, first, last)
    assert target.shape == (num_classes,)
    return [int(label) for label in target.nonzero()[0]]


def test_every_span_of_the_real_list_has_the_labels_of_its_frames(
    real_videos: Path, tmp_path: Path, make_row: Row
) -> None:
    name = "charades_test_ann.frame_list.csv"
    with (real_videos / "annotations" / "charades" / name).open() as file:
        lines = [*csv.reader(file, delimiter=" ")][1:]
    for line in lines:
        (tmp_path / line[3]).touch()
    dataset = DatasetConfig(
        source=str(tmp_path),
        catalogue="charades",
        annotations=str(real_videos / "annotations" / "charades"),
        splits={"test": name},
    )
    (item,) = list_charades(dataset, [tmp_path]).items
    row = make_row(media="frames", frames=10, fps=24.0, labels=item.labels)
    spans = SpanLabels([replace(row, annotation=item.annotation)], 157)

    listed = [{int(label) for label in line[4].split(",") if label} for line in lines]
    for first, last in combinations_with_replacement(range(10), 2):
        expected = set().union(*listed[first : last + 1])
        assert set(spans.between(0, first, last).nonzero()[0].tolist()) == expected
    assert spans.between(0, 4, 6).dtype == "float32"


def test_a_frame_of_another_rate_has_the_labels_of_the_listed_frame_nearest_in_time(
    make_row: Row,
) -> None:
    annotation = {"fps": 24.0, "frame_labels": [[5, 8, [2]], [8, 12, [1, 2]]]}
    row = make_row(annotation, fps=30.0)

    for frame in range(30):
        nearest = round(frame / 30.0 * 24.0)
        expected = [2] if 5 <= nearest < 8 else [1, 2] if 8 <= nearest < 12 else []
        assert labels_between(row, frame, frame) == expected

    frames = replace(row, media="frames")  # of which one is listed for each, whatever its rate
    assert [labels_between(frames, frame, frame) for frame in (4, 5, 11, 12)] == [
        [],
        [2],
        [1, 2],
        [],
    ]


def test_an_action_holds_from_its_first_second_to_its_last(make_row: Row) -> None:
    row = make_row({"actions": [[3, 0.5, 1.2], [1, 1.23, 1.26], [4, 2.5, 99.0]]})

    assert labels_between(row, 0, 4) == []
    assert labels_between(row, 5, 5) == [3]
    assert labels_between(row, 12, 12) == [3]
    assert labels_between(row, 12, 13) == [1, 3]  # 1.23 s to 1.26 s lies between the two
    assert labels_between(row, 13, 24) == []
    assert labels_between(row, 25, 29) == [4]


def test_what_is_not_said_by_frame_holds_in_all_of_them(make_row: Row) -> None:
    rows = [make_row(labels=(1, 4)), make_row({"note": "sunny"}, label=5), make_row()]
    spans = SpanLabels(rows, 6)

    found = [spans.between(sample, 7, 7).nonzero()[0].tolist() for sample in range(3)]

    assert found == [[1, 4], [5], []]
    assert [all_labels(row) for row in rows] == [(1, 4), (5,), None]


def test_a_video_in_which_nothing_happens_is_not_one_that_nobody_looked_at(make_row: Row) -> None:
    assert all_labels(make_row({"fps": 24.0, "frame_labels": []})) == ()
    assert all_labels(make_row({"actions": [], "length_s": 3.0})) == ()
    assert all_labels(make_row(["actions"])) is None


def test_spans_go_to_other_processes_as_they_are(make_row: Row) -> None:
    spans = SpanLabels([make_row(), make_row(labels=(2,))], 4)

    copy = pickle.loads(pickle.dumps(spans))

    assert [copy.between(sample, 0, 3).tolist() for sample in (0, 1)] == [
        [0, 0, 0, 0],
        [0, 0, 1, 0],
    ]
