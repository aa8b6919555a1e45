"""Subsets of a fixed number of samples per class."""

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_pipeline.data_prep.catalogues import list_items
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.catalogues.lists import Entry
from sigma_pipeline.data_prep.catalogues.subsets import draw_examples, draw_subset, keep_subset
from sigma_pipeline.data_prep.config import DatasetConfig, SubsetConfig
from sigma_pipeline.infra.errors import ConfigError

ListDataset = Callable[..., Listing]
MakeFiles = Callable[..., Path]


def ucf101_train(real_videos: Path) -> list[Entry]:
    """The entries of the whole list of the first fold, without any video."""
    text = (real_videos / "annotations/severe/ucf101/trainlist01.txt").read_text()
    pairs = [line.rpartition(" ") for line in text.splitlines()]
    return [Entry(path, "train", "", int(label) - 1) for path, _, label in pairs]


def test_the_subset_of_ucf101_has_10_per_class_and_is_always_the_same(real_videos: Path) -> None:
    entries = ucf101_train(real_videos)

    kept = keep_subset(entries, SubsetConfig(samples=1000))

    assert (len(entries), len(kept)) == (9537, 1010)
    assert set(Counter(entry.label for entry in kept).values()) == {10}
    paths = "\n".join(entry.path for entry in kept)
    assert hashlib.sha256(paths.encode()).hexdigest()[:16] == "e07e1acee24b41f2"


def test_the_subset_of_a_list_with_the_classes_of_gym99_has_11_per_class() -> None:
    synthetic = np.random.default_rng(0).permutation(np.arange(20_484) % 99)

    chosen = draw_subset(synthetic.tolist(), 1000, 99999)

    assert len(chosen) == 1089
    assert set(Counter(synthetic[chosen].tolist()).values()) == {11}


def test_a_class_is_drawn_by_numpy_as_the_protocol_says() -> None:
    chosen = draw_subset([7] * 50, 10, 99999)

    drawn = np.random.RandomState(99999).choice(50, 10, replace=False)
    assert chosen == sorted(drawn.tolist())


def test_few_examples_of_seed_0_are_the_subset_of_severe(real_videos: Path) -> None:
    entries = ucf101_train(real_videos)
    by_name = sorted(entries, key=lambda entry: entry.path)  # as samples of a split are
    labels = [entry.label for entry in by_name if entry.label is not None]

    drawn = {by_name[place] for place in draw_examples(labels, 1000, seed=0)}
    others = {by_name[place] for place in draw_examples(labels, 1000, seed=1)}

    assert drawn == set(keep_subset(entries, SubsetConfig(samples=1000)))
    assert len(others) == 1010
    assert others != drawn


@pytest.mark.parametrize("name", ["gym99_train.head.txt", "gym99_train_org.head.txt"])
def test_the_lists_of_gym99_are_in_the_order_of_names(real_videos: Path, name: str) -> None:
    lines = (real_videos / "annotations/severe/gym" / name).read_text().splitlines()

    assert lines == sorted(lines)


def test_samples_without_a_class_are_no_examples() -> None:
    labels = [-1, 3, -1, 5, 3, 5, -1]

    assert draw_examples(labels, 100, seed=0) == [1, 3, 4, 5]


@given(st.lists(st.integers(0, 5), min_size=1), st.integers(1, 20), st.integers(0, 9))
def test_a_class_gives_its_share_or_all_it_has(labels: list[int], samples: int, seed: int) -> None:
    chosen = draw_subset(labels, samples, seed)

    has = Counter(labels)
    share = -(-samples // len(has))
    gives = Counter(labels[place] for place in chosen)
    assert gives == {label: min(share, count) for label, count in has.items()}
    assert chosen == sorted(set(chosen))


def test_other_splits_stay_whole_and_in_order() -> None:
    entries = [Entry(f"{n}", "train" if n % 2 else "val", "", 0) for n in range(20)]

    kept = keep_subset(entries, SubsetConfig(samples=3))

    assert [entry.path for entry in kept if entry.split == "val"] == [
        f"{n}" for n in range(0, 20, 2)
    ]
    assert len(kept) == 13


def test_another_seed_draws_others(real_videos: Path) -> None:
    entries = ucf101_train(real_videos)

    one = keep_subset(entries, SubsetConfig(samples=1000))
    other = keep_subset(entries, SubsetConfig(samples=1000, seed=19))

    assert len(one) == len(other)
    assert one != other


def test_samples_without_class_cannot_be_drawn() -> None:
    entries = [Entry("a", "train", "", 0), Entry("b", "train", "")]

    with pytest.raises(ConfigError, match="1 samples of split 'train' have no class"):
        keep_subset(entries, SubsetConfig(samples=1))


def test_what_is_not_drawn_is_neither_an_item_nor_in_the_ledger(
    list_dataset: ListDataset, make_files: MakeFiles
) -> None:
    names = [f"{n}.mp4" for n in range(20)]
    table = "".join(f"{name} 0\n" for name in [*names, "gone.mp4"])
    source = make_files("videos", *names, "extra.mp4")
    lists = make_files("lists", contents={"train.csv": table})

    listing = list_dataset(
        "table", source, lists, splits={"train": "train.csv"}, subset={"samples": 5}
    )

    rows = [row.source for row in listing.left_out["train"]]
    assert len(listing.items) + rows.count("gone.mp4") == 5
    assert set(rows) - {"gone.mp4"} == {"extra.mp4"}


def test_a_folder_catalogue_draws_from_its_items(make_files: MakeFiles) -> None:
    source = make_files("videos", *(f"{kind}/{n}.mp4" for kind in "ab" for n in range(20)))
    dataset = DatasetConfig(source=str(source), subset=SubsetConfig(samples=6))

    listing = list_items(dataset, [source])

    assert Counter((item.split, item.class_name) for item in listing.items) == {
        ("train", "a"): 3,
        ("train", "b"): 3,
        ("val", "a"): 4,
        ("val", "b"): 4,
    }
