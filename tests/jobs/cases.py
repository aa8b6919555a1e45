"""Cases for ``step_rank``: the tiny model at a ZeRO stage, in a precision."""

from typing import Any

from sigma_pipeline.jobs.config import TrainConfig
from sigma_pipeline.model.config import ModelConfig
from tests.jobs.step_rank import Case
from tests.tiny import TINY_MODEL, TINY_TRAIN

NUM_PROTOTYPES = 11
"""With features 17 wide: two ranks have to cut a row, and to pad."""


def make_case(
    name: str,
    stage: int = 1,
    precision: str = "fp32",
    *,
    micro_batch_clips: int = 8,
    assignment: str = "soft",
    gradient_clip_norm: float | None = None,
    **settings: Any,
) -> Case:
    """Of one global batch of 8 clips; decay and a smaller rate of the target are on."""
    train = TINY_TRAIN | {
        "micro_batch_clips": micro_batch_clips,
        "zero_stage": stage,
        "precision": precision,
        "optimizer": TINY_TRAIN["optimizer"]
        | {"target_lr_scale": 0.5, "gradient_clip_norm": gradient_clip_norm},
    }
    model = TINY_MODEL | {
        "assignment": assignment,
        "target": {"hidden_dims": (32,), "dim": 17},
        "prototypes": NUM_PROTOTYPES,
    }
    return Case(name, ModelConfig(**model), TrainConfig(**train), **settings)
