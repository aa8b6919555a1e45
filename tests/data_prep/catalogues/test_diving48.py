"""Diving48 by a part of its real list."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.infra.errors import ConfigError, MissingInputError

ListDataset = Callable[..., Listing]
MakeFiles = Callable[..., Path]
CountRows = Callable[[Listing], Mapping[str, Mapping[str, int]]]

LISTS = "annotations/severe/diving48"
SPLITS = {"val": "Diving48_V2_test.subset.json"}
TRAIN = {"train": "train.json"}


def test_real_clips_have_a_dive_of_the_vocabulary_as_class(
    list_dataset: ListDataset, make_files: MakeFiles, count_rows: CountRows, real_videos: Path
) -> None:
    source = make_files("videos", "rgb/8qRmKunCjtY_00016.mp4", "rgb/jMEYIEYkpY0_00096.mp4")

    listing = list_dataset("diving48", source, real_videos / LISTS, splits=SPLITS)

    one, other = listing.items
    assert (one.label, one.class_name) == (0, "Back 15som 05Twis FREE")
    assert one.annotation == '{"end_frame":78,"start_frame":0}'
    assert other.label == 1
    assert len(listing.classes) == 48
    assert count_rows(listing) == {"val": {"missing_file": 98}}


def test_elements_without_name_and_labels_outside_are_shown(
    list_dataset: ListDataset, make_files: MakeFiles
) -> None:
    content = '[{"vid_name": "a", "label": 0},\n{"vid_name": "b", "label": 1},\n{"label": 0}]'
    lists = make_files(
        "lists", contents={"train.json": content, "Diving48_vocab.json": '[["Back", "FREE"]]'}
    )

    with pytest.raises(ConfigError) as caught:
        list_dataset("diving48", make_files("videos", "a.mp4"), lists, splits=TRAIN)

    assert "train.json:2: label 1 is not among the 1 classes" in str(caught.value)
    assert "train.json:3: there is no vid_name with a label" in str(caught.value)


def test_another_vocabulary_is_refused(list_dataset: ListDataset, make_files: MakeFiles) -> None:
    lists = make_files("lists", contents={"train.json": "[]", "Diving48_vocab.json": '["Back"]'})

    with pytest.raises(ConfigError, match=r"Diving48_vocab\.json holds no list of dives"):
        list_dataset("diving48", make_files("videos", "a.mp4"), lists, splits=TRAIN)


def test_without_vocabulary_the_annotations_are_asked_for(
    list_dataset: ListDataset, make_files: MakeFiles
) -> None:
    source = make_files("videos", "a.mp4")

    with pytest.raises(MissingInputError, match=r"Diving48_vocab\.json.*annotations"):
        list_dataset("diving48", source, source, splits=TRAIN)
