"""Pictures as clips of equal frames: ImageNet's layout and CIFAR-100's, from files to scores."""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sigma_pipeline.data_prep.config import MultiViewConfig
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.views import ViewLoader
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.cells import CellRecord
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.scoring import run_cell
from tests.jobs.evaluation.shard_here import shard_here
from tests.jobs.evaluation.squares import COLOURS

Splits = Mapping[tuple[str, str], DatasetRef]
SIDE = 32
NUM_PICTURES = {"train": 12, "val": 6}
FIRST = {"train": 0, "val": 300}
"""Number of the first picture of a split; its remainder by 3 is the class."""
QUICK = {"min_steps": 50, "epochs": 1}


def picture(number: int) -> npt.NDArray[np.uint8]:
    """[32, 32, 3] noise with a square, whose colour is the class."""
    draws = np.random.default_rng(number)
    pixels = draws.integers(90, 150, size=(SIDE, SIDE, 3)).astype(np.uint8)
    top, left = draws.integers(0, SIDE // 2, size=2)
    pixels[top : top + SIDE // 2, left : left + SIDE // 2] = COLOURS[number % 3]
    return pixels


@pytest.fixture
def imagenet(storage: Storage, tmp_path: Path) -> Splits:
    """Wider than high, in folders of classes."""
    source = tmp_path / "imagenet"
    for split, count in NUM_PICTURES.items():
        for number in range(count):
            folder = source / split / f"n0000000{number % 3}"
            folder.mkdir(parents=True, exist_ok=True)
            wide = Image.fromarray(picture(FIRST[split] + number)).resize((96, 64))
            wide.save(folder / f"{number}.png")
    return shard_here(storage, "imagenet", tmp_path, source=str(source), catalogue="image_folder")


@pytest.fixture
def cifar100(storage: Storage, tmp_path: Path) -> Splits:
    """Pickles as they are distributed."""
    source = tmp_path / "cifar"
    source.mkdir()
    names = {"fine_label_names": ["red", "green", "blue"], "coarse_label_names": ["any"]}
    (source / "meta").write_bytes(pickle.dumps(names, 2))
    for split, file in (("train", "train"), ("val", "test")):
        numbers = range(FIRST[split], FIRST[split] + NUM_PICTURES[split])
        pictures = [picture(number).transpose(2, 0, 1).reshape(-1) for number in numbers]
        table = {
            "filenames": [f"{number}.png" for number in numbers],
            "fine_labels": [number % 3 for number in numbers],
            "coarse_labels": [0] * len(numbers),
            "data": np.stack(pictures),
        }
        (source / file).write_bytes(pickle.dumps(table, 2))
    return shard_here(storage, "cifar100", tmp_path, source=str(source), catalogue="cifar100")


def clips_of(storage: Storage, ref: DatasetRef, view: MultiViewConfig) -> npt.NDArray[np.uint8]:
    """[samples, views, 3, frames, size, size]."""
    loader = ViewLoader(
        storage,
        Index.load(storage, ref),
        view=view,
        num_frames=4,
        frame_size_px=SIDE,
        batch_clips=6,
    )
    clips = np.concatenate([batch.clip.numpy() for batch in loader])
    return clips.reshape(-1, view.views, *clips.shape[1:])


@pytest.mark.parametrize("sampling", ["dense", "segments"])
def test_a_picture_is_a_clip_of_equal_frames_in_every_view(
    storage: Storage, imagenet: Splits, sampling: str
) -> None:
    view = MultiViewConfig.model_validate({"sampling": sampling, "segments": 2, "crops": 3})

    clips = clips_of(storage, imagenet["imagenet", "val"], view)

    assert clips.shape == (6, 6, 3, 4, SIDE, SIDE)
    assert (clips == clips[:, :, :, :1]).all()  # frame by frame
    assert (clips[:, :3] == clips[:, 3:]).all()  # however often it is looked at
    assert (clips[:, 0] != clips[:, 1]).any()  # but not wherever


def test_pictures_of_cifar_arrive_pixel_by_pixel(storage: Storage, cifar100: Splits) -> None:
    clips = clips_of(storage, cifar100["cifar100", "val"], MultiViewConfig(segments=1, crops=1))

    expected = np.stack([picture(FIRST["val"] + number) for number in range(6)]).transpose(
        0, 3, 1, 2
    )
    assert np.abs(clips[:, 0, :, 2].astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("dataset", ["imagenet", "cifar100"])
def test_pictures_are_scored_by_every_frozen_benchmark(
    storage: Storage,
    request: pytest.FixtureRequest,
    make_request: Callable[..., EvaluateRequest],
    add_commit: Callable[..., Commit],
    dataset: str,
) -> None:
    splits: Splits = request.getfixturevalue(dataset)
    augmented = {"epochs": 2, "base_lr": 1.0, "batch_videos": 4}
    cells = (
        {"benchmark": "knn", "dataset": dataset},
        {"benchmark": "linear", "dataset": dataset, "settings": QUICK},
        {"benchmark": "linear_augmented", "dataset": dataset, "settings": augmented},
    )
    grid = plan_grid(storage, replace(make_request(*cells), datasets=splits))
    source = committed_encoder(add_commit(0))

    for planned in grid.trials:
        (cell,) = planned.cells("r1", source)
        run_cell(storage, grid.cell_request(planned, cell))
        record = CellRecord.read(storage, cell)
        assert record is not None
        assert record.scores[0].samples == 6
        if planned.trial.benchmark != "linear_augmented":  # two epochs only show that it runs
            assert record.scores[0].value > 0.6
