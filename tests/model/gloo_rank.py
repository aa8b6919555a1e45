"""One of two processes that balance their halves of the same scores; run as a program.

Arguments: the rank, and a folder with ``scores.safetensors``; the plan is written beside it.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed

from sigma_pipeline.model.sinkhorn import balanced_assignment


def sum_over_ranks(vector: Tensor) -> Tensor:
    distributed.all_reduce(vector)
    return vector


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting-point", rank=rank, world_size=2
    )
    scores = load_file(folder / "scores.safetensors")["scores"].chunk(2)[rank]
    plan = balanced_assignment(scores, 0.05, 10, sum_over_ranks)
    save_file({"plan": plan}, folder / f"plan-{rank}.safetensors")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
