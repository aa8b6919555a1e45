"""Index and order at a scale that no dataset at hand has: times, memory and disk on made-up rows.

    python tests/bench/index.py [--rows 10000000] [--json FILE]

The rows are synthetic: see ``synthetic_index``. Everything lies in a temporary folder (about 200
bytes per row), which is removed at the end.
"""

import argparse
import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from synthetic_index import make_split

from sigma_pipeline.data_prep.clips import clip_frames
from sigma_pipeline.data_prep.draws import generator
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.mixture import MixtureOrder
from sigma_pipeline.data_prep.order import GlobalOrder, Order
from sigma_pipeline.data_prep.windows import WindowedOrder
from sigma_pipeline.infra.storage import LocalStorage

REF = DatasetRef("synthetic", "train", "v1")
PROCESSES = 4
CLIPS = 10_000
WINDOW_SHARDS = 64
GOALS = {"warm_open_s": 10.0, "node_memory_gb": 1.0}


@dataclass(frozen=True)
class Place:
    """Where the split and the node's copy of its index lie; picklable."""

    folder: Path

    @property
    def storage(self) -> LocalStorage:
        """The store."""
        return LocalStorage(str(self.folder / "store"))

    def load(self) -> Index:
        """The index as a training process opens it."""
        return Index.load(self.storage, REF, self.folder / "scratch")


def open_cold(place: Place, answer: Connection) -> None:
    """A process that finds no file of hot columns: how long it takes, and its peak memory."""
    start = time.perf_counter()
    place.load()
    seconds = time.perf_counter() - start
    answer.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def open_warm(place: Place, answer: Connection) -> None:
    """A process that finds the file, but none of it in memory; then single samples."""
    (hot,) = (place.folder / "scratch/index").glob("*.arrow")
    _forget(hot)
    start = time.perf_counter()
    index = place.load()
    seconds = time.perf_counter() - start
    some = np.random.default_rng(0).integers(0, len(index), 20_000).tolist()
    for i in some:
        index.source(i)  # brings the file into memory
    source_s = _seconds(lambda: [index.source(i) for i in some]) / len(some)
    row_s = _seconds(lambda: [index.row(i) for i in some[:10]]) / 10
    answer.send((seconds, source_s, row_s))


def plan_clips(place: Place, answer: Connection, seed: int) -> None:
    """A process of a node: its memory before and after it has planned clips; ends when told to."""
    before = _pss_bytes()
    index = place.load()
    order = GlobalOrder(len(index), seed=0)
    positions = np.random.default_rng(seed).integers(0, len(index), CLIPS)
    start = time.perf_counter()
    for position, sample in zip(
        positions.tolist(), order.samples(0, positions).tolist(), strict=True
    ):
        source = index.source(sample)
        clip_frames(source.frames, 16, 4, generator(0, 0, position, "start").random())
    index.labels[order.samples(0, positions)]
    seconds = time.perf_counter() - start
    answer.send((before, seconds / CLIPS))
    answer.recv()  # all have planned
    answer.send(_pss_bytes())
    answer.recv()  # all have measured


def measure_node(place: Place) -> dict[str, float]:
    """Memory of processes side by side that share the index."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(PROCESSES)]
    processes = [
        context.Process(target=plan_clips, args=(place, theirs, seed))
        for seed, (_, theirs) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    planned = [ours.recv() for ours, _ in pipes]
    for ours, _ in pipes:
        ours.send(None)
    after = [ours.recv() for ours, _ in pipes]
    for ours, _ in pipes:
        ours.send(None)
    for process in processes:
        process.join()
    return {
        "node_memory_gb": sum(after) / 1e9,
        "of_which_index_gb": (sum(after) - sum(before for before, _ in planned)) / 1e9,
        "plan_clip_us": 1e6 * max(seconds for _, seconds in planned),
    }


def measure_orders(index: Index) -> dict[str, float]:
    """Microseconds per position, alone or among 256, at random positions of random epochs."""
    half = len(index) // 2
    parts = [GlobalOrder(half, 1), GlobalOrder(len(index) - half, 2)]
    orders: dict[str, Order] = {
        "global": GlobalOrder(len(index), 0),
        "windowed": WindowedOrder(index.samples_per_shard, WINDOW_SHARDS, 0),
        "mixture": MixtureOrder(parts, [0.7, 0.3], 0),
    }
    return {
        f"{name}_{case}_us": microseconds
        for name, order in orders.items()
        for case, microseconds in _order_times(order).items()
    }


def _order_times(order: Order) -> dict[str, float]:
    """Medians; the first call for an epoch is counted apart."""
    draw = np.random.default_rng(0)
    new_epoch, position, batch = [], [], []
    for epoch in draw.integers(0, 10_000, 50).tolist():
        calls = [
            partial(order.samples, epoch, draw.integers(0, order.num_positions, n))
            for n in (1, 1, 256)
        ]
        for times, call in zip((new_epoch, position, batch), calls, strict=True):
            times.append(1e6 * _seconds(call))
    medians = [float(np.median(times)) for times in (new_epoch, position, batch)]
    return {"new_epoch": medians[0], "alone": medians[1], "of_256": medians[2] / 256}


def measure(folder: Path, num_rows: int) -> dict[str, float]:
    """All results, by name with unit."""
    place = Place(folder)
    parquet_bytes = make_split(place.storage, REF, num_rows)
    cold_s, peak_bytes = _in_process(open_cold, place)
    (hot,) = (folder / "scratch/index").glob("*.arrow")
    warm_s, source_s, row_s = _in_process(open_warm, place)
    return {
        "rows": num_rows,
        "parquet_gb": parquet_bytes / 1e9,
        "hot_file_gb": hot.stat().st_size / 1e9,
        "cold_open_s": cold_s,
        "cold_peak_memory_gb": peak_bytes / 1e9,
        "warm_open_s": warm_s,
        **measure_node(place),
        "source_us": 1e6 * source_s,
        "row_ms": 1e3 * row_s,
        **measure_orders(place.load()),
    }


def _in_process(target: Callable[[Place, Connection], None], place: Place) -> Any:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(place, theirs))
    process.start()
    answer = ours.recv()
    process.join()
    return answer


def _pss_bytes() -> int:
    """Memory of this process, pages shared with others counted in equal parts."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


def _forget(path: Path) -> None:
    """Drops the file from the page cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> int:
    """Measures, and says where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="bench-index-") as folder:
        results = measure(Path(folder), options.rows)
    for name, value in results.items():
        goal = f"   goal: below {GOALS[name]:g}" if name in GOALS else ""
        sys.stdout.write(f"{name:24} {value:14,.3f}{goal}\n")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return int(any(results[name] >= goal for name, goal in GOALS.items()))


if __name__ == "__main__":
    sys.exit(main())
