"""Samples of the made-up dataset ``squares``: class = colour of the square that stands still."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.data_prep.rows import Member, SampleRow

SIZE = 32
COLOURS = np.array([[220, 30, 30], [30, 220, 30], [30, 30, 220]], dtype=np.uint8)


def sample_members(folder: Path, split: str, number: int) -> dict[str, bytes]:
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


def sample_row(split: str, number: int, members: Mapping[str, bytes], start: int) -> SampleRow:
    """The row of a sample whose files lie in the tar from ``start`` on."""
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
