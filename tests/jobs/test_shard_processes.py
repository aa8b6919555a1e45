"""Sharding with real worker processes: real media, and kills at any time."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import webdataset

from sigma_pipeline.data_prep.config import DatasetConfig, ShardConfig
from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.jobs.shard import plan_dataset, shard_dataset

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Exception ignored in"),  # webdataset leaves tars open
]

SCRIPT = Path(__file__).with_name("shard_once.py")
NUM_GOOD = 56
REAL_SETS = ["arid", "gt_mhi", "hmdb51", "quva_repetition", "surv_fight", "ucf101", "weizmann64"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small videos without classes, and four broken ones."""
    folder = tmp_path_factory.mktemp("source")
    noise = np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), dtype=np.uint8)
    for number in range(NUM_GOOD):
        write_video(folder / f"{number}.mp4", np.roll(noise, number, axis=2), 10, 20, 8)
    for number in range(4):
        (folder / f"bad{number}.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(40))
    return folder


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Root hashes by split of a run that nothing happened to."""
    return finish(source, tmp_path_factory.mktemp("undisturbed"))


def start(source: Path, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", SCRIPT, source, folder / "store", folder / "scratch"]
    return subprocess.Popen(command, start_new_session=True)


def finish(source: Path, folder: Path) -> dict[str, str]:
    with start(source, folder) as process:
        assert process.wait(timeout=300) == 0
    found = [json.loads(path.read_text()) for path in stored(folder, "manifest.json")]
    return {manifest["split"]: manifest["root_hash"] for manifest in found}


def stored(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(f"store/datasets/*/*/*/{pattern}"))


def processes_of(session: int) -> list[int]:
    """Those that live in a session."""
    alive = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        if int(fields[3]) == session and fields[0] != "Z":
            alive.append(int(path.parent.name))
    return alive


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def keys_in_tars(folder: Path) -> list[str]:
    tars = [str(path) for path in stored(folder, "shard-*.tar")]
    return [sample["__key__"] for sample in webdataset.WebDataset(tars, shardshuffle=False)]


@pytest.mark.parametrize("shards_before", [0, 3, 14])
def test_a_killed_run_leaves_no_process_and_the_next_one_ends_as_if_undisturbed(
    source: Path, tmp_path: Path, undisturbed: dict[str, str], shards_before: int
) -> None:
    process = start(source, tmp_path)
    wait_until(lambda: len(processes_of(process.pid)) > 2)
    wait_until(lambda: len(stored(tmp_path, "parts/*.json")) >= shards_before)

    process.kill()
    process.wait()

    wait_until(lambda: not processes_of(process.pid))
    assert stored(tmp_path, "manifest.json") == []
    assert finish(source, tmp_path) == undisturbed
    assert os.listdir(tmp_path / "scratch/shard") == ["lock"]
    keys = keys_in_tars(tmp_path)
    assert len(keys) == len(set(keys)) == NUM_GOOD


def test_a_killed_worker_changes_nothing(
    source: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    process = start(source, tmp_path)
    wait_until(lambda: len(stored(tmp_path, "parts/*.json")) >= 2)

    workers = set(processes_of(process.pid)) - {process.pid}
    os.kill(max(workers), signal.SIGKILL)  # the last one started

    assert process.wait(timeout=300) == 0
    assert finish(source, tmp_path) == undisturbed


def test_all_real_media_end_in_a_shard_or_in_the_ledger(real_videos: Path, tmp_path: Path) -> None:
    folders = [*(real_videos / "actions" / name for name in REAL_SETS), real_videos / "odd"]
    dataset = DatasetConfig(source=tuple(map(str, folders)))
    shard = ShardConfig(samples_per_shard=32, max_rejected_fraction=0.2)
    with (real_videos / "SOURCES.csv").open() as file:
        facts = {row["path"].removeprefix("actions/"): row for row in csv.DictReader(file)}

    shard_dataset(
        plan_dataset("real", dataset, shard, tmp_path),
        storage=open_storage(str(tmp_path / "store")),
        shard=shard,
        workers=2,
        journal=None,
        attempt="one",
        force=False,
    )

    index = pd.concat(map(pd.read_parquet, stored(tmp_path, "index.parquet")))
    ledger = pd.concat(map(pd.read_parquet, stored(tmp_path, "rejected.parquet")))
    files = {
        path.relative_to(folder.parent).as_posix()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert sorted([*index["source"], *ledger["source"]]) == sorted(files)
    assert sorted(keys_in_tars(tmp_path)) == sorted(index["key"])
    for row in index.itertuples():
        fact = facts[row.source]
        assert row.frames == int(fact["frames"]), row.source
        assert row.fps == pytest.approx(float(fact["fps"]), rel=0.01), row.source
        size = (row.width, row.height) if row.rotation % 180 == 0 else (row.height, row.width)
        assert "{}x{}".format(*size) == fact["resolution"], row.source
        assert fact["decode"] == "ok", row.source
    for row in ledger.itertuples():
        fact = facts[row.source]
        decodes = fact["decode"] == "ok" and int(fact["frames"]) > 1
        assert not decodes, (row.source, row.reason, row.detail)
