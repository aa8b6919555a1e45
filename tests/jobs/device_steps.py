"""Some steps of a ViT-S-like SIGMA on made-up clips (noise), on the device that the process finds.

The same code on GPUs and CPUs: what ``init_ranks`` gives decides. Also run as a program:

    python -m tests.jobs.device_steps FOLDER RANK WORLD_SIZE

FOLDER has ``trials.json``, a list of trials; rank 0 leaves ``<name>.json`` with what it measured,
and ``<name>.safetensors`` with the gradients of the first step.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.jobs.config import TrainConfig, TrainPrecision
from sigma_pipeline.jobs.device_peak import peak_flops
from sigma_pipeline.jobs.distributed import RankContext, init_ranks
from sigma_pipeline.jobs.engine import build_engine
from sigma_pipeline.jobs.masters import owned_fragments
from sigma_pipeline.jobs.sigma_objective import SigmaObjective
from sigma_pipeline.jobs.train_request import RankPlace
from sigma_pipeline.jobs.train_step import TrainStep
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.flops import step_flops
from sigma_pipeline.model.sigma import build_sigma

_RATE = 1e-4
_WARM_UP_STEPS = 3
_PATIENCE_S = 600


@dataclass(frozen=True)
class Trial:
    """Steps from the untrained model on one global batch."""

    name: str
    zero_stage: int = 1
    precision: TrainPrecision = "bf16_autocast"
    encoder: str = "vit_s"
    num_frames: int = 8
    frame_size_px: int = 64
    prototypes: int = 512
    clips: int = 8
    """Of the global batch."""
    micro_batch_clips: int = 4
    steps: int = 5

    @property
    def model(self) -> ModelConfig:
        """With soft targets: hard ones would turn rounding into other labels."""
        return ModelConfig.model_validate(
            {
                "encoder": self.encoder,
                "num_frames": self.num_frames,
                "frame_size_px": self.frame_size_px,
                "mask_ratio": 0.75,
                "prototypes": self.prototypes,
                "assignment": "soft",
            }
        )

    @property
    def train(self) -> TrainConfig:
        """As production trains, but for the sizes."""
        return TrainConfig.model_validate(
            {
                "dataset": "noise",
                "global_batch_clips": self.clips,
                "micro_batch_clips": self.micro_batch_clips,
                "zero_stage": self.zero_stage,
                "precision": self.precision,
            }
        )


@dataclass(frozen=True)
class Measured:
    """What a trial gave; rates of all ranks together, after steps that warm up."""

    device: str
    losses: tuple[float, ...]
    """Of each step, over all ranks."""
    gradient_norms: tuple[float, ...]
    clips_per_s: float
    peak_memory_gib: float
    """Of rank 0's GPU; 0 on CPUs."""
    mfu: float | None
    """Share of what the GPUs reach at most; None where that is not known."""

    @classmethod
    def read(cls, folder: Path, name: str) -> "Measured":
        """As a rank left it."""
        return cls(**json.loads((folder / f"{name}.json").read_text()))


def take_trial(trial: Trial, context: RankContext) -> tuple[Measured, dict[str, Tensor]]:
    """Takes the steps; what was measured, and the gradients of the first one (rank 0)."""
    if context.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    batches = _share(trial, context)
    engine = build_engine(build_sigma(trial.model, 0), trial.train, len(batches), context.device)
    step = TrainStep(engine, context, SigmaObjective(trial.model, 0))
    losses, norms, ended_s = [], [], []
    gradients: dict[str, Tensor] = {}
    for _ in range(trial.steps):
        outcome = step(batches, _RATE)
        loss = outcome.numbers["loss"].double().cpu()  # waits for the device
        ended_s.append(time.perf_counter())
        losses.append(float(context.reduce(loss, dist.ReduceOp.SUM)) / context.world_size)
        norms.append(outcome.gradient_norm)
        gradients = gradients or _first_gradients(engine, trial, context)
    rate = _rate(trial, ended_s)
    return _measured(trial, context, losses, norms, rate), gradients


