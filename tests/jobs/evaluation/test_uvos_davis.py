"""Unsupervised segmentation of real DAVIS sequences, from pictures on disk to scores."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sigma_pipeline.data_prep.config import DatasetConfig, ShardConfig
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.masks import load_masks
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.cells import CellRecord
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.scoring import run_cell
from sigma_pipeline.jobs.shard import plan_dataset, shard_dataset
from sigma_pipeline.model.config import ModelConfig
from tests.jobs.evaluation.conftest import MODEL

SEQUENCES = ("blackswan", "car-shadow", "dog-agility")
SIZE = 64
LONGER = ModelConfig.model_validate(
    MODEL.model_dump() | {"num_frames": 16, "frame_size_px": SIZE, "patch_size_px": 16}
)


Score = Callable[..., CellRecord]


@pytest.fixture
def davis(storage: Storage, real_videos: Path, tmp_path: Path) -> DatasetRef:
    """The real sequences, sharded."""
    (tmp_path / "val.txt").write_text("\n".join(SEQUENCES))
    return sharded(
        storage,
        DatasetConfig(
            source=str(real_videos / "vos/DAVIS"),
            catalogue="davis",
            annotations=str(tmp_path),
            splits={"val": "val.txt"},
        ),
    )


@pytest.fixture
def youtube_vos(storage: Storage, real_videos: Path, tmp_path: Path) -> DatasetRef:
    """Their first frames in the layout of YouTube-VOS, each object in two halves of one category;
    a list of names leaves the last sequence out."""
    root = tmp_path / "youtube"
    videos = {}
    for name in SEQUENCES:
        folders = [root / "train" / kind / name for kind in ("JPEGImages", "Annotations")]
        for folder in folders:
            folder.mkdir(parents=True)
        for stem in (f"{frame:05d}" for frame in range(8)):
            source = real_videos / "vos/DAVIS"
            shutil.copy(source / f"JPEGImages/480p/{name}/{stem}.jpg", folders[0])
            mask = np.array(Image.open(source / f"Annotations/480p/{name}/{stem}.png")) // 255
            mask[:, : mask.nonzero()[1].mean().astype(int)] *= 2
            Image.fromarray(mask).save(folders[1] / f"{stem}.png")
        stems = [f"{frame:05d}" for frame in range(8)]
        videos[name] = {
            "objects": {number: {"category": "thing", "frames": stems} for number in ("1", "2")}
        }
    (root / "train/meta.json").write_text(json.dumps({"videos": videos}))
    (root / "val.txt").write_text("\n".join(SEQUENCES[:2]))
    dataset = DatasetConfig(source=str(root), catalogue="youtube_vos", splits={"val": "val.txt"})
    return sharded(storage, dataset)


@pytest.fixture
def score(
    storage: Storage,
    make_request: Callable[..., EvaluateRequest],
    add_commit: Callable[..., Commit],
) -> Score:
    """Scores an untrained encoder on random frames of a dataset."""
    source = committed_encoder(add_commit(0, model=LONGER))

    def run(ref: DatasetRef, num_frames: int | None, **settings: object) -> CellRecord:
        view = {"sampling": "random", "crop": "resize", "num_frames": num_frames}
        cell = {"benchmark": "uvos", "dataset": ref.name, "view": view, "settings": settings}
        request = replace(make_request(cell, pictures=True), datasets={(ref.name, "val"): ref})
        grid = plan_grid(storage, request)
        (one,) = grid.trials[0].cells("r1", source)
        run_cell(storage, grid.cell_request(grid.trials[0], one))
        record = CellRecord.read(storage, one)
        assert record is not None
        return record

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_frames", "settings"),
    [(None, {}), (4, {"pca_dims": 4, "pca_scope": "batch", "time": "linear"})],
)
def test_kept_predictions_score_what_the_cell_says(
    storage: Storage,
    davis: DatasetRef,
    score: Score,
    num_frames: int | None,
    settings: dict[str, object],
) -> None:
    record = score(davis, num_frames, **settings)

    index = Index.load(storage, davis)
    expected = {}
    for sample, row in enumerate(index.rows):
        found = predictions(storage, record, row.source.rpartition("/")[2])
        assert len(found) == (num_frames or 16)
        truth = load_masks(storage, index, sample, list(found), frame_size_px=SIZE, crop="resize")
        expected[row.key] = mean_iou(np.stack(list(found.values())), truth)
    outcomes = outcomes_of(storage, record)
    assert dict(zip(outcomes["key"], outcomes["miou"], strict=True)) == pytest.approx(expected)
    assert record.scores[0].value == pytest.approx(np.mean(list(expected.values())))
    assert outcomes["objects"] == [2, 2, 2]
    shown = [key for key in record.files if "/figures/" in key]
    assert sum(key.endswith("-hungarian.mp4") for key in shown) == 3
    assert sum(key.endswith("-overclusters.png") for key in shown) == 3


@pytest.mark.slow
def test_objects_of_a_category_are_one_in_a_listed_split_of_youtube_vos(
    storage: Storage, youtube_vos: DatasetRef, score: Score
) -> None:
    instances = outcomes_of(storage, score(youtube_vos, 4))
    categories = outcomes_of(storage, score(youtube_vos, 4, labels="categories"))

    assert instances["objects"] == [3, 3]
    assert categories["objects"] == [2, 2]


def sharded(storage: Storage, dataset: DatasetConfig) -> DatasetRef:
    """The split ``val`` of the dataset, in the store."""
    shard = ShardConfig()
    name = str(dataset.catalogue)
    plan = plan_dataset(name, dataset, shard, Path(storage.root_uri) / "scratch")
    shard_dataset(
        plan, storage=storage, shard=shard, workers=1, journal=None, attempt="a", force=False
    )
    return plan.refs["val"]


def outcomes_of(storage: Storage, record: CellRecord) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = pq.read_table(
        io.BytesIO(storage.read(record.outcomes))
    ).to_pydict()
    return columns


def predictions(
    storage: Storage, record: CellRecord, name: str
) -> dict[int, npt.NDArray[np.uint8]]:
    """Kept masks by frame."""
    pictures = {
        int(key.rpartition("/")[2].removesuffix(".png")): Image.open(io.BytesIO(storage.read(key)))
        for key in record.files
        if f"/predictions/hungarian/{name}/" in key
    }
    return {frame: np.array(picture) for frame, picture in sorted(pictures.items())}


def mean_iou(found: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> float:
    """Over all ids of the truth, all frames together."""
    scored = truth != 255
    overlaps = [
        ((found == number) & scored & (truth == number)).sum()
        / (((found == number) | (truth == number)) & scored).sum()
        for number in np.unique(truth[scored])
    ]
    return float(np.mean(overlaps))
