"""One of two processes that have half of the same clips each; run as a program.

Arguments: the rank, and a folder with ``config.json`` and ``batch.safetensors``. What this rank
computed, and the means over both, are written beside them.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.scores import CosineScores
from sigma_pipeline.model.sigma import build_sigma
from sigma_pipeline.model.sinkhorn import Assignments, assign_both

NUM_RANKS = 2


def sum_over_ranks(tensor: Tensor) -> Tensor:
    distributed.all_reduce(tensor)
    return tensor


def computed(config: ModelConfig, clip: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """In float64: the loss and the gradients of all ranks, and the assignments of this one."""
    model = build_sigma(config, seed=0).double()
    seen: dict[str, Tensor] = {}

    def assign(target: CosineScores, prediction: CosineScores) -> Assignments:
        assigned = assign_both(target, prediction, config, sum_over_ranks)
        seen["target"], seen["prediction"] = assigned.target, assigned.prediction
        return assigned

    loss = model(clip, mask, assign).loss / NUM_RANKS
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        seen[f"gradient of {name}"] = sum_over_ranks(parameter.grad)
    return seen | {"loss": sum_over_ranks(loss.detach())}


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting-point", rank=rank, world_size=NUM_RANKS
    )
    config = ModelConfig.model_validate_json((folder / "config.json").read_text())
    batch = load_file(folder / "batch.safetensors")
    parts = (batch[name].chunk(NUM_RANKS)[rank] for name in ("clip", "mask"))
    save_file(computed(config, *parts), folder / f"rank-{rank}.safetensors")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
