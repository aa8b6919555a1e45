"""FineGym by the beginnings of its real lists."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.infra.errors import ConfigError, MissingInputError

ListDataset = Callable[..., Listing]
MakeFiles = Callable[..., Path]
CountRows = Callable[[Listing], Mapping[str, Mapping[str, int]]]

LISTS = "annotations/severe/gym"
ORIGINAL = "A0xAXXysHUo_E_002184_002237_A_0035_0036"
TRAIN = "".join(f"v{label}.avi {label}\n" for label in range(99))


@pytest.fixture
def gym99(make_files: MakeFiles) -> tuple[Path, Path]:
    """A synthetic dataset with one clip of each class of Gym99 in its only list."""
    names = [f"subactions/v{label}.mp4" for label in range(99)]
    return make_files("videos", *names), make_files("lists", contents={"gym99_train.txt": TRAIN})


ONLY_TRAIN = {"train": "{family}_train.txt"}


def test_real_lists_name_clips_with_and_without_suffix(
    list_dataset: ListDataset, make_files: MakeFiles, count_rows: CountRows, real_videos: Path
) -> None:
    tested = "0LtLS9wROrk_E_002407_002435_A_0003_0005"
    source = make_files("videos", f"subactions/{ORIGINAL}.mp4", f"subactions/{tested}.mp4")
    splits = {"train": "gym99_train_org.head.txt", "val": "gym99_val.head.txt"}

    listing = list_dataset("finegym", source, real_videos / LISTS, splits=splits)

    assert {item.name: (item.split, item.label) for item in listing.items} == {
        f"subactions/{ORIGINAL}.mp4": ("train", 93),
        f"subactions/{tested}.mp4": ("val", 78),
    }
    assert len(listing.classes) == 99
    assert count_rows(listing) == {"train": {"missing_file": 199}, "val": {"missing_file": 199}}


def test_real_lists_of_gym288_have_its_labels(
    list_dataset: ListDataset, make_files: MakeFiles, real_videos: Path
) -> None:
    source = make_files("videos", "0LtLS9wROrk_E_002407_002435_A_0023_0028.avi")
    splits = {"train": "gym288_train.head.txt", "val": "gym288_val.head.txt"}
    folders = source, real_videos / LISTS

    listing = list_dataset("finegym", *folders, splits=splits, options={"subset": "gym288"})

    assert [(item.split, item.label) for item in listing.items] == [("val", 285)]
    assert len(listing.classes) == 288
    with pytest.raises(ConfigError, match="is not '<clip> <label of gym99>'"):
        list_dataset("finegym", *folders, splits=splits)


@pytest.mark.parametrize(("subset", "first", "last"), [("fx_s1", 6, 16), ("ub_s1", 74, 88)])
def test_parts_of_gym99_have_labels_from_0(
    list_dataset: ListDataset,
    gym99: tuple[Path, Path],
    subset: str,
    first: int,
    last: int,
) -> None:
    listing = list_dataset("finegym", *gym99, splits=ONLY_TRAIN, options={"subset": subset})

    assert {item.name: item.label for item in listing.items} == {
        f"subactions/v{label}.mp4": label - first for label in range(first, last + 1)
    }
    assert (listing.classes[0], listing.classes[-1]) == (str(first), str(last))
    assert {row.reason for row in listing.left_out["train"]} == {"not_listed"}


def test_categories_beside_the_lists_name_the_classes(
    list_dataset: ListDataset, gym99: tuple[Path, Path]
) -> None:
    (gym99[1] / "gym99_categories.txt").write_text(
        "Clabel:   6; set: 21; Glabel:  67; (FX) switch leap with 0.5 turn; side\n"
        "Clabel:   7; set: 21; Glabel:  68; (FX) switch leap with 1 turn\n"
    )

    listing = list_dataset("finegym", *gym99, splits=ONLY_TRAIN, options={"subset": "fx_s1"})

    assert listing.classes[:3] == (
        "(FX) switch leap with 0.5 turn; side",
        "(FX) switch leap with 1 turn",
        "8",
    )


def test_an_unknown_subset_is_refused(list_dataset: ListDataset, gym99: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match=r"options\.subset: .*'gym99'.*these options: subset"):
        list_dataset("finegym", *gym99, splits=ONLY_TRAIN, options={"subset": "vault"})


def test_labels_outside_and_lines_without_one_are_shown(
    list_dataset: ListDataset, gym99: tuple[Path, Path]
) -> None:
    (gym99[1] / "gym99_train.txt").write_text("v1.avi 1\nv2.avi 99\nv3.avi\n")

    with pytest.raises(ConfigError) as caught:
        list_dataset("finegym", *gym99, splits=ONLY_TRAIN)

    assert "gym99_train.txt:2: 'v2.avi 99' is not" in str(caught.value)
    assert "gym99_train.txt:3: 'v3.avi' is not" in str(caught.value)


def test_the_low_shot_subset_of_synthetic_gym99_lists_has_11_per_class(
    list_dataset: ListDataset, make_files: MakeFiles
) -> None:
    names = [f"v{n}.avi" for n in range(99 * 12)]
    content = "".join(f"{name} {n % 99}\n" for n, name in enumerate(names))
    source = make_files("videos", *names)
    lists = make_files("lists", contents={"gym99_train.txt": content})

    listing = list_dataset("finegym", source, lists, splits=ONLY_TRAIN, subset={"samples": 1000})

    assert len(listing.items) == 1089


def test_a_list_that_is_not_there_is_a_missing_input(
    list_dataset: ListDataset, gym99: tuple[Path, Path]
) -> None:
    with pytest.raises(MissingInputError, match=r"gym99_val\.txt"):
        list_dataset("finegym", *gym99)
