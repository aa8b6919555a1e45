"""One shard, made by one attempt or by two at once."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.receipts import read_receipts
from sigma_pipeline.data_prep.sample import Sample, SampleSettings
from sigma_pipeline.data_prep.samples import prepare
from sigma_pipeline.data_prep.source_tree import SourceFile
from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.jobs.shard_unit import UnitTask, build_unit

REF = DatasetRef("set", "train", "v1")
SETTINGS = SampleSettings(min_frames=2, transcode=None)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "store"))


@pytest.fixture
def video(tmp_path: Path) -> Item:
    path = tmp_path / "a.mp4"
    write_video(path, np.zeros((3, 16, 16, 3), np.uint8), fps=10, crf=20, gop_frames=3)
    return Item("a.mp4", "video", (SourceFile(str(path), "a.mp4", path.stat().st_size),), "train")


def task(storage: Storage, attempt: str, *videos: Item) -> UnitTask:
    return UnitTask(storage, REF, 0, videos, SETTINGS, attempt)


def build(task: UnitTask, folder: Path) -> None:
    build_unit(task, partial(prepare, settings=SETTINGS), lambda _: None, folder)


def tars(storage: Storage) -> list[str]:
    return [key.rpartition("/")[2] for key in storage.list(REF.prefix) if key.endswith(".tar")]


def test_the_receipt_names_the_tar_that_is_there(
    storage: Storage, video: Item, tmp_path: Path
) -> None:
    build(task(storage, "one", video), tmp_path)

    (receipt,) = read_receipts(storage, REF, 1)
    assert [receipt.tar] == tars(storage) == ["shard-000000.one.tar"]


def test_a_shard_that_is_there_is_not_made_again(
    storage: Storage, video: Item, tmp_path: Path
) -> None:
    build(task(storage, "one", video), tmp_path)

    build_unit(task(storage, "two", video), pytest.fail, lambda _: None, tmp_path)

    assert tars(storage) == ["shard-000000.one.tar"]


def test_who_is_slower_deletes_the_tar_made_in_vain(
    storage: Storage, video: Item, tmp_path: Path
) -> None:
    def overtaken(video: Item) -> Sample:
        build(task(storage, "faster", video), tmp_path)
        return prepare(video, SETTINGS)

    build_unit(task(storage, "slower", video), overtaken, lambda _: None, tmp_path)

    assert tars(storage) == ["shard-000000.faster.tar"]


def test_the_same_attempt_again_keeps_the_tar_it_made(
    storage: Storage, video: Item, tmp_path: Path
) -> None:
    def repeated(video: Item) -> Sample:
        build(task(storage, "one", video), tmp_path)
        return prepare(video, SETTINGS)

    build_unit(task(storage, "one", video), repeated, lambda _: None, tmp_path)

    assert tars(storage) == ["shard-000000.one.tar"]
