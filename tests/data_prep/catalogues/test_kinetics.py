"""Kinetics in the three forms of its lists."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.infra.errors import ConfigError

ListDataset = Callable[..., Listing]
MakeFiles = Callable[..., Path]
CountRows = Callable[[Listing], Mapping[str, Mapping[str, int]]]

OFFICIAL = "label,youtube_id,time_start,time_end,split\n"


def found(listing: Listing) -> dict[str, tuple[int | None, str | None]]:
    return {item.name: (item.label, item.class_name) for item in listing.items}


def test_a_real_videofolder_list_finds_clips_of_any_suffix_and_names_classes_by_folders(
    list_dataset: ListDataset, make_files: MakeFiles, count_rows: CountRows, real_videos: Path
) -> None:
    source = make_files(
        "videos",
        "abseiling/0wR5jVB-WPk_000417_000427.mp4",
        "applying_cream/2-OY-ICQecA_000179_000189.avi",
        "applying_cream/unknown.avi",
    )

    listing = list_dataset(
        "kinetics",
        source,
        real_videos / "annotations/severe/kinetics",
        splits={"val": "val_videofolder.head.txt"},
    )

    assert found(listing) == {
        "abseiling/0wR5jVB-WPk_000417_000427.mp4": (0, "abseiling"),
        "applying_cream/2-OY-ICQecA_000179_000189.avi": (4, "applying_cream"),
    }
    assert len(listing.classes) == 5
    assert count_rows(listing) == {"val": {"missing_file": 198, "not_listed": 1}}


def test_a_real_list_of_absolute_paths_is_matched_by_their_tails(
    list_dataset: ListDataset, make_files: MakeFiles, count_rows: CountRows, real_videos: Path
) -> None:
    source = make_files("videos", "k400/belly_dancing/zkyy5cC7SL4_000000_000010.mp4")

    listing = list_dataset(
        "kinetics",
        source,
        real_videos / "annotations/sigma_mini_kinetics",
        splits={"val": "val.head.csv"},
    )

    assert found(listing) == {
        "k400/belly_dancing/zkyy5cC7SL4_000000_000010.mp4": (8, "belly_dancing")
    }
    assert (listing.classes[7], listing.classes[107]) == ("7", "playing_didgeridoo")
    assert count_rows(listing) == {"val": {"missing_file": 29}}


def test_the_official_table_names_clips_by_id_with_or_without_times(
    list_dataset: ListDataset, make_files: MakeFiles, real_videos: Path
) -> None:
    content = OFFICIAL + (
        'arm wrestling,R6llTwEh07w,5,15,train\nzumba,"abc-_1",17,27,train\nzumba,gone,1,11,train\n'
    )
    lists = make_files("lists", contents={"train.csv": content})
    make_files("videos", "zumba/abc-_1_000017_000027.mp4")
    (lists.parent / "videos/real").symlink_to(real_videos / "actions/kinetics")

    listing = list_dataset(
        "kinetics", lists.parent / "videos", lists, splits={"train": "train.csv"}
    )

    assert found(listing) == {
        "real/_unlabelled/R6llTwEh07w.mp4": (0, "arm wrestling"),
        "zumba/abc-_1_000017_000027.mp4": (1, "zumba"),
    }
    rows = {row.source: row.reason for row in listing.left_out["train"]}
    assert rows == {
        "gone_000001_000011": "missing_file",
        "real/_unlabelled/dog.mp4": "not_listed",
        "real/arm_wrestling/demo.mp4": "not_listed",
        "real/flipping_pancake/flipping_a_pancake.mkv": "not_listed",
    }


def test_classes_may_come_from_a_file(list_dataset: ListDataset, make_files: MakeFiles) -> None:
    lists = make_files(
        "lists", contents={"train.txt": "b/1 30 1\n", "names.txt": "abseiling\nbowling\n"}
    )

    listing = list_dataset(
        "kinetics",
        make_files("videos", "b/1.mp4"),
        lists,
        splits={"train": "train.txt"},
        options={"classes": "names.txt"},
    )

    assert found(listing) == {"b/1.mp4": (1, "bowling")}


def test_clips_of_one_label_in_several_folders_leave_it_its_number(
    list_dataset: ListDataset, make_files: MakeFiles
) -> None:
    lists = make_files("lists", contents={"train.txt": "a/1 30 0\nb/2 30 0\n"})
    source = make_files("videos", "a/1.mp4", "b/2.mp4")

    listing = list_dataset("kinetics", source, lists, splits={"train": "train.txt"})

    assert listing.classes == ("0",)


@pytest.mark.parametrize(
    ("content", "flaw"),
    [
        ("a/1.mp4 0\na/2 x\n", "t:2: 'a/2 x' is not '<path> <label>'"),
        ("a/1 30 0\na/2\n", "t:2: 'a/2' is not '<class>/<clip> <frames> <label>'"),
        (OFFICIAL + "x,1,2\n", "t:2: 'x,1,2' is not 'label,youtube_id"),
        (OFFICIAL + "x,id,1.5,2,val\n", "t:2: 'x,id,1.5,2,val' is not"),
    ],
)
def test_malformed_lines_are_shown(
    list_dataset: ListDataset, make_files: MakeFiles, content: str, flaw: str
) -> None:
    lists = make_files("lists", contents={"t": content})

    with pytest.raises(ConfigError) as caught:
        list_dataset("kinetics", make_files("videos", "a/1.mp4"), lists, splits={"train": "t"})

    assert flaw in str(caught.value)
