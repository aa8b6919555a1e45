"""Worker processes, and sources that bring them down."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sigma_pipeline.data_prep.config import LimitsConfig
from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.receipts import Receipt, read_receipts
from sigma_pipeline.data_prep.sample import SampleSettings
from sigma_pipeline.data_prep.source_tree import SourceFile
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.jobs.shard_progress import Progress
from sigma_pipeline.jobs.shard_unit import UnitTask
from sigma_pipeline.jobs.shard_workers import build_units

REF = DatasetRef("set", "train", "v1")
# Sources that do to a process what a decoder may; in a module that workers can import.
TRAPS = """
import errno, os, signal
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
class Eater:
    name: str
    size: int = 1
    row: int | None = None

    @property
    def path(self):
        self_eaten = bytearray(1 << 30)

@dataclass(frozen=True)
class Doomed:
    name: str
    marks: str
    size: int = 1
    row: int | None = None

    @property
    def path(self):
        open(os.path.join(self.marks, str(os.getpid())), "w").close()
        os.kill(os.getpid(), signal.SIGKILL)

@dataclass(frozen=True)
class FlakyRead:
    name: str
    size: int
    good_path: str
    marks: str
    failures: int

    @property
    def path(self):
        if len(os.listdir(self.marks)) < self.failures:
            open(os.path.join(self.marks, str(os.getpid())), "w").close()
            raise OSError(errno.EIO, "Input/output error")
        return self.good_path

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

    def make(number: int, *sources: Any, **limits: Any) -> UnitTask:
        videos = []
        for source in sources:
            if isinstance(source, str):
                path = tmp_path / source
                write_video(path, np.zeros((4, 16, 16, 3), np.uint8), 10, 20, 4)
                source = SourceFile(str(path), source, path.stat().st_size)
            videos.append(Item(source.name, "video", (source,), "train"))
        settings = SampleSettings(2, transcode=None, limits=LimitsConfig(**limits))
        return UnitTask(storage, REF, number, tuple(videos), settings, "one")

    return make


def build(tasks: list[UnitTask], folder: Path, workers: int = 1) -> list[Receipt]:
    """Makes the shards; scratch files go to ``folder``."""
    folder.mkdir(exist_ok=True)
    progress = Progress("set", 1, 1)
    build_units(tasks, workers=workers, scratch_dir=folder, progress=progress)
    return list(read_receipts(tasks[0].storage, REF, len(tasks)))


def outcome(receipt: Receipt) -> dict[str, str]:
    good = {row.source: "good" for row in receipt.rows}
    return good | {row.source: row.reason for row in receipt.shard.rejected}


@pytest.mark.slow
def test_a_source_that_brings_its_process_down_is_rejected_and_the_rest_is_not(
    make_task: MakeTask, traps: Any, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    bad = [traps.Crash("crash.mp4"), traps.Eater("eater.mp4"), traps.Hang("hang.mp4")]
    doomed = traps.Doomed("doomed.mp4", str(marks))
    limits = {"cpu_s": 1, "memory_gib": 0.5}
    tasks = [
        make_task(0, "a.mp4", *bad, "b.mp4", **limits),
        make_task(1, doomed, "c.mp4"),
        make_task(2, "d.mp4"),
    ]

    receipts = build(tasks, tmp_path / "scratch", workers=2)

    assert outcome(receipts[0]) == {
        "a.mp4": "good",
        "crash.mp4": "crashed_decoder",
        "eater.mp4": "too_large",
        "hang.mp4": "too_slow",
        "b.mp4": "good",
    }
    assert outcome(receipts[1]) == {"doomed.mp4": "crashed_decoder", "c.mp4": "good"}
    assert outcome(receipts[2]) == {"d.mp4": "good"}
    assert [row.retryable for row in receipts[0].shard.rejected] == [False] * 3
    assert [row.retryable for row in receipts[1].shard.rejected] == [True]
    assert len(list(marks.iterdir())) in (3, 4)  # apart, and in the pool if it came to that


@pytest.mark.slow
def test_what_may_pass_is_tried_again_at_the_end_and_costs_no_sample(
    make_task: MakeTask, traps: Any, tmp_path: Path
) -> None:
    good = make_task(0, "a.mp4").items[0].files[0]
    killed_once = traps.KilledOnce("b.mp4", good.size, good.path, str(tmp_path / "was_killed"))
    flaky = []
    for failures in (3, 4):
        marks = tmp_path / f"marks{failures}"
        marks.mkdir()
        flaky.append(traps.FlakyRead(f"{failures}.mp4", good.size, good.path, str(marks), failures))

    receipts = build(
        [make_task(0, "a.mp4", killed_once), make_task(1, *flaky)], tmp_path / "scratch"
    )

    assert outcome(receipts[0]) == {"a.mp4": "good", "b.mp4": "good"}
    # Once in the pool, where the whole unit is put off, then three times apart.
    assert outcome(receipts[1]) == {"3.mp4": "good", "4.mp4": "unreadable"}
    assert receipts[1].shard.rejected[0].retryable


@pytest.mark.slow
def test_a_source_that_changed_stops_the_stage_with_its_own_words(
    make_task: MakeTask, tmp_path: Path
) -> None:
    task = make_task(0, "a.mp4")
    Path(task.items[0].files[0].path).write_bytes(b"x")

    with pytest.raises(StageError, match=r"has 1 bytes instead of"):
        build([task], tmp_path / "scratch")
