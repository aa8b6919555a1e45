"""AVA: boxes by second."""

import json
from pathlib import Path
from typing import Any

import pytest

from sigma_pipeline.data_prep.catalogues.ava import list_ava
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.infra.errors import ConfigError, MissingInputError

BOXES = "annotations/ava_val_v2.2.csv"


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def source(root: Path, *movies: str) -> Path:
    """Two frames of each movie, its frame list and a first box."""
    lines = ["original_vido_id video_id frame_id path labels"]
    for number, movie in enumerate(movies):
        for frame in (1, 2):
            path = f"{movie}/{movie}_{frame:06d}.jpg"
            touch(root, f"frames/{path}")
            lines.append(f'{movie} {number} {frame - 1} {path} ""')
    write(root / "frame_lists/val.csv", "\n".join(lines))
    write(root / BOXES, f"{movies[0]},0902,0.1,0.2,0.3,0.4,12,1\n")
    return root


def listed(root: Path, **settings: object) -> Listing:
    dataset = DatasetConfig.model_validate(
        {
            "source": str(root),
            "catalogue": "ava",
            "splits": {"val": "frame_lists/val.csv"},
            **settings,
        }
    )
    return list_ava(dataset, [root])


def annotation(item: Item) -> Any:
    return json.loads(item.annotation or "")


def test_a_movie_has_its_boxes_by_second_and_all_its_actions(tmp_path: Path) -> None:
    source(tmp_path, "-5KQ66BBWC4", "_-Z6wFjXtGQ")
    with (tmp_path / BOXES).open("a") as file:
        file.write("-5KQ66BBWC4,0902,0.1,0.2,0.3,0.4,80,1\n-5KQ66BBWC4,0903,0,0,1,1,12,2\n")

    one, two = listed(tmp_path).items

    assert (one.name, one.media, len(one.files)) == ("frames/-5KQ66BBWC4", "frames", 2)
    assert one.labels == (11, 79)
    assert annotation(one) == {
        "boxes": {
            "902": [[0.1, 0.2, 0.3, 0.4, 12, 1], [0.1, 0.2, 0.3, 0.4, 80, 1]],
            "903": [[0, 0, 1, 1, 12, 2]],
        },
        "excluded": [],
        "fps": 30,
        "start_s": 900,
    }
    assert (two.labels, annotation(two)["boxes"]) == ((), {})


def test_real_lists_are_read(real_videos: Path, tmp_path: Path) -> None:
    folder = real_videos / "annotations"
    source(tmp_path, "1j20qq1JyX4", "5BDj0ow5hnA")
    boxes = "ava/ava_val_v2.1.head.csv"
    options = {
        "boxes": boxes,
        "excluded": "ava/ava_val_excluded_timestamps_v2.1.csv",
        "actions": "severe/ava/ava_action_list_v2.1_for_activitynet_2018.pbtxt.txt",
    }

    # Lists lie in one folder.
    write(tmp_path / "lists/val.csv", (tmp_path / "frame_lists/val.csv").read_text())
    (tmp_path / "lists/ava").symlink_to(folder / "ava")
    (tmp_path / "lists/severe").symlink_to(folder / "severe")
    listing = listed(
        tmp_path, annotations=str(tmp_path / "lists"), options=options, splits={"val": "val.csv"}
    )

    one, two = listing.items
    found = annotation(one)["boxes"]
    assert sum(map(len, found.values())) == len((folder / boxes).read_text().split())
    assert found["902"][0] == [0.002, 0.118, 0.714, 0.977, 12, 1]
    assert annotation(two)["excluded"] == [1038, 1058, 1065]
    assert len(listing.classes) == 80
    assert (listing.classes[11], listing.classes[1]) == ("stand", "action 2")


def test_predicted_boxes_have_a_score_and_perhaps_no_action(tmp_path: Path) -> None:
    source(tmp_path, "A")
    write(tmp_path / "boxes_val.csv", "A,0902,0.1,0.2,0.3,0.4,,0.97\nA,0902,0,0,1,1,-1,0.5\n")

    (item,) = listed(tmp_path, options={"predicted_boxes": "boxes_{split}.csv"}).items

    assert annotation(item)["predicted_boxes"] == {
        "902": [[0.1, 0.2, 0.3, 0.4, None, 0.97], [0, 0, 1, 1, None, 0.5]]
    }
    assert item.labels == (11,)


def test_a_video_file_stands_for_frames_that_are_not_there(tmp_path: Path) -> None:
    source(tmp_path, "A")
    for frame in (tmp_path / "frames/A").iterdir():
        frame.unlink()
    touch(tmp_path, "trainval/A.mkv")

    (item,) = listed(tmp_path).items

    assert (item.name, item.media) == ("trainval/A.mkv", "video")
    assert annotation(item)["start_s"] == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("A,0902,0.1,0.2,0.3,0.4,81,1", r"ava_val_v2.2.csv:1: action 81 is not one of the 80"),
        ("A,0902,nan,0.2,0.3,0.4,1,1", r"ava_val_v2.2.csv:1: there is no box nan, 0.2, 0.3, 0.4"),
        ("A,0902,0.1,0.2,0.3", r"ava_val_v2.2.csv:1: 8 columns are needed, not 5"),
        ("A,0902,left,0.2,0.3,0.4,1,1", r"ava_val_v2.2.csv:1: could not convert .* 'left'"),
    ],
)
def test_a_malformed_box_is_named_with_its_place(tmp_path: Path, line: str, message: str) -> None:
    write(source(tmp_path, "A") / BOXES, line)

    with pytest.raises(ConfigError, match=message):
        listed(tmp_path)


def test_a_malformed_second_is_named_with_its_place(tmp_path: Path) -> None:
    write(source(tmp_path, "A") / "out.csv", "A,0902\nA\n")

    with pytest.raises(ConfigError, match=r"out.csv:2: 'A' is not a movie and a second"):
        listed(tmp_path, options={"excluded": "out.csv"})


def test_missing_boxes_are_a_missing_input_with_the_key_to_set(tmp_path: Path) -> None:
    (source(tmp_path, "A") / BOXES).unlink()

    with pytest.raises(MissingInputError, match=r"ava_val_v2.2.csv' is not there; .*options.boxes"):
        listed(tmp_path)
