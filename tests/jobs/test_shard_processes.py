"""Sharding with real worker processes: real media, and kills at any time."""

import csv
import json
import os
import random
import re
import shutil
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
NUM_GOOD = 76
NUM_SHARDS = 40
NUM_KILLS = 20
REAL_SETS = ["arid", "gt_mhi", "hmdb51", "quva_repetition", "surv_fight", "ucf101", "weizmann64"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of some tenths of a second each to transcode, and four broken ones."""
    folder = tmp_path_factory.mktemp("source")
    noise = np.random.default_rng(0).integers(0, 255, (24, 240, 320, 3), dtype=np.uint8)
    for number in range(NUM_GOOD):
        path = folder / f"{number}.mp4"
        if number < 4:
            write_video(path, np.roll(noise, number, axis=2), 10, 40, 8)
        else:
            shutil.copy(folder / f"{number % 4}.mp4", path)
    for number in range(4):
        (folder / f"bad{number}.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(40))
    return folder


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Root hashes by split of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with start(source, folder) as process:
        assert process.wait(timeout=300) == 0
    return roots(folder)


def start(source: Path, folder: Path, scratch: str = "scratch") -> subprocess.Popen[bytes]:
    """Begins a run; its log goes to ``log`` in ``folder``."""
    command = [sys.executable, "-P", SCRIPT, source, folder / "store", folder / scratch]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, start_new_session=True, stderr=log)


def roots(folder: Path) -> dict[str, str]:
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


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Waits while ``process`` lives, or is what is waited for."""
    while not condition():
        assert process.poll() in (None, -signal.SIGKILL)
        time.sleep(0.005)


def keys_in_tars(folder: Path) -> list[str]:
    tars = [str(path) for path in stored(folder, "shard-*.tar")]
    return [sample["__key__"] for sample in webdataset.WebDataset(tars, shardshuffle=False)]


def receipts(folder: Path) -> dict[str, str]:
    """What each receipt says."""
    return {str(path): path.read_text() for path in stored(folder, "parts/*.json")}


def test_kills_at_any_moment_change_nothing_and_just_what_is_missing_is_done(
    source: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    draw = random.Random(0)
    moments = sorted(draw.randrange(NUM_SHARDS * 3 // 4) for _ in range(NUM_KILLS))
    was_there: dict[str, str] = {}
    process: subprocess.Popen[bytes] | None = None
    to_do = []
    for shards_before in moments:
        if process is None:
            to_do.append(NUM_SHARDS - len(receipts(tmp_path)))
            process = start(source, tmp_path)
        wait_until(lambda: len(processes_of(process.pid)) > 2, process)  # noqa: B023 - used at once
        wait_until(lambda: len(receipts(tmp_path)) >= shards_before, process)  # noqa: B023
        time.sleep(draw.random() / 4)
        workers = sorted(set(processes_of(process.pid)) - {process.pid})
        victim = draw.choice(workers or [process.pid]) if draw.random() < 0.5 else process.pid
        os.kill(victim, signal.SIGKILL)
        if victim == process.pid:
            process.wait()
            wait_until(lambda: not processes_of(process.pid), process)  # noqa: B023
            process = None
        now_there = receipts(tmp_path)
        assert now_there.items() >= was_there.items()
        was_there = now_there
    if process:
        assert process.wait(timeout=300) == 0
    to_do.append(NUM_SHARDS - len(receipts(tmp_path)))
    with start(source, tmp_path) as process:
        assert process.wait(timeout=300) == 0

    assert roots(tmp_path) == undisturbed
    assert receipts(tmp_path).items() >= was_there.items()
    log = (tmp_path / "log").read_text()
    done = [int(number) for number in re.findall(rf"set: (\d+) of {NUM_SHARDS} shards to do", log)]
    assert done == [count for count in to_do if count]
    assert os.listdir(tmp_path / "scratch/shard") == ["lock"]
    keys = keys_in_tars(tmp_path)
    assert len(keys) == len(set(keys)) == NUM_GOOD


def test_of_two_at_once_each_adopts_what_the_other_made(
    source: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    with start(source, tmp_path, "one") as one, start(source, tmp_path, "other") as other:
        assert one.wait(timeout=300) == other.wait(timeout=300) == 0

    assert roots(tmp_path) == undisturbed
    assert len(receipts(tmp_path)) == NUM_SHARDS
    named = {json.loads(receipt)["tar"] for receipt in receipts(tmp_path).values()}
    assert {path.name for path in stored(tmp_path, "shard-*.tar")} == named - {None}
    keys = keys_in_tars(tmp_path)
    assert len(keys) == len(set(keys)) == NUM_GOOD


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
