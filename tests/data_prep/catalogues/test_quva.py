"""QUVA repetition."""

import json
from pathlib import Path

import numpy as np
import pytest

from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.catalogues.quva import list_quva
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.infra.errors import ConfigError


def listed(root: Path, **settings: object) -> Listing:
    dataset = DatasetConfig.model_validate({"source": str(root), "catalogue": "quva", **settings})
    return list_quva(dataset, [root])


def source(root: Path, values: object) -> Path:
    (root / "annotations").mkdir()
    (root / "a.mp4").touch()
    np.save(root / "annotations/a.npy", values, allow_pickle=True)  # type: ignore[arg-type]
    return root


def test_the_real_videos_have_one_cycle_less_than_boundaries(real_videos: Path) -> None:
    listing = listed(real_videos / "actions/quva_repetition")

    assert len(listing.items) == 5
    item = listing.items[0]
    assert (item.name, item.split) == ("videos/023_fitness.mp4", "test")
    assert json.loads(item.annotation or "") == {
        "count": 7,
        "boundaries": [0, 17, 34, 51, 68, 86, 102, 120],
    }
    assert {row.reason for row in listing.left_out["test"]} == {"not_a_video"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([{"a": 1}]), r"annotations/a.npy: is no list of frames"),
        (np.array([1.5]), "is no list of frames: float64 of shape"),
        (np.array([[3, 4]]), r"is no list of frames: int64 of shape \(1, 2\)"),
        (np.array([5, 5]), r"the cycles' ends \[5, 5\] do not ascend"),
        (np.array([0, 5]), r"the cycles' ends \[0, 5\] do not ascend"),
    ],
)
def test_an_annotation_that_is_no_list_of_frames_is_named(
    tmp_path: Path, values: object, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        listed(source(tmp_path, values))


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"GIF89a"])
def test_other_content_is_named(tmp_path: Path, content: bytes) -> None:
    source(tmp_path, np.array([1]))
    (tmp_path / "annotations/a.npy").write_bytes(content)

    with pytest.raises(ConfigError, match=r"annotations/a.npy: is no list of frames"):
        listed(tmp_path)


def test_a_header_that_claims_more_than_there_is_takes_no_memory(tmp_path: Path) -> None:
    source(tmp_path, np.arange(1, 99))
    path = tmp_path / "annotations/a.npy"
    path.write_bytes(path.read_bytes().replace(b"(98,), }        ", b"(9876543210,), }", 1))

    with pytest.raises(ConfigError, match=r"annotations/a.npy: is no list of frames"):
        listed(tmp_path)
