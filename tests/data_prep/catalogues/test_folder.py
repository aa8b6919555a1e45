"""Listing sources."""

from pathlib import Path

import pytest

from sigma_pipeline.data_prep.catalogues.folder import list_folder
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.infra.errors import ConfigError, MissingInputError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def listed(*roots: Path, **settings: object) -> Listing:
    dataset = DatasetConfig.model_validate({"source": [str(root) for root in roots], **settings})
    return list_folder(dataset, roots)


def classes(listing: Listing) -> dict[str, str | None]:
    return {video.name: video.class_name for video in listing.items}


def test_the_class_is_the_folder_a_video_lies_in(tmp_path: Path) -> None:
    listing = listed(touch(tmp_path, "walk/a.mp4", "sports/run/b.avi", "c.mkv"))

    assert classes(listing) == {
        "walk/a.mp4": "walk",
        "sports/run/b.avi": "sports/run",
        "c.mkv": None,
    }
    assert listing.classes == ("sports/run", "walk")
    assert [video.label for video in listing.items] == [None, 0, 1]


def test_a_flat_folder_has_no_classes(tmp_path: Path) -> None:
    listing = listed(touch(tmp_path, "a.mp4", "b.mp4"))

    assert listing.classes == ()
    assert {video.label for video in listing.items} == {None}


def test_folders_named_like_the_splits_are_the_splits(tmp_path: Path) -> None:
    listing = listed(touch(tmp_path, "train/walk/a.mp4", "val/run/b.mp4", "val/c.mp4", "README.md"))

    assert {video.name: video.split for video in listing.items} == {
        "train/walk/a.mp4": "train",
        "val/run/b.mp4": "val",
        "val/c.mp4": "val",
    }
    assert listing.classes == ("run", "walk")
    assert [row.source for row in listing.left_out["train"]] == ["README.md"]


def test_one_more_top_folder_and_the_splits_are_drawn_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listing = listed(touch(tmp_path, "train/a.mp4", "train/b.mp4", "val/c.mp4", "test/d.mp4"))

    assert listing.classes == ("test", "train", "val")
    assert {video.split for video in listing.items if video.class_name == "train"} == {
        "train",
        "val",
    }
    assert "folders named like splits (train, val)" in caplog.text


def test_labels_count_over_all_splits(tmp_path: Path) -> None:
    listing = listed(touch(tmp_path, "train/b/1.mp4", "val/a/1.mp4", "val/b/2.mp4"))

    assert [(video.class_name, video.label) for video in listing.items] == [
        ("b", 1),
        ("a", 0),
        ("b", 1),
    ]


def test_files_that_are_no_videos_are_left_out_with_a_reason_and_not_counted(
    tmp_path: Path,
) -> None:
    listing = listed(touch(tmp_path, "a.mp4", "walk/notes.txt", "walk/a.png", "music.mp3"))

    rows = {row.source: row.reason for row in listing.left_out["train"]}
    assert rows == {
        "music.mp3": "no_video_stream",
        "walk/a.png": "still_image",
        "walk/notes.txt": "not_a_video",
    }
    assert not any(row.counted for row in listing.left_out["train"])


def test_a_dead_link_that_claims_to_be_a_video_counts(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "b.mp4").symlink_to("nowhere")

    (row,) = listed(tmp_path).left_out["train"]

    assert (row.source, row.reason, row.counted) == ("b.mp4", "unreadable", True)


def test_sidecars_go_with_their_video_and_are_not_in_the_ledger(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "a.json", "a.masks/00000.png", "a.masks/00001.png", "b.json")

    listing = listed(tmp_path, sidecars=True)

    (video,) = listing.items
    assert [file.name for file in video.sidecars] == [
        "a.json",
        "a.masks/00000.png",
        "a.masks/00001.png",
    ]
    assert [row.source for row in listing.left_out["train"]] == ["b.json"]


def test_without_sidecars_such_files_are_left_out(tmp_path: Path) -> None:
    listing = listed(touch(tmp_path, "a.mp4", "a.json", "a.masks/00000.png"))

    assert listing.items[0].sidecars == ()
    assert len(listing.left_out["train"]) == 2


def test_several_sources_share_classes_but_not_names(tmp_path: Path) -> None:
    one = touch(tmp_path / "x/set", "walk/a.mp4")
    two = touch(tmp_path / "y/set", "walk/a.mp4")
    three = touch(tmp_path / "other", "walk/a.mp4")

    listing = listed(one, two, three)

    assert classes(listing) == {
        "other/walk/a.mp4": "walk",
        "set/walk/a.mp4": "walk",
        "set~2/walk/a.mp4": "walk",
    }


def test_nothing_that_may_be_a_video_is_a_missing_input(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no video below"):
        listed(touch(tmp_path, "notes.txt"))


@pytest.mark.parametrize("settings", [{"annotations": "lists"}, {"options": {"fold": 1}}])
def test_lists_and_options_are_not_for_folders(tmp_path: Path, settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="catalogue 'folder'"):
        listed(touch(tmp_path, "a.mp4"), **settings)
