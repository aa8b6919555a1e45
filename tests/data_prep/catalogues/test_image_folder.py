"""Pictures in folders of classes."""

from pathlib import Path

import pytest

from sigma_pipeline.data_prep.catalogues.image_folder import list_image_folder
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.infra.errors import ConfigError, MissingInputError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def listed(*roots: Path, **settings: object) -> Listing:
    dataset = DatasetConfig.model_validate(
        {"source": [str(root) for root in roots], "catalogue": "image_folder", **settings}
    )
    return list_image_folder(dataset, roots)


def test_splits_and_classes_are_folders(tmp_path: Path) -> None:
    listing = listed(
        touch(tmp_path, "train/n02/a.JPEG", "train/n01/b.JPEG", "val/n02/c.png", "train/d.jpg")
    )

    assert [(item.name, item.split, item.label) for item in listing.items] == [
        ("train/d.jpg", "train", None),
        ("train/n01/b.JPEG", "train", 0),
        ("train/n02/a.JPEG", "train", 1),
        ("val/n02/c.png", "val", 1),
    ]
    assert {item.media for item in listing.items} == {"image"}
    assert listing.classes == ("n01", "n02")


def test_a_list_numbers_and_names_the_classes(tmp_path: Path) -> None:
    touch(tmp_path, "train/n02/a.JPEG", "val/n01/a.JPEG")
    (tmp_path / "names.txt").write_text("n02 crane\nn00 tench, Tinca\nn01 crane\n")

    listing = listed(tmp_path, options={"classes": "names.txt"})

    assert listing.classes == ("n02 crane", "n00 tench, Tinca", "n01 crane")
    assert [(item.label, item.class_name) for item in listing.items] == [
        (0, "n02 crane"),
        (2, "n01 crane"),
    ]


def test_a_folder_that_the_list_does_not_name_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, "train/n02/a.JPEG", "val/n01/a.JPEG")
    (tmp_path / "names.txt").write_text("n02 crane\n")

    with pytest.raises(ConfigError, match=r"names.txt: the class 'n01' of the source is not in it"):
        listed(tmp_path, options={"classes": "names.txt"})


def test_a_class_that_is_listed_twice_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, "train/n02/a.JPEG")
    (tmp_path / "names.txt").write_text("n02 crane\nn01 tench\nn02 crane\n")

    with pytest.raises(ConfigError, match=r"names.txt:3: the class 'n02' is listed already"):
        listed(tmp_path, options={"classes": "names.txt"})


def test_everything_else_is_left_out_and_a_dead_link_counts(tmp_path: Path) -> None:
    touch(
        tmp_path, "train/n01/a.JPEG", "test/b.JPEG", "train/n01/notes.txt", "train/n01/x", "z.jpg"
    )
    (tmp_path / "train/n01/dead.jpg").symlink_to("nowhere")

    listing = listed(tmp_path)

    assert [item.name for item in listing.items] == ["train/n01/a.JPEG"]
    assert {(row.source, row.reason, row.counted) for row in listing.left_out["train"]} == {
        ("test/b.JPEG", "not_listed", False),
        ("z.jpg", "not_listed", False),
        ("train/n01/notes.txt", "not_a_video", False),
        ("train/n01/x", "not_listed", False),
        ("train/n01/dead.jpg", "unreadable", True),
    }


def test_several_sources_share_classes_but_not_names(tmp_path: Path) -> None:
    one = touch(tmp_path / "one", "train/n01/a.jpg")
    two = touch(tmp_path / "two", "train/n01/a.jpg", "val/n02/a.jpg")

    listing = listed(one, two)

    assert [item.name for item in listing.items] == [
        "one/train/n01/a.jpg",
        "two/train/n01/a.jpg",
        "two/val/n02/a.jpg",
    ]
    assert listing.classes == ("n01", "n02")


def test_a_subset_has_as_many_of_each_class(tmp_path: Path) -> None:
    touch(tmp_path, *(f"train/n0{n}/{k}.jpg" for n in (1, 2) for k in range(9)), "val/n01/x.jpg")

    listing = listed(tmp_path, subset={"samples": 5})

    assert [item.label for item in listing.items if item.split == "train"] == [0, 0, 0, 1, 1, 1]
    assert len(listing.items) == 7


def test_no_picture_at_all_is_a_missing_input(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="there is no picture below train or val in"):
        listed(touch(tmp_path, "images/n01/a.jpg"))
