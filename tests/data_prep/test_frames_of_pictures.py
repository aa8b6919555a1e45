"""Clips of folders of frames and of single images."""

from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sigma_pipeline.data_prep.augment import whole_frame
from sigma_pipeline.data_prep.frames import FrameReader
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.ranges import RangeReader
from sigma_pipeline.data_prep.rows import Member, SampleRow
from sigma_pipeline.data_prep.verdicts import BadSample
from sigma_pipeline.infra.storage import Storage, open_storage

Split = tuple[Storage, Index]
WANTED = np.array([3, 5, 7, 7])
WHOLE = [whole_frame(48, 64)]


class NotingRanges(RangeReader):
    """Notes what is read."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self.reads: list[tuple[str, int, int]] = []

    def read(self, key: str, start: int, length: int) -> bytes:
        """Notes, and reads."""
        self.reads.append((key, start, length))
        return super().read(key, start, length)


def picture(number: int, kind: str) -> bytes:
    """Grey of 10 times its number; its top left quarter is black."""
    values = np.full((48, 64, 3), 10 * number, dtype=np.uint8)
    values[:24, :32] = 0
    buffer = BytesIO()
    Image.fromarray(values).save(buffer, kind)
    return buffer.getvalue()


def split_of(folder: Path, members: Mapping[str, bytes], **changes: object) -> Split:
    """One sample ``thing`` of these members, each behind a header of 512 bytes as in a tar."""
    storage = open_storage(str(folder / "store"))
    content, listed = b"", []
    for name, data in members.items():
        listed.append(Member(f"thing.{name}", len(content) + 512, len(data)))
        content += bytes(512) + data
    ref = DatasetRef("things", "train", "v1")
    storage.write(f"{ref.prefix}/shard-000000.a.tar", content)
    row = SampleRow(
        key="thing",
        shard=0,
        tar="shard-000000.a.tar",
        media="frames",
        sha256="",
        media_offset=listed[0].offset,
        media_size=listed[-1].offset + listed[-1].size - listed[0].offset,
        suffix=".jpg",
        members=tuple(listed),
        frames=len(members),
        first_frame=0,
        fps=0,
        width=64,
        height=48,
        rotation=0,
        keyframes=(0,),
        keyframe_pts=(0,),
        frame_grid=1,
        label=None,
        labels=(),
        class_name=None,
        annotation=None,
        source="thing",
    )
    return storage, Index(ref, (), "0", [replace(row, **changes)])  # type: ignore[arg-type]


@pytest.mark.parametrize(("suffix", "kind"), [(".jpg", "JPEG"), (".png", "PNG")])
@pytest.mark.parametrize("cache_gib", [0.0, 1.0])
def test_a_folder_of_frames_is_read_as_far_as_needed(
    tmp_path: Path, suffix: str, kind: str, cache_gib: float
) -> None:
    frames = {f"{number:05d}{suffix}": picture(number, kind) for number in range(10)}
    storage, index = split_of(tmp_path, frames, suffix=suffix)
    ranges = NotingRanges(storage)
    reader = FrameReader(storage, index, cache_gib=cache_gib, ranges=ranges)

    (clip,) = reader.clips(0, WANTED, WHOLE, 32)

    assert (clip[:, :, -1, -1].int() - torch.from_numpy(10 * WANTED)).abs().max() <= 2
    assert clip[:, :, 0, 0].max() <= 2
    first, last = (0, 9) if cache_gib else (3, 7)
    members = index.rows[0].members
    size = members[last].offset + members[last].size - members[first].offset
    assert ranges.reads == [
        (f"{index.ref.prefix}/{index.rows[0].tar}", members[first].offset, size)
    ]


def test_an_image_is_a_clip_that_stands_still(tmp_path: Path) -> None:
    split = split_of(tmp_path, {"png": picture(9, "PNG")}, media="image", suffix=".png")

    (clip,) = FrameReader(*split).clips(0, np.zeros(4, dtype=np.int64), WHOLE, 32)

    assert (clip[:, :, -1, -1] == 90).all()
    assert (clip == clip[:, :1]).all()


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    frames = {f"{number:05d}.jpg": picture(number, "JPEG")[: 300 // number] for number in (1, 2)}
    storage, index = split_of(tmp_path, {"00000.jpg": picture(0, "JPEG"), **frames})

    with pytest.raises(BadSample, match=r"sample thing in .*corrupt: is no whole JPEG"):
        FrameReader(storage, index).clips(0, np.array([0, 2]), WHOLE, 32)
