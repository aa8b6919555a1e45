"""YouTube-VOS."""

import json
from pathlib import Path
from typing import Any

import pytest

from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.catalogues.youtube_vos import list_youtube_vos
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.infra.errors import ConfigError

OBJECTS = {
    "1": {"category": "penguin", "frames": ["00005", "00015"]},
    "2": {"category": "sign", "frames": ["00015"]},
}


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def meta(root: Path, split: str, videos: Any) -> None:
    (root / split).mkdir(exist_ok=True)
    (root / split / "meta.json").write_text(json.dumps({"videos": videos}))


def listed(root: Path, **settings: object) -> Listing:
    dataset = DatasetConfig.model_validate(
        {
            "source": str(root),
            "catalogue": "youtube_vos",
            "splits": {"train": "train/meta.json"},
            **settings,
        }
    )
    return list_youtube_vos(dataset, [root])


def test_a_video_has_sparse_frames_masks_and_objects(tmp_path: Path) -> None:
    meta(tmp_path, "train", {"003234408d": {"objects": OBJECTS}})
    stems = ["00000", "00005", "00015"]
    touch(tmp_path, *(f"train/JPEGImages/003234408d/{stem}.jpg" for stem in stems))
    touch(tmp_path, *(f"train/Annotations/003234408d/{stem}.png" for stem in stems))

    (item,) = listed(tmp_path).items

    assert (item.name, item.media) == ("train/JPEGImages/003234408d", "frames")
    assert (len(item.files), len(item.sidecars)) == (3, 3)
    assert json.loads(item.annotation or "") == {
        "fps": 6,
        "objects": {
            "1": {"category": "penguin", "frames": [1, 2]},
            "2": {"category": "sign", "frames": [2]},
        },
    }


def test_validation_videos_have_masks_of_first_frames_alone(tmp_path: Path) -> None:
    meta(tmp_path, "train", {"a": {"objects": {}}})
    meta(tmp_path, "valid", {"b": {"objects": {"1": {"category": "x", "frames": ["00000"]}}}})
    touch(tmp_path, "train/JPEGImages/a/00000.jpg", "valid/JPEGImages/b/00000.jpg")
    touch(tmp_path, "valid/JPEGImages/b/00005.jpg", "valid/Annotations/b/00000.png")

    listing = listed(tmp_path, splits={"train": "train/meta.json", "val": "valid/meta.json"})

    assert [(item.split, len(item.files), len(item.sidecars)) for item in listing.items] == [
        ("train", 1, 0),
        ("val", 2, 1),
    ]


def test_a_video_that_lacks_a_frame_of_its_objects_is_left_out_and_counts(tmp_path: Path) -> None:
    meta(tmp_path, "train", {"a": {"objects": OBJECTS}, "b": {"objects": {}}, "c": {}})
    touch(tmp_path, "train/JPEGImages/a/00005.jpg", "train/JPEGImages/b/00000.jpg")

    listing = listed(tmp_path)

    assert [item.name for item in listing.items] == ["train/JPEGImages/b"]
    rows = [row for row in listing.left_out["train"] if row.counted]
    assert [row.source for row in rows] == ["train/JPEGImages/a", "train/JPEGImages/c"]
    assert (
        "first train/JPEGImages/a/00015.jpg; listed at train/meta.json:videos.a" in rows[0].detail
    )


def test_lists_of_names_divide_the_videos_of_one_description(tmp_path: Path) -> None:
    meta(tmp_path, "train", {name: {"objects": OBJECTS} for name in "abc"})
    for name in "abc":
        stems = ("00005", "00015")
        touch(tmp_path, *(f"train/JPEGImages/{name}/{stem}.jpg" for stem in stems))
        touch(tmp_path, f"train/Annotations/{name}/00005.png")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/ours.txt").write_text("c\n")
    (tmp_path / "lists/theirs.txt").write_text("b \n\n")

    listing = listed(tmp_path, splits={"train": "lists/ours.txt", "val": "lists/theirs.txt"})

    assert [(item.name, item.split, len(item.sidecars)) for item in listing.items] == [
        ("train/JPEGImages/b", "val", 1),
        ("train/JPEGImages/c", "train", 1),
    ]
    assert "penguin" in (listing.items[0].annotation or "")
    left_out = {row.source for row in listing.left_out["train"]}
    assert "train/JPEGImages/a/00005.jpg" in left_out


def test_names_that_are_not_described_are_errors_that_name_them(tmp_path: Path) -> None:
    meta(tmp_path, "full", {"a": {"objects": OBJECTS}})
    (tmp_path / "val.txt").write_text("a\nb\nA\n")
    settings = {"splits": {"val": "val.txt"}, "options": {"meta": "full/meta.json"}}

    message = "val.txt:2: video 'b' is not in full/meta.json; val.txt:3: video 'A' is not in"
    with pytest.raises(ConfigError, match=message):
        listed(tmp_path, **settings)


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        (None, r"train/meta.json: holds no object 'videos'"),
        ({"a": {"objects": {"1": {"frames": []}}}}, r"meta.json:videos.a: objects.1.category: F"),
        ({"a": 91}, r"train/meta.json:videos.a: : Input should be"),
    ],
)
def test_a_malformed_list_is_named_with_its_place(
    tmp_path: Path, videos: Any, message: str
) -> None:
    meta(tmp_path, "train", videos)

    with pytest.raises(ConfigError, match=message):
        listed(tmp_path)


def test_the_real_list_of_another_project_is_refused(real_videos: Path) -> None:
    folder = real_videos / "annotations/youtube_vos"

    with pytest.raises(ConfigError, match=r"e2fgvi_test.json.head: holds no object 'videos'"):
        listed(folder, splits={"test": "e2fgvi_test.json.head"})
