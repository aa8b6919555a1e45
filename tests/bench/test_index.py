"""The index at a tenth of a million rows, and the benchmark that takes it to ten million."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.windows import WindowedOrder
from sigma_pipeline.infra.storage import LocalStorage

FOLDER = Path(__file__).parent
REF = DatasetRef("synthetic", "train", "v1")
NUM_ROWS = 100_000


def test_a_large_index_says_of_any_sample_what_its_row_says(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path / "store"))
    runpy.run_path(str(FOLDER / "synthetic_index.py"))["make_split"](storage, REF, NUM_ROWS)

    index = Index.load(storage, REF, tmp_path / "scratch")

    assert len(index) == NUM_ROWS
    assert index.labels.tolist() == (np.arange(NUM_ROWS) % 400).tolist()
    assert index.samples_per_shard.tolist() == [256] * 390 + [160]
    listed = 0
    for i in sorted(np.random.default_rng(0).integers(0, NUM_ROWS, 200).tolist()):
        source, row = index.source(i), index.row(i)
        assert source.tar == f"{REF.prefix}/{row.tar}"
        assert (source.media_offset, source.media_size) == (row.media_offset, row.media_size)
        assert (source.frames, source.fps, source.label) == (row.frames, row.fps, row.label)
        assert tuple(source.keyframes) == row.keyframes
        assert tuple(source.keyframe_pts) == row.keyframe_pts
        listed += isinstance(source.keyframes, tuple)
    assert 5 < listed < 50


def test_a_range_of_positions_touches_few_shards(tmp_path: Path) -> None:
    sizes = np.full(400, 250)
    order = WindowedOrder(sizes, window_shards=8, seed=0)

    for start in (0, 41_000, 99_000):
        samples = order.samples(3, np.arange(start, start + 1000))
        assert len(np.unique(samples // 250)) <= 16


@pytest.mark.slow
def test_the_benchmark_reports_all_it_promises(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    script = [sys.executable, str(FOLDER / "index.py"), "--rows", "20000", "--json", str(report)]

    done = subprocess.run(script, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    results = json.loads(report.read_text())
    assert results["rows"] == 20_000
    assert all(value > 0 for name, value in results.items() if name != "of_which_index_gb")
    assert {"cold_open_s", "warm_open_s", "node_memory_gb", "windowed_of_256_us"} <= set(results)
