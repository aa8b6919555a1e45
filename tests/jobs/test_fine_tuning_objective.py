"""What all tasks of fine-tuning leave out at random while they train, and nowhere else."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.data_prep.config import ClipConfig
from sigma_pipeline.data_prep.mixing import Mixing
from sigma_pipeline.jobs.benchmarks.box_training import BoxTuning
from sigma_pipeline.jobs.benchmarks.cycle_anchors import ANCHORS
from sigma_pipeline.jobs.benchmarks.cycle_clips import Guesses
from sigma_pipeline.jobs.benchmarks.cycle_training import CycleTuning
from sigma_pipeline.jobs.benchmarks.cycles import Context
from sigma_pipeline.jobs.benchmarks.multilabel_training import MultilabelTuning
from sigma_pipeline.jobs.class_objective import ClassTuning
from sigma_pipeline.jobs.encoders import EncoderSource
from sigma_pipeline.jobs.fine_tuning_objective import FineTuning, FineTuningObjective
from sigma_pipeline.model.config import ModelConfig
from tests.tiny import TINY_MODEL

CPU = torch.device("cpu")
MODEL = ModelConfig.model_validate(TINY_MODEL)
CLIPS, CLASSES = 4, 3
MakeTuning = Callable[..., FineTuning]
NO_MIXING = Mixing(mixup_alpha=0, cutmix_alpha=0)
BOX = torch.tensor([0.1, 0.1, 0.7, 0.9, *[1.0] * CLASSES, 1.0])
TASKS: dict[str, tuple[MakeTuning, dict[str, Any], torch.Tensor | None, int]] = {
    "class": (
        ClassTuning,
        {"num_classes": CLASSES, "global_batch_clips": CLIPS, "mixing": NO_MIXING},
        None,
        1,
    ),
    "box": (
        BoxTuning,
        {"num_classes": CLASSES, "max_boxes": 1, "min_score": None, "slices": "mean"},
        BOX.expand(CLIPS, 1, -1),
        1,
    ),
    "multilabel": (MultilabelTuning, {"num_classes": CLASSES}, torch.ones(CLIPS, CLASSES), 1),
    "cycle": (
        CycleTuning,
        {"context": Context(), "guesses": Guesses(), "box_weight": 1.0},
        torch.ones(CLIPS, 2, 2, len(ANCHORS)),
        2,
    ),
}
"""Class and settings of each, what is to be learned of a batch, and halves of a clip."""


def losses(task: str, **left_out: float) -> tuple[float, float]:
    """Of a step, and of the canary, with weights that do not depend on ``left_out``."""
    make, settings, targets, halves = TASKS[task]
    tuning = make(
        source=EncoderSource("step-00000000", 0, "w", "0", MODEL.model_dump(mode="json")),
        seed=1,
        clip=ClipConfig(),
        num_frames=MODEL.num_frames,
        **{"drop_path": 0.0, **settings, **left_out},
    )
    objective: Any = tuning.objective()
    assert isinstance(objective, FineTuningObjective)
    draws = torch.Generator().manual_seed(3)
    model = objective.canary_model(None).train()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=draws)
    size = (CLIPS, 3, halves * MODEL.num_frames, 32, 32)
    clip = torch.randint(0, 256, size, dtype=torch.uint8, generator=draws)
    places = torch.arange(CLIPS)
    batch = Batch(clip, 0, places, places, places % CLASSES, targets=targets)
    engine: Any = model
    loss = objective._forward(engine, CPU, batch).loss
    canary = objective.canary_loss(model.eval(), objective.canary(batch))
    return loss.item(), canary.item()


@pytest.mark.parametrize("task", TASKS)
def test_branches_are_left_out_of_steps_and_not_of_the_canary(task: str) -> None:
    plain, with_depth = losses(task), losses(task, drop_path=0.9)

    assert with_depth[0] != pytest.approx(plain[0], rel=1e-3)
    assert plain[0] == pytest.approx(plain[1], rel=1e-5)
    assert with_depth[1] == plain[1]


@pytest.mark.parametrize("task", sorted(TASKS.keys() - {"cycle"}))  # published without
def test_features_are_left_out_of_steps_and_not_of_the_canary(task: str) -> None:
    plain, with_dropout = losses(task), losses(task, dropout=0.9)

    assert with_dropout[0] != pytest.approx(plain[0], rel=1e-3)
    assert with_dropout[1] == plain[1]
