"""Worker processes, and sources that bring them down."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sigma_pipeline.data_prep.catalogue import Video
from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.receipts import Receipt, read_receipts
from sigma_pipeline.data_prep.samples import SampleSettings
from sigma_pipeline.data_prep.source_tree import SourceFile
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.jobs.shard_progress import Progress
from sigma_pipeline.jobs.shard_unit import UnitTask
from sigma_pipeline.jobs.shard_workers import build_units

REF = DatasetRef("set", "train", "v1")
# Sources that do to a process what a decoder may; in a module that workers can import.
TRAPS = """
import os, signal
from dataclasses import dataclass

@dataclass(frozen=True)
class Crash:
    name: str
    size: int = 1

    @property
    def path(self):
        os.kill(os.getpid(), signal.SIGSEGV)

@dataclass(frozen=True)
class Hang:
    name: str
    size: int = 1

    @property
    def path(self):
        while True:
            pass

@dataclass(frozen=True)
class KilledOnce:
    name: str
    size: int
    good_path: str
    mark: str

    @property
    def path(self):
        if not os.path.exists(self.mark):
            open(self.mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.good_path
"""
MakeTask = Callable[..., UnitTask]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "store"))


@pytest.fixture
def traps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of ``TRAPS``."""
    (tmp_path / "traps_of_sources.py").write_text(TRAPS)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("traps_of_sources")


@pytest.fixture
def make_task(tmp_path: Path, storage: Storage) -> MakeTask:
    """A task of good videos, one for each string, and of whatever else is given."""

    def make(number: int, *sources: Any, cpu_limit_s: int = 60) -> UnitTask:
        videos = []
        for source in sources:
            if isinstance(source, str):
                path = tmp_path / source
                write_video(path, np.zeros((4, 16, 16, 3), np.uint8), 10, 20, 4)
                source = SourceFile(str(path), source, path.stat().st_size)
            videos.append(Video(source, None, "train"))
        settings = SampleSettings(min_frames=2, transcode=None)
        return UnitTask(storage, REF, number, tuple(videos), settings, "one", cpu_limit_s)

    return make


def build(tasks: list[UnitTask], folder: Path, workers: int = 1) -> list[Receipt]:
    """Makes the shards; scratch files go to ``folder``."""
    folder.mkdir(exist_ok=True)
    progress = Progress("set", 1, 1)
    build_units(tasks, workers=workers, scratch_dir=folder, progress=progress)
    return read_receipts(tasks[0].storage, REF, len(tasks))


def outcome(receipt: Receipt) -> dict[str, str]:
    good = {row.source: "good" for row in receipt.rows}
    return good | {row.source: row.reason for row in receipt.shard.rejected}


@pytest.mark.slow
def test_a_source_that_crashes_the_decoder_is_rejected_and_the_rest_is_not(
    make_task: MakeTask, traps: Any, tmp_path: Path
) -> None:
    tasks = [make_task(0, "a.mp4", traps.Crash("b.mp4"), "c.mp4"), make_task(1, "d.mp4")]

    receipts = build(tasks, tmp_path / "scratch", workers=2)

    assert outcome(receipts[0]) == {"a.mp4": "good", "b.mp4": "crashed_decoder", "c.mp4": "good"}
    assert outcome(receipts[1]) == {"d.mp4": "good"}


@pytest.mark.slow
def test_a_source_that_never_ends_is_stopped_by_its_processor_time(
    make_task: MakeTask, traps: Any, tmp_path: Path
) -> None:
    task = make_task(0, traps.Hang("a.mp4"), "b.mp4", cpu_limit_s=1)

    (receipt,) = build([task], tmp_path / "scratch")

    assert outcome(receipt) == {"a.mp4": "crashed_decoder", "b.mp4": "good"}


@pytest.mark.slow
def test_a_worker_killed_from_outside_costs_no_sample(
    make_task: MakeTask, traps: Any, tmp_path: Path
) -> None:
    good = make_task(0, "a.mp4").videos[0].file
    killed_once = traps.KilledOnce("b.mp4", good.size, good.path, str(tmp_path / "was_killed"))

    (receipt,) = build([make_task(0, "a.mp4", killed_once)], tmp_path / "scratch")

    assert outcome(receipt) == {"a.mp4": "good", "b.mp4": "good"}


@pytest.mark.slow
def test_a_source_that_changed_stops_the_stage_with_its_own_words(
    make_task: MakeTask, tmp_path: Path
) -> None:
    task = make_task(0, "a.mp4")
    Path(task.videos[0].file.path).write_bytes(b"x")

    with pytest.raises(StageError, match=r"has 1 bytes instead of"):
        build([task], tmp_path / "scratch")
