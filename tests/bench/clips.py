"""How fast clips are decoded: per core, against libav alone and against a plain reader.

Three sides take the same clips of 16 frames of real 320x240 h264 videos:

* ours: ``FrameReader`` on shards, copied and transcoded, to uint8 RGB of 224 x 224, one or four
  random crops of each decoded clip, into a batch that is there;
* (a) libav by hand on the same videos in memory: just the packets of the clip are fed, frames that
  nothing refers to skipped; which packets these are, is worked out beforehand. Alone, and with
  libswscale to RGB of 224 x 224, whole frames. The goal is set against the latter, since that is
  what we give;
* (b) a plain reader on the original files: decord, or PyAV, to RGB frames, crop and resize of each
  frame by pillow, normalization in float32; always one clip of each decode.

In transcoded videos clips start on the frame grid, as training clips do by default. Figures are of
processor time, so that other processes on the machine hardly count. The sides take turns at each
clip, within one process, and medians over the rounds are given.
"""

import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from sigma_pipeline.data_prep.augment import Crop, multi_scale_crop
from sigma_pipeline.data_prep.config import TranscodeConfig
from sigma_pipeline.data_prep.frames import FrameReader
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.probe import probe
from sigma_pipeline.data_prep.sample import SampleSettings
from sigma_pipeline.data_prep.samples import prepare
from sigma_pipeline.data_prep.shards import write_shard
from sigma_pipeline.data_prep.source_tree import find_files
from sigma_pipeline.data_prep.verdicts import Rejected
from sigma_pipeline.infra.storage import open_storage
from tests.bench.clip_readers import (
    SIZE_PX,
    by_libav,
    by_plain_reader,
    read_by_decord,
    read_by_pyav,
    visits,
)
from tests.bench.rows import Row

_FRAMES = 16
_STRIDES = (2, 4)
_ROUNDS = 7
_CLIPS = 12
"""Taken by each side in each round."""
_PLAIN = ("decord", "PyAV")
"""The goal of (b) is set against the first that is installed."""

Seconds = Mapping[str, NDArray[np.float64]]
"""By side: processor time of one decode with all its clips, in each round."""


@dataclass(frozen=True)
class Split:
    """The videos in one stored form."""

    name: str
    goals: Mapping[int, float]
    """Ours / (b), by the number of clips of each decode."""
    reader: FrameReader
    index: Index
    videos: tuple[bytes, ...]
    paths: tuple[str, ...]
    """Of the original files."""
    batch: UInt8[Tensor, "clips 3 frames size size"]


@dataclass(frozen=True)
class Task:
    """One decode: a video, the clip's frames, and the crops."""

    video: int
    numbers: tuple[int, ...]
    crops: tuple[Crop, ...]


def measure(folder: Path, data: Path) -> list[Row]:
    """The figures, of the action videos below ``data``; ``folder`` is for what is written."""
    torch.set_num_threads(1)
    items = list(_items(data / "actions"))
    splits = [_split(folder, "copied", items, None, {1: 1.5, 4: 1.5})]
    for skipped in (1, 3):
        config = TranscodeConfig.model_validate({"disposable_frames": skipped})
        name = f"transcoded, {skipped} of {skipped + 1} skippable"
        splits.append(_split(folder, name, items, config, {1: 6.0, 4: 12.0}))
    return [row for stride in _STRIDES for split in splits for row in _measure(split, stride)]


def _items(folder: Path) -> Iterator[Item]:
    """The 320x240 h264 videos."""
    for file in find_files(folder):
        try:
            facts = probe(Path(file.path).read_bytes(), 2)
        except Rejected:
            continue
        if (facts.codec, facts.width, facts.height, facts.rotation) == ("h264", 320, 240, 0):
            yield Item(file.name, "video", (file,), "train")


