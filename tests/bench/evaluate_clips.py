"""Real videos of several classes, each with object masks that are made up.

There are no videos at hand that have classes and masks; what clustering costs does not depend on
what the masks say.
"""

import csv
import shutil
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from sigma_pipeline.data_prep.clips import middle_clip_frames

_SOURCES = tuple(f"actions/{name}/" for name in ("arid", "hmdb51", "kinetics", "surv", "ucf101"))
_CLIP_FRAMES = 16
_FRAME_STRIDE = 2


def make_clips(data: Path, folder: Path, count: int) -> None:
    """Copies ``count`` videos of ``data`` to ``folder``, a folder per class, masks beside them.

    Raises:
        SystemExit: there are fewer.
    """
    rows = list(islice(_usable_rows(data), count))
    if len(rows) < count:
        raise SystemExit(f"{data / 'SOURCES.csv'} has just {len(rows)} videos with a class")
    for number, row in enumerate(rows):
        video = folder / row["label"] / f"{number:03d}{Path(row['path']).suffix}"
        video.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data / row["path"], video)
        _write_masks(video.with_suffix(".masks"), row)


def _usable_rows(data: Path) -> Iterator[Mapping[str, str]]:
    with (data / "SOURCES.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            is_one = row["path"].startswith(_SOURCES) and row["decode"] == "ok"
            if is_one and row["label"] and row["rotation"] in ("", "0"):
                yield row


def _write_masks(folder: Path, row: Mapping[str, str]) -> None:
    """A mask of each frame of the middle clip: one object, a square in the middle."""
    width, height = map(int, row["resolution"].split("x"))
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[height // 4 : height * 3 // 4, width // 3 : width * 2 // 3] = 1
    folder.mkdir()
    frames = middle_clip_frames(int(row["frames"]), _CLIP_FRAMES, _FRAME_STRIDE)
    for frame in set(frames.tolist()):
        Image.fromarray(mask).save(folder / f"{frame:05d}.png")
