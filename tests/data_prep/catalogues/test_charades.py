"""Charades by frame lists and by intervals."""

import json
from pathlib import Path

import pytest

from sigma_pipeline.data_prep.catalogues.charades import list_charades
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.infra.errors import ConfigError

FRAME_LIST = 'original_vido_id video_id frame_id path labels\nA 0 0 A/A-000001.jpg ""\n'
INTERVALS = "id,subject,script,actions,length\n"


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def listed(root: Path, **settings: object) -> Listing:
    dataset = DatasetConfig.model_validate(
        {"source": str(root), "catalogue": "charades", "splits": {"val": "val.csv"}, **settings}
    )
    return list_charades(dataset, [root])


def test_labels_of_a_video_are_the_union_and_those_of_frames_are_kept(tmp_path: Path) -> None:
    touch(tmp_path, "Charades_v1_rgb/A/A-000001.jpg", "Charades_v1_rgb/A/A-000002.jpg")
    write(tmp_path / "val.csv", FRAME_LIST + 'A 0 1 A/A-000002.jpg "75,79"\n')

    (item,) = listed(tmp_path).items

    assert (item.name, item.media, item.labels) == ("Charades_v1_rgb/A", "frames", (75, 79))
    assert [Path(file.name).name for file in item.files] == ["A-000001.jpg", "A-000002.jpg"]
    assert json.loads(item.annotation or "") == {"fps": 24, "frame_labels": [[1, 2, [75, 79]]]}


def test_the_real_frame_list_is_read(real_videos: Path, tmp_path: Path) -> None:
    folder = real_videos / "annotations" / "charades"
    names = [f"img_{number:05d}.jpg" for number in range(1, 10)]
    touch(tmp_path, *names, "img_000010.jpg")

    listing = listed(
        tmp_path, annotations=str(folder), splits={"test": "charades_test_ann.frame_list.csv"}
    )

    (item,) = listing.items
    assert (item.name, len(item.files), item.labels) == ("YSKX3", 10, (75, 76, 77, 79))
    assert json.loads(item.annotation or "")["frame_labels"] == [
        [1, 3, [75]],
        [3, 5, [75, 76, 79]],
        [5, 7, [75, 76, 77, 79]],
        [7, 8, [75, 76]],
        [8, 10, [76]],
    ]


def test_a_video_file_stands_for_frames_that_are_not_there(tmp_path: Path) -> None:
    touch(tmp_path, "Charades_v1_480/A.mp4")
    write(tmp_path / "val.csv", FRAME_LIST)

    (item,) = listed(tmp_path).items

    assert (item.name, item.media) == ("Charades_v1_480/A.mp4", "video")


def test_a_video_that_lacks_a_frame_is_left_out_and_counts(tmp_path: Path) -> None:
    touch(tmp_path, "Charades_v1_rgb/A/A-000001.jpg", "B.mp4")
    more = 'A 0 1 A/A-000002.jpg ""\nB 1 0 B/B-000001.jpg ""\n'
    write(tmp_path / "val.csv", FRAME_LIST + more)

    listing = listed(tmp_path)

    assert [item.name for item in listing.items] == ["B.mp4"]
    (row,) = [row for row in listing.left_out["val"] if row.counted]
    assert (row.source, row.reason) == ("Charades_v1_rgb/A", "missing_file")
    assert "1 of 2 files, first Charades_v1_rgb/A/A-000002.jpg; listed at val.csv:2" in row.detail


def test_intervals_give_labels_and_seconds(tmp_path: Path) -> None:
    touch(tmp_path, "A.mp4", "B.mp4", "Charades_v1_rgb/C/1.jpg")
    rows = [
        'A,S1,"He sits, then runs.",c092 11.90 21.20;c001 0.00 12.60;c092 1 2,24.83',
        "B,S1,nothing,,10",
        "C,S1,frames,c005 1.0 2.0,3",
    ]
    write(tmp_path / "val.csv", INTERVALS + "\n".join(rows))

    one, two, three = listed(tmp_path).items

    assert (one.name, one.labels) == ("A.mp4", (1, 92))
    assert json.loads(one.annotation or "") == {
        "actions": [[92, 11.9, 21.2], [1, 0.0, 12.6], [92, 1.0, 2.0]],
        "length_s": 24.83,
    }
    assert (two.labels, json.loads(two.annotation or "")["actions"]) == ((), [])
    assert (three.media, json.loads(three.annotation or "")["fps"]) == ("frames", 24)


def test_classes_have_the_names_of_their_list_where_it_is_there(tmp_path: Path) -> None:
    touch(tmp_path, "A.mp4")
    write(tmp_path / "val.csv", FRAME_LIST)
    assert listed(tmp_path).classes[156] == "c156"

    names = "\n".join(f"c{number:03d} Doing {number}" for number in range(157))
    write(tmp_path / "Charades_v1_classes.txt", names)

    assert listed(tmp_path).classes[7] == "Doing 7"

    write(tmp_path / "Charades_v1_classes.txt", names.replace("c003 ", "c004 "))
    with pytest.raises(ConfigError, match=r"classes.txt:4: 'c004 Doing 3' is not class c003 with"):
        listed(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FRAME_LIST + 'A 0 1 A/2.jpg "157"', r"val.csv:2: label 157 is not among the 157"),
        (INTERVALS + "A,S1,x,c1 2 3,4", r"val.csv:2: 'c1 2 3' is not '<class> <start> <end>'"),
        (INTERVALS + "A,S1,x,c001 2 3,long", r"val.csv:2: length 'long' is no number"),
    ],
)
def test_what_cannot_be_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path, "A.mp4")
    write(tmp_path / "val.csv", text)

    with pytest.raises(ConfigError, match=message):
        listed(tmp_path)
