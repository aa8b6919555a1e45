"""CIFAR-100 in its pickles."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sigma_pipeline.data_prep.catalogues.cifar100 import list_cifar100
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.infra.errors import ConfigError, MissingInputError


class RunsCommand:
    """Pickled, it asks for a command to be run."""

    def __reduce__(self) -> tuple[Any, ...]:
        """What pickle stores."""
        return os.system, ("true",)


def table(labels: list[int], **more: object) -> dict[str, object]:
    return {
        "filenames": [f"bos_s_{number}.png" for number in range(len(labels))],
        "batch_label": "training batch 1 of 1",
        "fine_labels": labels,
        "coarse_labels": [0] * len(labels),
        "data": np.zeros((len(labels), 3072), dtype=np.uint8),
        **more,
    }


def source(root: Path, **files: object) -> Path:
    defaults = {
        "train": table([2, 0, 2]),
        "test": table([1]),
        "meta": {"fine_label_names": ["a", "b", "c"], "coarse_label_names": ["d"]},
    }
    for name, value in {**defaults, **files}.items():
        (root / name).write_bytes(pickle.dumps(value, 2))
    (root / "file.txt~").touch()
    return root


def listed(root: Path, **settings: object) -> Listing:
    dataset = DatasetConfig.model_validate(
        {"source": str(root), "catalogue": "cifar100", **settings}
    )
    return list_cifar100(dataset, [root])


def test_each_row_is_an_image_with_its_fine_class(tmp_path: Path) -> None:
    listing = listed(source(tmp_path))

    assert [(item.name, item.split, item.label, item.class_name) for item in listing.items] == [
        ("test/00000-bos_s_0.png", "val", 1, "b"),
        ("train/00000-bos_s_0.png", "train", 2, "c"),
        ("train/00001-bos_s_1.png", "train", 0, "a"),
        ("train/00002-bos_s_2.png", "train", 2, "c"),
    ]
    last = listing.items[-1]
    assert (last.media, last.files[0].row, last.source_bytes) == ("image", 2, 3072)
    assert last.annotation == '{"coarse_class":"d"}'
    assert listing.classes == ("a", "b", "c")
    assert [row.source for row in listing.left_out["train"]] == ["file.txt~", "meta"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train": table([0], more=RunsCommand())}, r"train' asks for (posix|nt)\.system, which"),
        ({"meta": {"fine_label_names": RunsCommand()}}, r"meta' asks for (posix|nt)\.system"),
        ({"train": table([0, 3])}, "train:1: there are no classes 3 .fine. and 0 .coarse."),
        ({"train": {"data": []}}, "train' has no entry 'fine_labels'"),
        ({"meta": {}}, "meta' has no entry 'fine_label_names'"),
        ({"train": table([0], data=[1, 2])}, "does not hold 3072 bytes for each of 1 labels"),
        ({"train": table([0], data=np.zeros((1, 9), np.uint8))}, "does not hold 3072 bytes"),
        ({"train": table([0], filenames=[])}, "has 1 fine labels, 1 coarse labels and 0 names"),
    ],
)
def test_a_file_that_is_not_cifar_is_refused(
    tmp_path: Path, files: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        listed(source(tmp_path, **files))


def test_a_missing_pickle_is_a_missing_input(tmp_path: Path) -> None:
    (source(tmp_path) / "test").unlink()

    with pytest.raises(MissingInputError, match="there is no file 'test' in"):
        listed(tmp_path)


def test_a_subset_has_as_many_of_each_class(tmp_path: Path) -> None:
    root = source(tmp_path, train=table([2, 0, 2, 2, 0]))

    listing = listed(root, subset={"samples": 2})

    labels = [item.label for item in listing.items if item.split == "train"]
    assert sorted(label for label in labels if label is not None) == [0, 2]
