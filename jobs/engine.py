"""The DeepSpeed engine around a model, by ZeRO stage and precision.

Every stage from 1 to 3 works in every precision, on any number of ranks, on CPUs too:

* ``fp32``: weights, gradients and arithmetic in float32.
* ``bf16_autocast``: weights and gradients stay float32; layers compute in bfloat16, and gradients
  of linear layers travel in it.
* ``bf16``: weights, positions and activations are bfloat16, 2 bytes a number in place of 4; the
  optimizer updates a float32 master, and micro-batches are added up in float32. Scores, Sinkhorn
  and a frozen teacher stay float32. Gradients travel in float32 at stage 1, else in bfloat16.

A step is the same at every stage, bit for bit, but for micro-batches in half precision: stage 1
sends their sum, stages 2 and 3 send each.

Stage 0 is refused: in DeepSpeed 0.19 it takes a hidden first step under bf16, and applies gradients
that are not finite. So even one process works at stage 1.
"""

import gc
import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sigma_pipeline.jobs.config import TrainConfig
from sigma_pipeline.jobs.distributed import modules_hidden
from sigma_pipeline.jobs.masters import set_masters
from sigma_pipeline.jobs.optimizer import LrScale, build_adamw
from sigma_pipeline.model.products import Linear
from sigma_pipeline.model.sigma import num_parameters
from sigma_pipeline.model.transformer import Block

if TYPE_CHECKING:  # imported when ``init_ranks`` has prepared it
    from deepspeed import DeepSpeedEngine

_MAX_BUCKET_ELEMENTS = 100_000_000
_MAX_PERSISTENT_ELEMENTS = 100_000
_NEVER = 1_000_000_000
_MUON = "deepspeed.runtime.zero.muon.muon_optimizer"


def deepspeed_config(
    train: TrainConfig, accumulation_steps: int, *, num_elements: int, is_cuda: bool
) -> dict[str, Any]:
    """DeepSpeed's settings; the optimizer and the learning rate are ours."""
    return {
        "train_batch_size": train.global_batch_clips,
        "train_micro_batch_size_per_gpu": train.micro_batch_clips,
        "gradient_accumulation_steps": accumulation_steps,
        "gradient_clipping": train.optimizer.gradient_clip_norm or 0.0,
        "steps_per_print": _NEVER,
        "wall_clock_breakdown": False,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": _zero_config(train.zero_stage, num_elements, is_cuda=is_cuda),
        **_precision_config(train),
    }


def _zero_config(stage: int, num_elements: int, *, is_cuda: bool) -> dict[str, Any]:
    # Buckets beyond the size of the model would only reserve memory; even, as DeepSpeed asks.
    bucket = min(_MAX_BUCKET_ELEMENTS, num_elements + num_elements % 2)
    config = {
        "stage": stage,
        "overlap_comm": is_cuda,
        "contiguous_gradients": True,
        "reduce_scatter": True,
        "reduce_bucket_size": bucket,
    }
    if stage < 3:
        return config | {"allgather_bucket_size": bucket}
    return config | {
        # Norms and biases stay whole on every rank: fetching them costs more than they take.
        "stage3_param_persistence_threshold": min(_MAX_PERSISTENT_ELEMENTS, num_elements // 1000),
        # Would replace ``torch.nn.functional.linear`` for all of the process, for good.
        "memory_efficient_linear": False,
    }


def _precision_config(train: TrainConfig) -> dict[str, Any]:
    if train.precision == "bf16":
        # Buffers are positions and pixel statistics: in float32 they would promote activations.
        return {
            "bf16": {"enabled": True},
            "data_types": {"grad_accum_dtype": "fp32", "buffer_dtype": "bf16"},
        }
    autocast = {
        "enabled": train.precision == "bf16_autocast",
        "dtype": "bfloat16",
        # Of these layers gradients travel in bfloat16; a class counts by its own name alone.
        "lower_precision_safe_modules": [f"{Linear.__module__}.{Linear.__name__}"],
    }
    return {"torch_autocast": autocast}


def build_engine(
    model: nn.Module,
    train: TrainConfig,
    accumulation_steps: int,
    device: torch.device,
    lr_scale: LrScale = lambda _name: 1.0,
) -> "DeepSpeedEngine":
    """The engine around a model that already has its weights: its masters are equal to them."""
    import deepspeed

    model.to(device).train()
    is_rounded = train.precision == "bf16"
    exact = deepcopy(model.state_dict()) if is_rounded else {}
    config = deepspeed_config(
        train,
        accumulation_steps,
        num_elements=num_parameters(model),
        is_cuda=device.type == "cuda",
    )
    if train.zero_stage == 3:
        # A block is fetched as a whole: attention reads weights of layers that it does not call.
        deepspeed.utils.set_z3_leaf_modules(model, [Block])
    # Looking whether the optimizer is Muon would load the compiler of PyTorch: a second, 44 MB.
    # The optimizers of stage 3, and of bf16 at stage 1, cannot do without.
    is_needed = train.zero_stage == 3 or (is_rounded and train.zero_stage == 1)
    with modules_hidden(*(() if is_needed else (_MUON,))), _without_memory_reports():
        engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=build_adamw(model, train.optimizer, lr_scale),
            config=config,
            dist_init_required=False,
        )
    if is_rounded:  # before its masters were copied from it
        set_masters(engine, exact)
    return engine


@contextmanager
def _without_memory_reports() -> Iterator[None]:
    """The optimizer of bf16 at stage 1 prints its memory, and collects garbage, ten times."""
    gc.freeze()  # what is there is no garbage; to look at it each time would take seconds
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        gc.unfreeze()
