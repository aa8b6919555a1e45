"""A rank that adds numbers over all ranks for ever, under a watchdog; run as a program.

Arguments: rank, rendezvous, time-out in seconds, file for what would be recorded, and the step
before which it falls asleep in its own code (or ``never``).
"""

import json
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

from sigma_pipeline.infra.logs import configure_logging
from sigma_pipeline.jobs.distributed import init_ranks
from sigma_pipeline.jobs.train_request import RankPlace
from sigma_pipeline.jobs.watchdog import Watchdog


def main(rank: int, rendezvous: str, timeout_s: float, told: Path, sleeps_at: str) -> None:
    configure_logging(rank)
    place = RankPlace(rank, 2, rank, rendezvous)

    def tell(*what: object) -> None:
        told.write_text(json.dumps(what))

    with (
        init_ranks(place, 1) as context,
        Watchdog(context, timeout_s, tell, subject="test") as watchdog,
    ):
        for step in range(1_000_000):
            watchdog.at("data", step)
            if str(step) == sleeps_at:
                time.sleep(600)
            watchdog.at("step", step)
            dist.all_reduce(torch.ones(1000))
            if step == 20:
                told.with_suffix(".moves").touch()
            time.sleep(0.01)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), Path(sys.argv[4]), sys.argv[5])
