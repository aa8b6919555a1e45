"""A dataset and a model small enough to be trained in a test."""

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.rows import Member, SampleRow, encode_rows
from sigma_pipeline.infra.storage import Storage, open_storage, write_json
from sigma_pipeline.jobs.config import TrainConfig
from sigma_pipeline.jobs.distributed import RankContext, init_ranks
from sigma_pipeline.jobs.train_request import RankPlace, TrainRequest
from sigma_pipeline.model.config import ModelConfig
from tests.tiny import TINY_MODEL, TINY_TRAIN

REF = DatasetRef("noise", "train", "v1")
NUM_VIDEOS = 18

MakeRequest = Callable[..., TrainRequest]


@pytest.fixture(scope="session")
def noise_split(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Objects of a split of 18 videos of 6 frames, coarse noise of 32 px, by key."""
    folder = tmp_path_factory.mktemp("noise")
    content, rows = b"", []
    for number in range(NUM_VIDEOS):
        path = folder / f"{number}.mp4"
        write_video(path, _noise(number), fps=10, crf=10, gop_frames=3)
        data = path.read_bytes()
        rows.append(_row(number, data, start=len(content)))
        content += data
    return {f"{REF.prefix}/shard-000000.a.tar": content, REF.index_key: encode_rows(rows)}


@pytest.fixture
def storage(tmp_path: Path, noise_split: dict[str, bytes]) -> Storage:
    """A local store that holds the split."""
    store = open_storage(str(tmp_path / "store"))
    fill_store(store, noise_split)
    return store


@pytest.fixture
def make_request(tmp_path: Path, storage: Storage) -> MakeRequest:
    """A tiny training in ``storage``; keywords change its train and model settings."""

    def make(
        *, model: dict[str, Any] | None = None, teacher_sha256: str | None = None, **train: Any
    ) -> TrainRequest:
        return TrainRequest(
            run_name="tiny",
            root_uri=storage.root_uri,
            work_dir=str(tmp_path / "work"),
            scratch_dir=str(tmp_path / "scratch"),
            seed=3,
            model=ModelConfig(**{**TINY_MODEL, **(model or {})}),
            train=TrainConfig(**{**TINY_TRAIN, **train}),
            datasets=(REF,),
            config_fingerprint="f" * 16,
            teacher_sha256=teacher_sha256,
        )

    return make


@pytest.fixture(scope="session")
def one_rank() -> Iterator[RankContext]:
    """The process group of the test process: DeepSpeed bears only one per process."""
    with ExitStack() as stack:
        with warnings.catch_warnings(action="ignore"):  # those of DeepSpeed's import
            context = stack.enter_context(init_ranks(RankPlace(), 1))
        yield context


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A job sets logging up for its whole process, which here is that of all tests."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def fill_store(store: Storage, objects: dict[str, bytes]) -> None:
    for key, data in objects.items():
        store.write(key, data)
    manifest = {"samples": NUM_VIDEOS, "classes": [], "root_hash": "0"}
    write_json(store, REF.manifest_key, manifest)


def _noise(seed: int) -> NDArray[np.uint8]:
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    return blocks.repeat(8, axis=1).repeat(8, axis=2)


def _row(number: int, data: bytes, start: int) -> SampleRow:
    members: Sequence[Member] = (Member(f"clip-{number}.mp4", start, len(data)),)
    return SampleRow(
        key=f"clip-{number}",
        shard=0,
        tar="shard-000000.a.tar",
        media="video",
        sha256=hashlib.sha256(data).hexdigest(),
        media_offset=start,
        media_size=len(data),
        suffix="mp4",
        members=tuple(members),
        frames=6,
        first_frame=0,
        fps=10,
        width=32,
        height=32,
        rotation=0,
        keyframes=(0,),
        keyframe_pts=(0,),
        frame_grid=1,
        labels=(),
        label=None,
        class_name=None,
        annotation=None,
        source=f"{number}.mp4",
    )


@pytest.fixture
def make_batches() -> Callable[[int], list[Batch]]:
    """The same eight clips, as micro-batches of the given size."""
    draws = torch.Generator().manual_seed(5)
    clips = torch.randint(0, 256, (8, 3, 4, 32, 32), dtype=torch.uint8, generator=draws)
    places = torch.arange(8)

    def make(micro_batch_clips: int) -> list[Batch]:
        return [
            Batch(clips[part], 0, places[part], places[part], places[part])
            for part in torch.arange(8).split(micro_batch_clips)
        ]

    return make
