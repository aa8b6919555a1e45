"""Sequences in the layout of DAVIS, sharded, and a tiny encoder to follow their objects."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sigma_pipeline.data_prep.catalogues import list_items
from sigma_pipeline.data_prep.config import DatasetConfig, ViewConfig
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.sample import SampleSettings
from sigma_pipeline.data_prep.samples import prepare
from sigma_pipeline.data_prep.shards import write_shard
from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.jobs.benchmarks.benchmark import Subject
from sigma_pipeline.jobs.benchmarks.gang import OwnProcess
from sigma_pipeline.jobs.encoders import EncoderSource
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.encoder import Encoder
from sigma_pipeline.model.sigma import build_sigma
from tests.tiny import TINY_MODEL

Pixels = NDArray[np.uint8]


def write_sequence(davis: Path, name: str, frames: Pixels, masks: Mapping[int, Pixels]) -> None:
    """Frames [frames, height, width, 3], and masks [height, width] by frame."""
    pictures, annotations = davis / "JPEGImages/480p" / name, davis / "Annotations/480p" / name
    for folder in (pictures, annotations):
        folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(pictures / f"{number:05d}.jpg", quality=95)
    for number, mask in masks.items():
        Image.fromarray(mask).save(annotations / f"{number:05d}.png")


def moving_square(
    num_frames: int = 10, height: int = 64, width: int = 112, step_px: int = 6
) -> tuple[Pixels, Pixels]:
    """A red square that moves right over dull noise, and its masks (0 and 1)."""
    draws = np.random.default_rng(3)
    frames = np.repeat(draws.integers(70, 90, (1, height, width, 3), np.uint8), num_frames, axis=0)
    ids = np.zeros((num_frames, height, width), dtype=np.uint8)
    for number in range(num_frames):
        ids[number, 16:40, 8 + step_px * number : 32 + step_px * number] = 1
    frames[ids == 1] = (250, 40, 20)
    return frames, ids


def subject_of(davis: Path, names: list[str], folder: Path, **changes: Any) -> Subject:
    """The named sequences sharded into a store in ``folder``, and a tiny untrained encoder."""
    storage = open_storage(str(folder / "store"))
    (folder / "names.txt").write_text("\n".join(names))
    dataset = DatasetConfig(
        source=str(davis), catalogue="davis", annotations=str(folder), splits={"val": "names.txt"}
    )
    listing = list_items(dataset, [davis])
    make = partial(prepare, settings=SampleSettings(min_frames=2, transcode=None))
    shard = write_shard(folder / "shard.tar", 0, listing.items, make, lambda _: None)
    ref = DatasetRef("davis", "val", "v1")
    storage.write(f"{ref.prefix}/shard.tar", (folder / "shard.tar").read_bytes())
    rows = [replace(row, tar="shard.tar") for row in shard.rows]
    settings: dict[str, Any] = {
        "encoder": tiny_encoder(),
        "view": ViewConfig(),
        "pooling": "mean",
        "precision": "fp32",
        "batch_clips": 4,
    }
    return Subject(
        storage=storage,
        train=None,
        test=Index(ref, (), "0", rows),
        scratch_dir=folder / "scratch",
        work_dir=folder / "work",
        source=EncoderSource("step-00000000", 0, "none", "0", {}),
        gang=OwnProcess(),
        training_name="tiny",
        **settings | changes,
    )


def tiny_encoder(**changes: Any) -> Encoder:
    """Untrained, of 4 frames of 32 px in patches of 8 px."""
    config = ModelConfig.model_validate(TINY_MODEL | changes)
    return build_sigma(config, seed=0).encoder.eval()
