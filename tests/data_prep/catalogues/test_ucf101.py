"""UCF101 by its real lists, with the few real videos that are here."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.infra.errors import ConfigError, MissingInputError

LISTS = "annotations/severe/ucf101"

ListDataset = Callable[..., Listing]
MakeFiles = Callable[..., Path]


@pytest.fixture
def small(make_files: MakeFiles) -> tuple[Path, Path]:
    """A source with two classes, and lists of two folds."""
    source = make_files("videos", "Run/v_Run_g01_c01.avi", "Walk/v_Walk_g02_c01.avi")
    lists = make_files(
        "lists",
        contents={
            "classInd.txt": "1 Run\r\n2 Walk\r\n",
            "trainlist01.txt": "Run/v_Run_g01_c01.avi 1\r\n",
            "testlist01.txt": "Walk/v_Walk_g02_c01.avi\r\n",
            "trainlist02.txt": "Walk/v_Walk_g02_c01.avi 2\r\n",
            "testlist02.txt": "Run/v_Run_g01_c01.avi\r\n",
        },
    )
    return source, lists


def labels(listing: Listing) -> dict[str, tuple[str, int | None]]:
    return {item.name: (item.split, item.label) for item in listing.items}


def test_real_lists_and_videos_are_accounted_for_one_by_one(
    list_dataset: ListDataset, real_videos: Path
) -> None:
    listing = list_dataset("ucf101", real_videos / "actions/ucf101", real_videos / LISTS)

    assert Counter(item.split for item in listing.items) == {"train": 1, "val": 10}
    assert Counter(row.reason for row in listing.left_out["train"]) == {"missing_file": 9536}
    assert Counter(row.reason for row in listing.left_out["val"]) == {"missing_file": 3773}
    assert len(listing.classes) == 101
    assert (listing.classes[0], listing.classes[100]) == ("ApplyEyeMakeup", "YoYo")


def test_labels_count_from_0_and_test_lists_take_them_from_the_folder(
    list_dataset: ListDataset, real_videos: Path
) -> None:
    listing = list_dataset("ucf101", real_videos / "actions/ucf101", real_videos / LISTS)

    found = {item.name: item for item in listing.items}
    trained = found["SoccerJuggling/v_SoccerJuggling_g23_c01.avi"]
    tested = found["Basketball/v_Basketball_g01_c01.avi"]
    assert (trained.label, trained.class_name) == (83, "SoccerJuggling")
    assert (tested.label, tested.class_name) == (7, "Basketball")
    assert (trained.group, tested.group) == ("SoccerJuggling/g23", "Basketball/g01")
    assert trained.listed_at == "trainlist01.txt:7979"


def test_each_class_counts_its_own_groups(
    list_dataset: ListDataset, real_videos: Path, make_files: MakeFiles
) -> None:
    lists = real_videos / LISTS
    lines = (lists / "testlist01.txt").read_text().splitlines()
    names = [line.strip() for line in lines if line.strip().endswith("_c01.avi")]

    listing = list_dataset("ucf101", make_files("all", *names), lists)

    assert len({item.group for item in listing.items}) == 707  # of 25 numbers


def test_a_missing_file_counts_and_says_where_it_is_listed(
    list_dataset: ListDataset, real_videos: Path
) -> None:
    listing = list_dataset("ucf101", real_videos / "actions/ucf101", real_videos / LISTS)

    row = listing.left_out["train"][0]
    assert row.source == "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi"
    assert (row.counted, row.detail) == (True, "listed at trainlist01.txt:1")


def test_the_source_may_be_a_folder_above_that_of_the_classes(
    list_dataset: ListDataset, real_videos: Path
) -> None:
    listing = list_dataset("ucf101", real_videos / "actions", real_videos / LISTS)

    assert len(listing.items) == 11
    assert all(item.name.startswith("ucf101/") for item in listing.items)
    rows = [row for row in listing.left_out["train"] if row.reason != "missing_file"]
    assert {row.reason for row in rows} == {"not_listed", "not_a_video"}
    top = real_videos / "actions"
    below = sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.is_file())
    assert sorted([row.source for row in rows] + [item.name for item in listing.items]) == below


def test_each_fold_has_its_own_lists(list_dataset: ListDataset, small: tuple[Path, Path]) -> None:
    one = list_dataset("ucf101", *small)
    two = list_dataset("ucf101", *small, options={"fold": 2})

    assert labels(one) == {
        "Run/v_Run_g01_c01.avi": ("train", 0),
        "Walk/v_Walk_g02_c01.avi": ("val", 1),
    }
    assert labels(two) == {
        "Run/v_Run_g01_c01.avi": ("val", 0),
        "Walk/v_Walk_g02_c01.avi": ("train", 1),
    }


def test_a_fold_that_does_not_exist_is_refused(
    list_dataset: ListDataset, small: tuple[Path, Path]
) -> None:
    with pytest.raises(ConfigError, match=r"options\.fold.*knows these options: fold"):
        list_dataset("ucf101", *small, options={"fold": 4})


def test_a_list_that_is_not_there_names_the_keys_to_set(
    list_dataset: ListDataset, small: tuple[Path, Path]
) -> None:
    with pytest.raises(MissingInputError, match=r"trainlist03\.txt.*annotations.*splits\.train"):
        list_dataset("ucf101", *small, options={"fold": 3})


def test_labels_outside_of_the_classes_and_unknown_folders_are_shown_by_line(
    list_dataset: ListDataset, small: tuple[Path, Path]
) -> None:
    (small[1] / "trainlist01.txt").write_text("Run/a.avi 0\nRun/b.avi 1\nRun/c.avi 3\n")
    (small[1] / "testlist01.txt").write_text("Swim/d.avi\n")

    with pytest.raises(ConfigError) as caught:
        list_dataset("ucf101", *small)

    message = str(caught.value)
    assert "trainlist01.txt:1: label 0 is not among 1 to 2" in message
    assert "trainlist01.txt:3: label 3 is not among 1 to 2" in message
    assert "testlist01.txt:1: 'Swim' is not a class" in message


def test_classes_are_numbered_without_gaps(
    list_dataset: ListDataset, small: tuple[Path, Path]
) -> None:
    (small[1] / "classInd.txt").write_text("1 Run\n3 Walk\n")

    with pytest.raises(ConfigError, match=r"classInd\.txt:2: '3 Walk' is not '2 <a new class>'"):
        list_dataset("ucf101", *small)
