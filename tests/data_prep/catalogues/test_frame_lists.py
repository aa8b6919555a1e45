"""Lists with a line per frame, and looking frames up."""

from pathlib import Path

import pytest

from sigma_pipeline.data_prep.catalogues.frame_lists import (
    FrameFolders,
    Placed,
    label_runs,
    masks_in,
    pictures_in,
    read_frame_list,
)
from sigma_pipeline.data_prep.catalogues.list_files import ListFiles
from sigma_pipeline.data_prep.catalogues.lists import Flaws
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.source_files import SourceFiles

HEADER = "original_vido_id video_id frame_id path labels\n"


def touch(root: Path, *names: str) -> SourceFiles:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return SourceFiles([root])


def lists(folder: Path, text: str) -> ListFiles:
    (folder / "val.csv").write_text(text)
    return ListFiles(DatasetConfig(source=str(folder), catalogue="charades"), [folder])


def test_frames_are_grouped_by_video_in_the_order_of_the_list(tmp_path: Path) -> None:
    text = HEADER + 'A 0 0 A/2.jpg ""\nB 1 0 B/1.jpg "5"\nA 0 1 A/10.jpg "7,3"\n'

    found = read_frame_list(lists(tmp_path, text), "val.csv", "splits.val", Flaws())

    assert list(found) == ["A", "B"]
    assert (found["A"].where, found["A"].paths) == ("val.csv:2", ["A/2.jpg", "A/10.jpg"])
    assert found["A"].labels == [(), (7, 3)]
    assert found["A"].all_labels == (3, 7)


@pytest.mark.parametrize(
    ("line", "flaw"),
    [
        ("A 0 0 A/1.jpg", "val.csv:2: 5 columns are needed, not 4"),
        ('A 0 0 A/1.jpg "" more', "val.csv:2: 5 columns are needed, not 6"),
        ('A 0 0 A/1.jpg "1;2"', "val.csv:2: labels '1;2' are no numbers"),
        ('A 0 0 A/1.jpg ""\nA 0 1 A/1.jpg ""', "val.csv:2: frames of 'A' are listed twice"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, flaw: str) -> None:
    flaws = Flaws()

    read_frame_list(lists(tmp_path, HEADER + line), "val.csv", "splits.val", flaws)

    assert flaws.found == [flaw]


def test_runs_of_equal_labels_end_before_the_next_and_skip_frames_without() -> None:
    labels = [(), (5,), (5,), (7, 5), (), (5,)]

    assert label_runs(labels) == [[1, 3, [5]], [3, 4, [5, 7]], [5, 6, [5]]]
    assert label_runs([]) == []


def test_frames_are_found_below_their_folder_or_below_the_source(tmp_path: Path) -> None:
    folders = FrameFolders(touch(tmp_path, "rgb/A/1.jpg", "B/1.jpg", "films/C.mp4"), "rgb/")

    assert folders.place("A", ["A/1.jpg", "A/2.jpg"]) == Placed(
        "frames", "rgb/A", ("rgb/A/1.jpg", "rgb/A/2.jpg")
    )
    assert folders.place("B", ["B/1.jpg"]) == Placed("frames", "B", ("B/1.jpg",))
    assert folders.place("C", ["C/1.jpg"]) == Placed("video", "C")
    assert folders.place("D", ["D/1.jpg"]) == Placed("frames", "rgb/D", ("rgb/D/1.jpg",))


def test_without_a_list_all_pictures_of_a_folder_are_frames(tmp_path: Path) -> None:
    files = touch(tmp_path, "rgb/A/2.jpg", "rgb/A/1.JPEG", "rgb/A/1.png", "rgb/A/1.txt", "C.mp4")

    assert FrameFolders(files, "rgb").place_all("A").frames == (
        "rgb/A/1.JPEG",
        "rgb/A/1.png",
        "rgb/A/2.jpg",
    )
    assert FrameFolders(files, "rgb").place_all("C") == Placed("video", "C")
    assert pictures_in(files, "rgb") == ()
    assert masks_in(files, "rgb/A") == ("rgb/A/1.png",)
