"""A small split of real videos in a local store, made without the shard job."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.rows import Member, SampleRow, encode_rows
from sigma_pipeline.infra.storage import Storage, open_storage, write_json

REF = DatasetRef("colours", "train", "v1")
TAR = "shard-000000.a.tar"

MakeSplit = Callable[..., tuple[Storage, Index]]


@pytest.fixture
def make_split(tmp_path: Path) -> MakeSplit:
    """Puts videos, and masks by sample and frame, into a store and loads their index."""

    def make(
        videos: Sequence[NDArray[np.uint8]], masks: Mapping[int, Mapping[int, bytes]] | None = None
    ) -> tuple[Storage, Index]:
        storage = open_storage(str(tmp_path / "store"))
        content, rows = b"", []
        for number, video in enumerate(videos):
            path = tmp_path / f"{number}.mp4"
            write_video(path, video, fps=10, crf=4, gop_frames=4)
            members = {"mp4": path.read_bytes()}
            for frame, mask in (masks or {}).get(number, {}).items():
                members[f"{frame:05d}.png"] = mask
            rows.append(_row(number, video.shape, members, len(content)))
            content += b"".join(members.values())
        storage.write(f"{REF.prefix}/{TAR}", content)
        storage.write(REF.index_key, encode_rows(rows))
        manifest = {"samples": len(rows), "classes": ["a", "b", "c"], "root_hash": "0"}
        write_json(storage, REF.manifest_key, manifest)
        return storage, Index.load(storage, REF)

    return make


@pytest.fixture
def coloured_split(make_split: MakeSplit) -> tuple[Storage, Index]:
    """13 videos of 12 frames, 48 x 64 pixels: red is 16 * video, green 20 * frame, blue a ramp."""
    videos = []
    for number in range(13):
        video = np.empty((12, 48, 64, 3), dtype=np.uint8)
        video[..., 0] = 16 * number
        video[..., 1] = 20 * np.arange(12)[:, None, None]
        video[..., 2] = np.linspace(0, 255, 64).astype(np.uint8)
        videos.append(video)
    return make_split(videos)


@pytest.fixture(scope="session")
def make_index() -> Callable[..., Index]:
    """An index of samples of many shapes without their videos, four to a shard."""

    def make(num_samples: int, name: str = "colours") -> Index:
        rows = [
            replace(
                _row(number, (2 + number * 7 % 90, 48 + number % 5, 64, 3), {"mp4": b""}, 0),
                shard=number // 4,
                tar=f"shard-{number // 4:06d}.a.tar",
                frame_grid=1 + number % 2,
            )
            for number in range(num_samples)
        ]
        return Index(DatasetRef(name, "train", "v1"), "abc", "0", rows)

    return make


def _row(
    number: int, shape: tuple[int, ...], members: Mapping[str, bytes], start: int
) -> SampleRow:
    listed = []
    for suffix, content in members.items():
        listed.append(Member(f"clip-{number}.{suffix}", start, len(content)))
        start += len(content)
    return SampleRow(
        key=f"clip-{number}",
        shard=0,
        tar=TAR,
        media="video",
        sha256=hashlib.sha256(members["mp4"]).hexdigest(),
        media_offset=listed[0].offset,
        media_size=listed[0].size,
        suffix="mp4",
        members=tuple(listed),
        frames=shape[0],
        first_frame=0,
        fps=10,
        width=shape[2],
        height=shape[1],
        rotation=0,
        keyframes=(0,),
        keyframe_pts=(0,),
        frame_grid=1,
        labels=(),
        label=number % 3,
        class_name="abc"[number % 3],
        annotation=None,
        source=f"colours/{number}.mp4",
    )
