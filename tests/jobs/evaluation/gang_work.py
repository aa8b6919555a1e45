"""What tests have gangs do; each process tells of itself in a file."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from sigma_pipeline.jobs.benchmarks.gang import Gang
from sigma_pipeline.jobs.distributed import init_ranks
from sigma_pipeline.jobs.train_request import RankPlace

Work = Callable[..., Any]


def run(folder: Path, work: Work, gang: Gang) -> None:
    """A task: has its gang do ``work`` and writes the results down."""
    results = gang.run(work, folder)
    (folder / "results.json").write_text(json.dumps(results))


def tell(place: RankPlace, folder: Path) -> int:
    """Leaves a file that names this process; returns how often this rank has done so."""
    count = len(list(folder.glob(f"*-{place.rank}.told")))
    facts = {"pid": os.getpid(), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}
    path = folder / f"{count}-{place.rank}.told"
    path.with_suffix(".new").write_text(json.dumps(facts))
    path.with_suffix(".new").rename(path)
    return count


def told(folder: Path) -> list[dict[str, Any]]:
    """What processes have told: first those of the first call, by rank."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.told"))]


def add_up(place: RankPlace, folder: Path) -> list[Any]:
    """Rank, threads, and the sum of 1 and all ranks."""
    tell(place, folder)
    with init_ranks(place, num_threads=1) as context:
        total = context.reduce(torch.tensor(float(place.rank + 1)), dist.ReduceOp.SUM)
    return [place.rank, place.world_size, float(total)]


def return_rank(place: RankPlace, folder: Path) -> int:
    """Its rank, at once."""
    tell(place, folder)
    return place.rank


def wait(place: RankPlace, folder: Path) -> None:
    """Ends only when it is ended."""
    tell(place, folder)
    time.sleep(600)


def wait_once(place: RankPlace, folder: Path) -> int:
    """Waits the first time."""
    if tell(place, folder) == 0:
        time.sleep(600)
    return place.rank


def die_then_fail(place: RankPlace, folder: Path) -> None:
    """Rank 1 is killed, then raises what will not pass; rank 0 waits for it."""
    count = tell(place, folder)
    if place.rank == 0:
        time.sleep(600)
    while not (folder / f"{count}-0.told").exists():
        time.sleep(0.01)
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError("wrong")