def _measured(
    trial: Trial, context: RankContext, losses: list[float], norms: list[float], rate: float
) -> Measured:
    peak, is_on_gpu = peak_flops(context.device), context.device.type == "cuda"
    flops_per_s = step_flops(trial.model, 1) * rate
    return Measured(
        device=torch.cuda.get_device_name() if is_on_gpu else "cpu",
        losses=tuple(losses),
        gradient_norms=tuple(norms),
        clips_per_s=rate,
        peak_memory_gib=torch.cuda.max_memory_allocated() / 2**30 if is_on_gpu else 0.0,
        mfu=None if peak is None else flops_per_s / peak / context.world_size,
    )


def _share(trial: Trial, context: RankContext) -> list[Batch]:
    """This rank's micro-batches of a batch that is the same for any number of ranks."""
    draws = torch.Generator().manual_seed(5)
    shape = (trial.clips, 3, trial.num_frames, trial.frame_size_px, trial.frame_size_px)
    clips = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draws)
    mine = torch.arange(trial.clips).chunk(context.world_size)[context.rank]
    parts = mine.split(trial.micro_batch_clips)
    return [Batch(clips[part], 0, part, part, part) for part in parts]


def _first_gradients(engine: Any, trial: Trial, context: RankContext) -> dict[str, Tensor]:
    """After one step the first moment is the gradient, times what ``betas`` leave of it.

    Flat, on rank 0; at ZeRO 1 and 2.
    """
    share = 1 - trial.train.optimizer.betas[0]
    moments = engine.optimizer.optimizer.state
    # Divided here: a slice of the moments that is sent as it is takes all of them along.
    owned = [
        (part.parameter, part.start, part.of(moments[part.flat]["exp_avg"]).cpu() / share)
        for part in owned_fragments(engine)
    ]
    whole = {
        name: torch.zeros(parameter.numel())
        for name, parameter in engine.module.named_parameters()
        if parameter.requires_grad
    }
    for name, start, values in chain.from_iterable(context.gather(owned)):
        whole[name][start : start + len(values)] = values
    return whole


def _rate(trial: Trial, ended_s: Sequence[float]) -> float:
    """Clips per second, from the ends of the steps."""
    first = min(_WARM_UP_STEPS, len(ended_s) - 2)
    return trial.clips * (len(ended_s) - 1 - first) / (ended_s[-1] - ended_s[first])


def distance(some: dict[str, Tensor], others: dict[str, Tensor]) -> float:
    """Between gradients, over all parameters, relative to the length of ``others``."""
    apart = sum(float((some[name] - others[name]).double().square().sum()) for name in others)
    length = sum(float(gradient.double().square().sum()) for gradient in others.values())
    return (apart / length) ** 0.5


def run_trials(
    folder: Path, trials: Sequence[Trial], world_size: int, *, on_cpu: bool = False
) -> None:
    """Takes trials in processes of their own, and waits for them.

    Args:
        folder: gets what they leave.
        trials: in this order.
        world_size: processes; each has a GPU of its own unless ``on_cpu``.
        on_cpu: hides the GPUs from them.

    Raises:
        CalledProcessError: one failed.
        TimeoutExpired: they took too long.
    """
    folder.mkdir(exist_ok=True)
    (folder / "trials.json").write_text(json.dumps([asdict(trial) for trial in trials]))
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ""} if on_cpu else {})
    command = [sys.executable, "-m", "tests.jobs.device_steps", str(folder)]
    processes = [
        subprocess.Popen([*command, str(rank), str(world_size)], env=environment)
        for rank in range(world_size)
    ]
    try:
        for process in processes:
            if status := process.wait(timeout=_PATIENCE_S):
                raise subprocess.CalledProcessError(status, command)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def gradients_of(folder: Path, name: str) -> dict[str, Tensor]:
    """Of the first step of a trial."""
    return load_file(folder / f"{name}.safetensors")


def main(folder: Path, rank: int, world_size: int) -> None:
    """Takes the trials of the folder as one rank."""
    trials = [Trial(**record) for record in json.loads((folder / "trials.json").read_text())]
    place = RankPlace(rank, world_size, rank, str(folder / "rendezvous"))
    with init_ranks(place, torch.get_num_threads()) as context:
        for trial in trials:
            measured, gradients = take_trial(trial, context)
            if context.is_first:
                save_file(gradients, folder / f"{trial.name}.safetensors")
                (folder / f"{trial.name}.json").write_text(json.dumps(asdict(measured)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
