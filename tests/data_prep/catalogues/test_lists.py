"""What lists name, against the files that are there."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.catalogues.lists import (
    Entry,
    Flaws,
    list_entries,
    segment_suffix,
)
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.items import Segment
from sigma_pipeline.data_prep.source_files import SourceFiles
from sigma_pipeline.infra.errors import ConfigError, MissingInputError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"12345")
    return root


def listed(
    root: Path, entries: Sequence[Entry], classes: Sequence[str] = ("x", "y"), **more: bool
) -> Listing:
    dataset = DatasetConfig(source=str(root), catalogue="table")
    return list_entries(dataset, SourceFiles([root]), entries, classes, Flaws(), **more)


def rows(listing: Listing, split: str = "train") -> list[tuple[str, str, bool]]:
    return [(row.source, row.reason, row.counted) for row in listing.left_out[split]]


def test_an_entry_becomes_an_item_with_its_class_and_place(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4")

    (item,) = listed(tmp_path, [Entry("a/1.mp4", "val", "val.csv:3", 1)]).items

    assert (item.name, item.split, item.label, item.class_name) == ("a/1.mp4", "val", 1, "y")
    assert item.listed_at == "val.csv:3"
    assert item.source_bytes == 5


def test_every_file_is_an_item_or_in_the_ledger(tmp_path: Path) -> None:
    touch(tmp_path, "1.mp4", "2.mp4", "notes.txt", "x.jpg", "odd", "._1.mp4")

    listing = listed(tmp_path, [Entry("1.mp4", "train", "t:1"), Entry("3.mp4", "val", "t:2")])

    assert [item.name for item in listing.items] == ["1.mp4"]
    assert rows(listing) == [
        ("._1.mp4", "not_listed", False),
        ("2.mp4", "not_listed", False),
        ("notes.txt", "not_a_video", False),
        ("odd", "not_listed", False),
        ("x.jpg", "still_image", False),
    ]
    assert rows(listing, "val") == [("3.mp4", "missing_file", True)]


def test_a_listed_link_to_nowhere_is_unreadable(tmp_path: Path) -> None:
    touch(tmp_path, "1.mp4")
    (tmp_path / "2.mp4").symlink_to("nowhere")

    listing = listed(tmp_path, [Entry("1.mp4", "train", "t:1"), Entry("2.mp4", "train", "t:2")])

    (row,) = listing.left_out["train"]
    assert (row.source, row.reason, row.counted) == ("2.mp4", "unreadable", True)
    assert row.detail.endswith("listed at t:2")


def test_segments_of_one_video_are_samples_of_their_own(tmp_path: Path) -> None:
    touch(tmp_path, "1.mp4")

    listing = listed(
        tmp_path,
        [
            Entry("1", "train", "t:1", 0, segment=Segment(0, 2.5)),
            Entry("1", "train", "t:2", 1, segment=Segment(2.5, 10)),
        ],
    )

    assert [item.name for item in listing.items] == ["1.mp4#0-2.5", "1.mp4#2.5-10"]
    assert listing.left_out["train"] == ()


@pytest.mark.parametrize(
    ("segment", "suffix"),
    [
        (None, ""),
        (Segment(0, 10), "#0-10"),
        (Segment(18.5, 20.233333), "#18.5-20.233333"),
        (Segment(1e-5, 100), "#0.00001-100"),
    ],
)
def test_the_name_of_a_segment_says_its_times(segment: Segment | None, suffix: str) -> None:
    assert segment_suffix(segment) == suffix


def test_one_run_shows_ten_flaws_and_counts_the_rest(tmp_path: Path) -> None:
    entries = [Entry(f"{n}.mp4", "train", f"t.csv:{n}", 2) for n in range(14)]

    with pytest.raises(ConfigError) as caught:
        listed(tmp_path, entries)

    message = str(caught.value)
    assert message.startswith("t.csv:0: label 2 is not among the 2 classes (from 0); t.csv:1: ")
    assert message.count("t.csv:") == 10
    assert "; and 4 more; correct the lists" in message


@pytest.mark.parametrize(
    ("entry", "flaw"),
    [
        (Entry("../1.mp4", "train", "t:1"), r"t:1: '\.\./1\.mp4' leaves the source"),
        (Entry("/a/../../1.mp4", "train", "t:1"), "leaves the source"),
        (Entry("", "train", "t:1"), "t:1: the path is empty"),
        (Entry("\ud800.mp4", "train", "t:1"), "t:1: .* is no name of a file"),
        (Entry("1.mp4", "train", "t:1", -1), "t:1: label -1 is not among the 2 classes"),
        (Entry("1.mp4", "train", "t:1", labels=(0, 7)), "t:1: label 7"),
        (Entry("1.mp4", "train", "t:1", segment=Segment(3, 3)), "no time from 3 to 3 s"),
        (Entry("1.mp4", "train", "t:1", segment=Segment(-1, 3)), "no time from -1 to 3 s"),
        (Entry("1.mp4", "train", "t:1", segment=Segment(0, float("nan"))), "to nan s"),
        (Entry("a", "train", "t:1", media="frames"), "t:1: 'a' has no frames"),
    ],
)
def test_what_cannot_be_is_shown_with_file_and_line(
    tmp_path: Path, entry: Entry, flaw: str
) -> None:
    touch(tmp_path, "1.mp4")

    with pytest.raises(ConfigError, match=flaw):
        listed(tmp_path, [entry])


def test_a_file_listed_twice_is_shown_with_both_lines(tmp_path: Path) -> None:
    touch(tmp_path, "1.mp4")

    with pytest.raises(ConfigError, match=r"t:2: '1\.mp4' is listed at t:1 already"):
        listed(tmp_path, [Entry("1.mp4", "train", "t:1"), Entry("1", "train", "t:2")])


def test_one_file_may_be_in_two_splits_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "1.mp4")

    with caplog.at_level(logging.WARNING):
        listing = listed(tmp_path, [Entry("1.mp4", "train", "t:1"), Entry("1.mp4", "val", "v:1")])

    assert [item.split for item in listing.items] == ["train", "val"]
    assert "1 samples are listed in both train and val" in caplog.text


def test_lists_of_another_folder_are_a_missing_input(tmp_path: Path) -> None:
    touch(tmp_path, "1.mp4")

    with pytest.raises(MissingInputError, match=r"none of the 1 files.*'b/2\.mp4'.*source"):
        listed(tmp_path, [Entry("b/2.mp4", "train", "t:1")])


def test_a_unique_name_in_two_folders_is_not_guessed_at(tmp_path: Path) -> None:
    touch(tmp_path, "avi/7.avi", "webm/7.webm")

    with pytest.raises(ConfigError, match=r"t:1: '7' may be avi/7\.avi or webm/7\.webm"):
        listed(tmp_path, [Entry("7", "train", "t:1")], is_unique=True)


def test_frames_with_masks_are_one_item(tmp_path: Path) -> None:
    touch(tmp_path, "f/s/0.jpg", "f/s/1.jpg", "m/s/0.png", "f/t/0.jpg")

    listing = listed(
        tmp_path,
        [
            Entry(
                "s",
                "train",
                "t:1",
                media="frames",
                frames=("f/s/0.jpg", "f/s/1.jpg"),
                sidecars=("m/s/0.png",),
            )
        ],
    )

    (item,) = listing.items
    assert item.name == "s"
    assert [file.name for file in item.files] == ["f/s/0.jpg", "f/s/1.jpg"]
    assert [file.name for file in item.sidecars] == ["m/s/0.png"]
    assert rows(listing) == [("f/t/0.jpg", "not_listed", False)]


def test_frames_of_which_one_is_missing_are_accounted_for_file_by_file(tmp_path: Path) -> None:
    touch(tmp_path, "s/0.jpg", "s/1.jpg", "1.mp4")
    frames = ("s/0.jpg", "s/1.jpg", "s/2.jpg")

    listing = listed(
        tmp_path,
        [
            Entry("s", "train", "t:1", media="frames", frames=frames),
            Entry("1.mp4", "train", "t:2"),
        ],
    )

    assert rows(listing) == [
        ("s", "missing_file", True),
        ("s/0.jpg", "missing_file", False),
        ("s/1.jpg", "missing_file", False),
    ]
    assert listing.left_out["train"][0].detail == "1 of 3 files, first s/2.jpg; listed at t:1"


def test_an_image_is_found_by_its_exact_path(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png")

    (item,) = listed(tmp_path, [Entry("a/1.png", "train", "t:1", 0, media="image")]).items

    assert (item.name, item.media) == ("a/1.png", "image")


def test_sidecars_do_not_go_with_lists(tmp_path: Path) -> None:
    dataset = DatasetConfig(source=str(tmp_path), catalogue="table", sidecars=True)

    with pytest.raises(ConfigError, match="'table' takes annotations from its lists"):
        list_entries(dataset, SourceFiles([tmp_path]), [], (), Flaws())
