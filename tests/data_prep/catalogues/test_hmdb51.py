"""HMDB51 by real lists of five classes, with the real clips that are here."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.infra.errors import ConfigError, MissingInputError

ListDataset = Callable[..., Listing]
MakeFiles = Callable[..., Path]
CountRows = Callable[[Listing], Mapping[str, Mapping[str, int]]]

LISTS = "annotations/severe/hmdb51_splits"


def test_real_lists_and_clips_are_accounted_for(
    list_dataset: ListDataset, count_rows: CountRows, real_videos: Path
) -> None:
    listing = list_dataset("hmdb51", real_videos / "actions/hmdb51", real_videos / LISTS)

    assert listing.classes == ("brush_hair", "cartwheel", "climb_stairs", "fall_floor", "wave")
    assert {item.name: (item.split, item.label) for item in listing.items} == {
        "brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi": ("train", 0),
        "cartwheel/Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": ("train", 1),
        "wave/RATRACE_wave_f_nm_np1_fr_goo_37.avi": ("train", 4),
    }
    assert count_rows(listing) == {
        "train": {"missing_file": 347, "not_listed": 1},
        "val": {"missing_file": 150},
    }


def test_a_clip_that_one_fold_leaves_out_may_be_in_another(
    list_dataset: ListDataset, real_videos: Path
) -> None:
    clip = "wave/SchoolRulesHowTheyHelpUs_wave_f_nm_np1_ba_med_0.avi"
    folders = real_videos / "actions/hmdb51", real_videos / LISTS

    first = list_dataset("hmdb51", *folders)
    third = list_dataset("hmdb51", *folders, options={"fold": 3})

    assert clip in {row.source for row in first.left_out["train"] if row.reason == "not_listed"}
    assert clip in {item.name for item in third.items if item.split == "train"}


def test_lines_without_mark_are_shown(list_dataset: ListDataset, make_files: MakeFiles) -> None:
    lists = make_files("lists", contents={"run_test_split1.txt": "a.avi 1 \nb.avi\nc.avi x\n"})

    with pytest.raises(ConfigError) as caught:
        list_dataset("hmdb51", make_files("videos", "run/a.avi"), lists)

    assert "run_test_split1.txt:2: 'b.avi' is not '<clip> <mark>'" in str(caught.value)
    assert "run_test_split1.txt:3: 'c.avi x'" in str(caught.value)


def test_a_folder_without_lists_of_the_fold_is_a_missing_input(
    list_dataset: ListDataset, make_files: MakeFiles
) -> None:
    source = make_files("videos", "run/a.avi")

    with pytest.raises(MissingInputError, match=r"\*_test_split2\.txt.*annotations"):
        list_dataset("hmdb51", source, source, options={"fold": 2})
