"""A labelled dataset with masks, and commits of a tiny untrained model, in a local store."""

import hashlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.rows import Member, SampleRow, encode_rows
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage, open_storage, write_json
from sigma_pipeline.jobs.checkpoint_import import import_checkpoint
from sigma_pipeline.jobs.commits import WEIGHTS_FILE, Commit, put_commit, put_hint
from sigma_pipeline.jobs.config import CellConfig, EvaluateConfig
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.sigma import build_sigma
from sigma_pipeline.model.weights import save_weights
from tests.jobs.evaluation.release_files import write_release

RUN = "r1"
SIZE = 32
COLOURS = np.array([[220, 30, 30], [30, 220, 30], [30, 30, 220]], dtype=np.uint8)
COUNTS = {"train": 24, "val": 12}
MODEL = ModelConfig.model_validate(
    {
        "num_frames": 4,
        "frame_size_px": SIZE,
        "patch_size_px": 8,
        "mask_ratio": 0.75,
        "encoder": {"embed_dim": 16, "depth": 1, "num_heads": 2},
        "decoder": {"embed_dim": 8, "depth": 1, "num_heads": 1},
        "target": {"hidden_dims": (16,), "dim": 8},
        "prototypes": 12,
    }
)

AddCommit = Callable[..., Commit]
MakeRequest = Callable[..., EvaluateRequest]
Import = Callable[..., Commit]


@pytest.fixture(scope="session")
def dataset_objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Objects of the dataset ``squares``, by key: 8 frames, class = colour of the square."""
    folder = tmp_path_factory.mktemp("squares")
    objects: dict[str, bytes] = {}
    for split, count in COUNTS.items():
        ref, content, rows = DatasetRef("squares", split, "v1"), b"", []
        for number in range(count):
            members = _members(folder, split, number)
            rows.append(_row(split, number, members, len(content)))
            content += b"".join(members.values())
        objects[f"{ref.prefix}/shard-000000.a.tar"] = content
        objects[ref.index_key] = encode_rows(rows)
    return objects


@pytest.fixture
def storage(tmp_path: Path, dataset_objects: Mapping[str, bytes]) -> Storage:
    """A store with both splits of ``squares``."""
    storage = open_storage(str(tmp_path / "store"))
    for key, data in dataset_objects.items():
        storage.write(key, data)
    for split, count in COUNTS.items():
        manifest = {"samples": count, "classes": ["blue", "green", "red"], "root_hash": "0"}
        write_json(storage, DatasetRef("squares", split, "v1").manifest_key, manifest)
    return storage


@pytest.fixture
def journal(storage: Storage) -> Journal:
    return Journal(storage, RUN, "20250101T000000000000-000000", "evaluate")


@pytest.fixture
def add_commit(storage: Storage) -> AddCommit:
    """Commits a model with random weights; equal steps of other attempts have other weights."""

    def add(
        step: int, *, attempt: str = "a1", model: ModelConfig = MODEL, nan: bool = False
    ) -> Commit:
        state = build_sigma(model, seed=step + len(attempt)).state_dict()
        if nan:
            state["encoder.norm.weight"].fill_(float("nan"))
        data = save_weights(state)
        commit = Commit(
            run_name=RUN,
            step=step,
            attempt=attempt,
            epoch=0,
            batch=step,
            global_batch_clips=8,
            world_size=1,
            config_fingerprint="0",
            datasets=(),
            model=model.model_dump(mode="json"),
            weights_sha256=hashlib.sha256(data).hexdigest(),
            canary_loss=1.0,
        )
        storage.write(f"{commit.prefix}/{WEIGHTS_FILE}", data)
        put_commit(storage, commit)
        put_hint(storage, commit)
        return commit

    return add


@pytest.fixture
def make_request(storage: Storage, tmp_path: Path) -> MakeRequest:
    """A request for cells of ``squares``; keyword arguments go to ``EvaluateConfig``."""

    def make(*cells: dict[str, Any], **evaluate: Any) -> EvaluateRequest:
        return EvaluateRequest(
            run_name=RUN,
            root_uri=storage.root_uri,
            scratch_dir=str(tmp_path / "scratch"),
            seed=0,
            evaluate=EvaluateConfig(
                cells=tuple(CellConfig.model_validate({"dataset": "squares"} | c) for c in cells),
                view=ViewConfig(frame_stride=2, crop="resize"),
                **{"pictures": False, "batch_clips": 5} | evaluate,
            ),
            datasets={("squares", split): DatasetRef("squares", split, "v1") for split in COUNTS},
        )

    return make


@pytest.fixture
def state() -> dict[str, Tensor]:
    """Weights that are in no commit."""
    return dict(build_sigma(MODEL, seed=5).state_dict())


@pytest.fixture
def official(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    """A file as the official release writes them."""
    return write_release(tmp_path / "official.pth", state)


@pytest.fixture
def import_file(storage: Storage, tmp_path: Path) -> Import:
    """Imports a file for the model of these tests, with ``changes`` of its settings."""

    def run(path: Path, run_name: str = RUN, **changes: Any) -> Commit:
        changed = ModelConfig.model_validate(MODEL.model_dump() | changes)
        return import_checkpoint(storage, run_name, path, changed, tmp_path / "scratch")

    return run


def _members(folder: Path, split: str, number: int) -> dict[str, bytes]:
    """Files of one sample by suffix; validation clips bring a mask of each frame."""
    draws = np.random.default_rng([number, len(split)])
    top, left = draws.integers(0, SIZE // 2, size=2)
    video = draws.integers(90, 150, size=(8, SIZE, SIZE, 3)).astype(np.uint8)
    mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
    mask[top : top + SIZE // 2, left : left + SIZE // 2] = 1
    video[:, mask > 0] = COLOURS[number % 3]
    path = folder / f"{split}-{number}.mp4"
    write_video(path, video, fps=10, crf=10, gop_frames=4)
    members = {"mp4": path.read_bytes()}
    if split == "val":
        members |= {f"{frame:05d}.png": _png(mask) for frame in range(len(video))}
    return members


def _png(mask: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, format="PNG")
    return buffer.getvalue()


def _row(split: str, number: int, members: Mapping[str, bytes], start: int) -> SampleRow:
    key, listed = f"{split}-{number}", []
    for suffix, data in members.items():
        listed.append(Member(f"{key}.{suffix}", start, len(data)))
        start += len(data)
    return SampleRow(
        key=key,
        shard=0,
        tar="shard-000000.a.tar",
        media="video",
        sha256=hashlib.sha256(members["mp4"]).hexdigest(),
        media_offset=listed[0].offset,
        media_size=listed[0].size,
        suffix="mp4",
        members=tuple(listed),
        frames=8,
        first_frame=0,
        fps=10,
        width=SIZE,
        height=SIZE,
        rotation=0,
        keyframes=(0,),
        keyframe_pts=(0,),
        frame_grid=1,
        labels=(),
        label=2 - number % 3,
        class_name=("red", "green", "blue")[number % 3],
        annotation=None,
        source=f"{split}/{number}.mp4",
    )