def _split(
    folder: Path,
    name: str,
    items: Sequence[Item],
    config: TranscodeConfig | None,
    goals: Mapping[int, float],
) -> Split:
    """Makes one shard of all ``items``."""
    prepared = partial(prepare, settings=SampleSettings(2, config))
    tar = folder / "shard.tar"
    shard = write_shard(tar, 0, items, prepare=prepared, progress=lambda _: None)
    storage = open_storage(str(folder / "store"))
    ref = DatasetRef("bench", "train", str(config.disposable_frames) if config else "copy")
    storage.upload(tar, f"{ref.prefix}/shard.tar")
    index = Index(ref, (), "0", [replace(row, tar="shard.tar") for row in shard.rows])
    videos = tuple(index.read_media(storage, row) for row in range(len(index)))
    paths = tuple(item.files[0].path for item in items)
    assert len(videos) == len(paths)
    batch = torch.zeros(max(goals), 3, _FRAMES, SIZE_PX, SIZE_PX, dtype=torch.uint8)
    return Split(name, goals, FrameReader(storage, index), index, videos, paths, batch)


def _measure(split: Split, stride: int) -> list[Row]:
    draws = np.random.default_rng(stride)
    rounds = [_round(list(_tasks(split, stride, draws)), split) for _ in range(_ROUNDS)]
    seconds = {side: np.array([taken[side] for taken in rounds]) for side in rounds[0]}
    return list(_rows(split, f"{split.name}, stride {stride}", seconds))


def _tasks(split: Split, stride: int, draws: np.random.Generator) -> Iterator[Task]:
    """Random clips of random videos that are long enough."""
    rows = split.index.rows
    last_starts = [row.frames - (_FRAMES - 1) * stride - 1 for row in rows]
    videos = [video for video, last in enumerate(last_starts) if last >= 0]
    for video in draws.choice(videos, _CLIPS, replace=len(videos) < _CLIPS).tolist():
        grid = rows[video].frame_grid
        start = int(draws.integers(last_starts[video] // grid + 1)) * grid
        crops = tuple(multi_scale_crop(240, 320, SIZE_PX, draws) for _ in range(max(split.goals)))
        yield Task(video, tuple(range(start, start + _FRAMES * stride, stride)), crops)


def _round(tasks: Sequence[Task], split: Split) -> dict[str, float]:
    """Mean processor time of each side."""
    seconds: dict[str, float] = {}
    for task in tasks:
        for side, run in _sides(task, split).items():
            start_s = time.process_time()
            run()
            taken_s = time.process_time() - start_s
            seconds[side] = seconds.get(side, 0) + taken_s / len(tasks)
    return seconds


def _sides(task: Task, split: Split) -> dict[str, Callable[[], object]]:
    data, path = split.videos[task.video], split.paths[task.video]
    where = visits(data, task.numbers)
    wanted = np.array(task.numbers)
    sides: dict[str, Callable[[], object]] = {"decoding alone": partial(by_libav, data, where, 0)}
    for clips in split.goals:
        ours = partial(split.reader.clips, out=split.batch[:clips])
        sides[f"ours {clips}"] = partial(ours, task.video, wanted, task.crops[:clips], SIZE_PX)
        sides[f"libav {clips}"] = partial(by_libav, data, where, clips)
    for name, read in (("decord", read_by_decord), ("PyAV", read_by_pyav)):
        if name != "decord" or importlib.util.find_spec("decord"):
            sides[name] = partial(by_plain_reader, read, path, task.numbers, task.crops[0])
    return sides


def _rows(split: Split, what: str, seconds: Seconds) -> Iterator[Row]:
    for name in _PLAIN:
        if name in seconds:
            yield Row(f"{what}: (b) {name}", _rate(seconds[name]), "clips/s")
    alone = seconds["decoding alone"]
    yield Row(f"{what}: (a) decoding alone", _rate(alone), "clips/s")
    for clips, goal in split.goals.items():
        ours, libav = seconds[f"ours {clips}"] / clips, seconds[f"libav {clips}"] / clips
        case = f"{what}, {clips} of each decode"
        yield Row(f"{case}: (a) with libswscale", _rate(libav), "clips/s")
        yield Row(f"{case}: ours", _rate(ours), "clips/s")
        yield Row(f"{case}: ours / (a) with libswscale", _ratio(libav, ours), "x", 0.8)
        left: float | None = goal
        for name in _PLAIN:
            if name in seconds:
                yield Row(f"{case}: ours / (b) {name}", _ratio(seconds[name], ours), "x", left)
                left = None


def _rate(seconds: NDArray[np.float64]) -> float:
    return float(1 / np.median(seconds))


def _ratio(theirs: NDArray[np.float64], ours: NDArray[np.float64]) -> float:
    return float(np.median(theirs / ours))
