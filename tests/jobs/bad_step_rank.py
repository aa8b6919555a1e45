"""A rank of a training in which numbers go wrong on one rank, at some steps; run as a program.

Arguments: rank, number of ranks, folder (with ``request.pickle``), the rank that goes wrong, and at
which of its calls of a step, from 1. Leaves ``<rank>.txt`` there.
"""

import math
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.jobs import train_step
from sigma_pipeline.jobs.train import run_train
from sigma_pipeline.jobs.train_request import RankPlace
from sigma_pipeline.jobs.train_step import StepOutcome, TrainStep

STEP = TrainStep.__call__
NAN_UNLESS_FINITE = train_step._nan_unless_finite


def main(rank: int, num_ranks: int, folder: Path, bad_rank: int, bad_calls: Sequence[int]) -> None:
    """Trains as one rank."""
    calls: list[int] = []

    def step(self: TrainStep, batches: Sequence[Batch], rate: float) -> StepOutcome:
        calls.append(len(calls) + 1)
        is_bad = rank == bad_rank and calls[-1] in bad_calls
        factor = math.nan if is_bad else 1.0
        train_step._nan_unless_finite = lambda loss: NAN_UNLESS_FINITE(loss * factor)
        outcome = STEP(self, batches, rate)
        losses = tuple(loss * factor for loss in outcome.losses)
        return StepOutcome(outcome.numbers, outcome.gradient_norm, outcome.is_applied, losses)

    TrainStep.__call__ = step  # type: ignore[method-assign]
    request = pickle.loads((folder / "request.pickle").read_bytes())
    result = run_train(request, RankPlace(rank, num_ranks, rank, str(folder / "meeting")))
    (folder / f"{rank}.txt").write_text(f"{result['state']} after {len(calls)} steps taken")


if __name__ == "__main__":
    rank, num_ranks, folder, bad_rank, *bad_calls = sys.argv[1:]
    main(int(rank), int(num_ranks), Path(folder), int(bad_rank), [int(call) for call in bad_calls])
