"""DAVIS by names of sequences and by pairs of paths."""

import json
from pathlib import Path

import pytest

from sigma_pipeline.data_prep.catalogues.davis import list_davis
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.infra.errors import ConfigError


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
        {"source": str(root), "catalogue": "davis", "splits": {"val": "val.txt"}, **settings}
    )
    return list_davis(dataset, [root])


def test_a_sequence_has_its_frames_and_the_masks_of_the_task(tmp_path: Path) -> None:
    write(tmp_path / "val.txt", "bear\n")
    touch(
        tmp_path,
        "JPEGImages/480p/bear/00000.jpg",
        "JPEGImages/480p/bear/00001.jpg",
        "Annotations/480p/bear/00000.png",
        "Annotations_unsupervised/480p/bear/00001.png",
    )

    (semi,) = listed(tmp_path).items
    options = {"annotations_folder": "Annotations_unsupervised/480p"}
    (unsupervised,) = listed(tmp_path, options=options).items

    assert (semi.name, semi.media, len(semi.files)) == ("JPEGImages/480p/bear", "frames", 2)
    assert [file.name for file in semi.sidecars] == ["Annotations/480p/bear/00000.png"]
    assert semi.annotation == '{"fps":24.0}'
    assert [file.name for file in unsupervised.sidecars] == [
        "Annotations_unsupervised/480p/bear/00001.png"
    ]


def test_categories_of_objects_are_noted_where_they_are_known(tmp_path: Path) -> None:
    write(tmp_path / "val.txt", "bear\n")
    write(tmp_path / "davis_semantics.json", '{"bear": {"1": "bear", "2": "man"}}')
    touch(tmp_path, "JPEGImages/480p/bear/00000.jpg")

    (item,) = listed(tmp_path).items

    assert json.loads(item.annotation or "")["objects"] == {
        "1": {"category": "bear"},
        "2": {"category": "man"},
    }

    write(tmp_path / "davis_semantics.json", "[1]")
    with pytest.raises(ConfigError, match=r"davis_semantics.json is not of the form"):
        listed(tmp_path)


def test_pairs_name_frames_and_masks_and_what_they_leave_out_is_noted(tmp_path: Path) -> None:
    names = ["JPEGImages/480p/bear/0000{}.jpg", "Annotations/480p/bear/0000{}.png"]
    touch(tmp_path, *(name.format(number) for name in names for number in range(3)))
    lines = [" ".join(f"/{name.format(number)}" for name in names) for number in (1, 2)]
    write(tmp_path / "val.txt", " \n".join(lines))

    listing = listed(tmp_path)

    (item,) = listing.items
    assert item.name == "JPEGImages/480p/bear"
    assert [file.name[-9:] for file in item.files] == ["00001.jpg", "00002.jpg"]
    assert [file.name[-9:] for file in item.sidecars] == ["00001.png", "00002.png"]
    assert {(row.source, row.reason) for row in listing.left_out["val"]} == {
        ("JPEGImages/480p/bear/00000.jpg", "not_listed"),
        ("Annotations/480p/bear/00000.png", "not_listed"),
        ("val.txt", "not_a_video"),
    }


def test_folders_may_lie_in_folders_of_sequences(tmp_path: Path) -> None:
    write(tmp_path / "val.txt", "judo\n")
    touch(tmp_path, "judo/images/00000.jpg", "judo/images/00005.jpg", "judo/masks/00005.png")
    options = {"frames_folder": "{sequence}/images", "annotations_folder": "{sequence}/masks"}

    (item,) = listed(tmp_path, options=options).items

    assert (item.name, len(item.files), len(item.sidecars)) == ("judo/images", 2, 1)


@pytest.mark.parametrize(
    ("train", "val"),
    [("2016_480p_train.txt", "2016_480p_val.txt"), ("2017_class_train.txt", "2017_class_val.txt")],
)
def test_real_lists_find_the_real_sequences(real_videos: Path, train: str, val: str) -> None:
    listing = listed(
        real_videos / "vos/DAVIS",
        annotations=str(real_videos / "annotations/davis"),
        splits={"train": train, "val": val},
    )

    assert {(item.name[16:], item.split, len(item.files)) for item in listing.items} == {
        ("blackswan", "val", 50),
        ("car-shadow", "val", 40),
        ("dog-agility", "train", 25),
    }
    assert all(len(item.sidecars) == len(item.files) for item in listing.items)
    missing = [row for row in listing.left_out["val"] if row.counted]
    assert {row.reason for row in missing} == {"missing_file"}
    assert f"listed at {val}:" in missing[0].detail


def test_a_list_that_is_neither_kind_is_named_with_its_place(tmp_path: Path) -> None:
    write(tmp_path / "val.txt", "bear\n/a/0.jpg /b/0.png 1\n/a/0.jpg /b/0.png\n/a/0.jpg /b/0.png")

    with pytest.raises(ConfigError) as caught:
        listed(tmp_path)

    assert "val.txt:2: '/a/0.jpg /b/0.png 1' is neither a sequence nor" in str(caught.value)
    assert "val.txt:3: frames of 'a' are listed twice" in str(caught.value)
