"""One rank that takes a few steps on made-up clips; run as a program.

Arguments: rank, number of ranks, folder. The folder has ``cases.json``, by name {model, train,
steps, rate}; the rank writes ``<rank>.json`` with what it saw in each, and rank 0 final weights.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from sigma_pipeline.data_prep.loader import Batch
from sigma_pipeline.jobs.checkpoints import owned_fragments
from sigma_pipeline.jobs.config import TrainConfig
from sigma_pipeline.jobs.control import Agreement
from sigma_pipeline.jobs.distributed import RankContext, init_ranks
from sigma_pipeline.jobs.train_request import RankPlace
from sigma_pipeline.jobs.train_step import TrainStep, build_engine
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.sigma import build_sigma


def share(train: TrainConfig, context: RankContext) -> list[Batch]:
    """This rank's micro-batches of one global batch, which is the same for any rank count."""
    draws = torch.Generator().manual_seed(5)
    shape = (train.global_batch_clips, 3, 4, 32, 32)
    clips = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draws)
    places = torch.arange(train.global_batch_clips)
    mine = places.chunk(context.world_size)[context.rank]
    return [Batch(clips[part], 0, part, part, part) for part in mine.split(train.micro_batch_clips)]


def take_steps(case: dict[str, Any], context: RankContext, weights: Path) -> dict[str, Any]:
    from deepspeed.utils import safe_get_full_fp32_param

    model, train = ModelConfig(**case["model"]), TrainConfig(**case["train"])
    batches = share(train, context)
    engine = build_engine(build_sigma(model, 0), train, len(batches), context.device)
    take_step = TrainStep(engine, context, model=model, seed=0)
    losses = []
    for _ in range(case["steps"]):
        loss = take_step(batches, case["rate"]).numbers["loss"].double()
        losses.append(float(context.reduce(loss, dist.ReduceOp.SUM)) / context.world_size)
    master = safe_get_full_fp32_param(engine.module.prototypes)
    if context.is_first:
        save_file(engine.module.state_dict(), weights)
    return {
        "losses": losses,
        "master_norms": master.norm(dim=1).tolist(),
        "module_norms": engine.module.prototypes.norm(dim=1).tolist(),
        "fragments": [[f.parameter, f.start, f.length] for f in owned_fragments(engine)],
    }


def agree(context: RankContext) -> list[bool]:
    """What this rank hears when only the last rank wishes to stop, at the second call."""
    agreement = Agreement(context.control_group)
    wisher = context.rank == context.world_size - 1
    return [agreement.exchange(wisher and call == 1) for call in range(4)]


def main(rank: int, world_size: int, folder: Path) -> None:
    cases = json.loads((folder / "cases.json").read_text())
    place = RankPlace(rank, world_size, rank, str(folder / "rendezvous"))
    with init_ranks(place, 1) as context:
        seen = {
            name: take_steps(case, context, folder / f"{name}.safetensors")
            for name, case in cases.items()
        }
        seen["agreed"] = agree(context)
    (folder / f"{rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
