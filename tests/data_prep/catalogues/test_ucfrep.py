"""UCFRep: tables of MATLAB, and the text they were made from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.catalogues.ucfrep import list_ucfrep
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.infra.errors import ConfigError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def table(path: Path, *boundaries: int, **more: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    label = {
        "temporal_bound": np.array(boundaries, dtype=np.uint8)[:, None],
        "offset_next_estimate": np.array([[3, 3, -1]], dtype=np.int32),
        "offset_pre_estimate": np.array([[-1, -1, 3]], dtype=np.int16),
    }
    scipy.io.savemat(path, {"label": label, **more})


def listed(root: Path, **settings: object) -> Listing:
    dataset = DatasetConfig.model_validate({"source": str(root), "catalogue": "ucfrep", **settings})
    return list_ucfrep(dataset, [root])


def annotation(item: Item) -> Any:
    return json.loads(item.annotation or "")


def test_boundaries_count_from_0_and_cycles_lie_between_them(tmp_path: Path) -> None:
    table(tmp_path / "train/v_Biking_g01_c01.mat", 1, 29, 255)
    table(tmp_path / "val/v_Archery_g21_c02.mat", 7, 9)
    touch(tmp_path, "Biking/v_Biking_g01_c01.avi", "Archery/v_Archery_g21_c02.avi")

    listing = listed(tmp_path)

    archery, biking = listing.items
    assert annotation(biking) == {
        "count": 2,
        "boundaries": [0, 28, 254],
        "offset_next": [3, 3, -1],
        "offset_pre": [-1, -1, 3],
    }
    assert (biking.name, biking.split) == ("Biking/v_Biking_g01_c01.avi", "train")
    assert (archery.split, annotation(archery)["count"]) == ("val", 1)
    assert listing.classes == ("Archery", "Biking")
    assert biking.label == 1


def test_all_real_tables_and_texts_agree(real_videos: Path, tmp_path: Path) -> None:
    folder = real_videos / "annotations/ucfrep"
    tables = sorted(folder.glob("*/*.mat"))
    touch(tmp_path, *(f"UCF-101/{path.stem}.avi" for path in tables))

    by_table = listed(tmp_path, annotations=str(folder))
    texts = {"train": "repetition_label", "val": "repetition_label"}
    by_text = listed(tmp_path, annotations=str(folder), splits=texts)

    assert len(by_table.items) == len(tables) == 27
    known = {(item.name, item.split): annotation(item) for item in by_table.items}
    assert len(by_text.items) > 10
    for item in by_text.items:
        value = known[item.name, item.split]
        assert annotation(item) == {key: value[key] for key in ("count", "boundaries")}
    spread = annotation(next(item for item in by_table.items if "HammerThrow_g05" in item.name))
    assert (spread["boundaries"], spread["count"]) == ([187, 206, 224], 2)
    assert len(spread["offset_next"]) == 224 - 187 + 1


def test_frames_are_taken_where_they_are(tmp_path: Path) -> None:
    table(tmp_path / "annotations/train/v_Biking_g01_c01.mat", 1, 29)
    touch(
        tmp_path,
        "imgs/train/Biking/v_Biking_g01_c01/image_00001.jpg",
        "imgs/train/Biking/v_Biking_g01_c01/image_00002.jpg",
    )

    (item,) = listed(tmp_path, splits={"train": "annotations/train"}).items

    assert (item.media, len(item.files)) == ("frames", 2)
    assert item.name == "imgs/train/Biking/v_Biking_g01_c01"


@pytest.mark.parametrize(
    "name",
    [
        "HandstandPushups/v_HandStandPushups_g15_c04.avi",
        "HandStandPushups/v_HandstandPushups_g15_c04.avi",
        "imgs/train/HandstandPushups/v_HandStandPushups_g15_c04/image_00001.jpg",
        "imgs/train/HandStandPushups/v_HandstandPushups_g15_c04/image_00001.jpg",
    ],
)
def test_handstand_pushups_are_found_however_they_are_spelled(tmp_path: Path, name: str) -> None:
    table(tmp_path / "train/v_HandStandPushups_g15_c04.mat", 1, 29)
    touch(tmp_path, name)

    listing = listed(tmp_path, splits={"train": "train"})

    assert listing.items[0].files[0].name == name
    assert listing.classes == ("HandstandPushups",)


def test_groups_of_a_text_go_to_their_splits_and_videos_marked_0_to_none(tmp_path: Path) -> None:
    write(
        tmp_path / "texts/Biking.txt",
        "v_Biking_g20_c01\n1 5 9\n\n\nv_Biking_g21_c01\n2 6\n\nv_Biking_g03_c01\n0\n",
    )
    videos = ("v_Biking_g20_c01.avi", "v_Biking_g21_c01.avi", "v_Biking_g03_c01.avi")
    touch(tmp_path, *videos)

    listing = listed(tmp_path, splits={"train": "texts", "val": "texts"})

    assert {item.name: item.split for item in listing.items} == {
        "v_Biking_g20_c01.avi": "train",
        "v_Biking_g21_c01.avi": "val",
    }
    assert listing.items[0].listed_at == "texts/Biking.txt:1"
    assert ("v_Biking_g03_c01.avi", "not_listed") in {
        (row.source, row.reason) for row in listing.left_out["train"]
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v_Biking_g20_c01\n1 9 5", r"Biking.txt:1: the boundaries \[1, 9, 5\] are not ascending"),
        ("v_Biking_g20_c01\n0 9", r"Biking.txt:1: the boundaries \[0, 9\]"),
        ("v_Biking_g20_c01\n7", r"Biking.txt:1: the boundaries \[7\]"),
        ("v_Biking_g20_c01\nv_Biking_g21_c01", r"Biking.txt:1: 'v_Biking_g20_c01', 'v_Bik"),
        ("v_Biking_g20_c01", r"Biking.txt:1: 'v_Biking_g20_c01', '' are not a video's name"),
        ("Biking\n1 2", r"Biking.txt:1: 'Biking', '1 2' are not a video's name"),
    ],
)
def test_a_malformed_text_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path / "train/Biking.txt", text)

    with pytest.raises(ConfigError, match=message):
        listed(tmp_path, splits={"train": "train"})


def test_a_table_that_is_none_is_named(tmp_path: Path) -> None:
    whole = tmp_path / "train/v_Biking_g01_c01.mat"
    table(whole, 1, 5)
    (tmp_path / "train/v_Biking_g02_c01.mat").write_bytes(whole.read_bytes()[:300])
    (tmp_path / "train/v_Biking_g03_c01.mat").write_bytes(b"")
    scipy.io.savemat(tmp_path / "train/v_Biking_g04_c01.mat", {"other": 1})
    scipy.io.savemat(tmp_path / "train/v_Biking_g05_c01.mat", {"label": 1})
    table(tmp_path / "train/v_Biking_g06_c01.mat", 1, 5, more=np.zeros(1 << 20, np.uint8))
    scipy.io.savemat(tmp_path / "train/Biking.mat", {"label": 1})

    with pytest.raises(ConfigError) as caught:
        listed(tmp_path, splits={"train": "train"})

    for number in (2, 3, 4, 5, 6):
        assert f"train/v_Biking_g0{number}_c01.mat: is no label of UCFRep" in str(caught.value)
    assert "train/Biking.mat: the name is not v_<Class>_g<group>_c<clip>.mat" in str(caught.value)
    assert "g01" not in str(caught.value)
