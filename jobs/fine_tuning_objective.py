"""Training through a pre-trained encoder, whatever is learned on top of it (protocols 2).

A task says what stands on the encoder and what its loss is; layer-wise learning rates, stochastic
depth, the canary and the order of draws are the same for all. Every draw belongs to a clip's place
in the epoch, so that a step is the same however it is cut into ranks and micro-batches.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.data_prep.clip_plan import ClipPlan
from sigma_pipeline.data_prep.config import ClipConfig
from sigma_pipeline.data_prep.draws import sample_seed
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.pool import Pool
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.encoders import EncoderSource, load_encoder
from sigma_pipeline.jobs.objective import Forward, Objective
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.encoder import Encoder
from sigma_pipeline.model.flops import encoder_step_flops
from sigma_pipeline.model.stochastic_depth import branch_scales, dropout_scales

if TYPE_CHECKING:  # imported when ``init_ranks`` has prepared it
    from deepspeed import DeepSpeedEngine


@dataclass(frozen=True, kw_only=True)
class FineTuning(ABC):
    """What all fine-tuning asks for, as plain data (``Learning``); a task adds its own."""

    source: EncoderSource
    """The encoder that it begins with."""
    seed: int
    """Of the head, the order of samples, and all that is drawn for a clip."""
    clip: ClipConfig
    num_frames: int
    """Of a clip."""
    positions: tuple[int, ...] | None = None
    """Samples of the split that are learned from; all where absent."""
    layer_decay: float = 0.75
    """Learning rate of a layer, over that of the next one; the head's is the full one."""
    drop_path: float = 0.1
    dropout: float = 0.0
    """Of what goes into the last layer, where a task has that."""

    @property
    def model(self) -> ModelConfig:
        """Of the encoder, with the stochastic depth of fine-tuning."""
        return self.source.model_config.model_copy(update={"drop_path": self.drop_path})

    @abstractmethod
    def objective(self) -> Objective:
        """See ``Learning``."""


class Examples(NamedTuple):
    """What the model is given of a micro-batch, on its device."""

    clip: Tensor
    """uint8 [batch, channels, frames, height, width]."""
    targets: Tensor
    """[batch, ...]: what is to be learned of each clip."""
    draws: "Draws | None" = None
    """None: evaluation."""


@dataclass(frozen=True)
class Draws:
    """What random draws for the clips of a micro-batch are keyed by."""

    seed: int
    epoch: int
    positions: Sequence[int]
    """[batch] places of the clips in the epoch."""

    def seeds(self, purpose: str) -> list[int]:
        """One for each clip; those of other purposes are others."""
        return [sample_seed(self.seed, self.epoch, place, purpose) for place in self.positions]


@dataclass(frozen=True)
class FineTuningOutput:
    """See ``LossOutput``."""

    loss: Tensor
    numbers: dict[str, Tensor] = field(default_factory=dict)


class FineTuningObjective(ABC):
    """Most of an ``Objective``; a task adds its model, its loss, and perhaps its targets."""

    def __init__(self, tuning: FineTuning) -> None:
        """Takes settings; the head's share of the work is not counted."""
        self.flops_per_clip = encoder_step_flops(tuning.model, tuning.num_frames)
        self._tuning = tuning
        self._model_config = tuning.model

    @abstractmethod
    def model_around(self, encoder: Encoder) -> nn.Module:
        """The model to be trained, which has ``encoder`` as its ``encoder``; the same each time."""

    @abstractmethod
    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """Mean over the clips of a micro-batch, in float32.

        Args:
            outputs: as ``outputs`` gives them; in bfloat16 under autocast.
            targets: [batch, ...].
        """

    def outputs(self, model: Callable[..., Any], examples: Examples) -> Any:
        """What ``model``, or an engine around it, says of clips."""
        return model(examples.clip, self.branch_scales(examples))

    def targets(self, batch: Batch) -> Tensor:
        """[batch, ...] what is learned of each clip: what the plan has said, or another form."""
        assert batch.targets is not None, "the plan of this task gives targets"
        return batch.targets

    def examples(self, batch: Batch, device: torch.device) -> Examples:
        """Clips and targets of a micro-batch, as they are trained on."""
        return Examples(
            batch.clip.to(device, non_blocking=True),
            self.targets(batch).to(device, non_blocking=True),
            self.draws(batch),
        )

    def draws(self, batch: Batch) -> Draws:
        """Keys of what is drawn for the clips of ``batch``, in its order."""
        return Draws(self._tuning.seed, batch.epoch, batch.positions.tolist())

    def branch_scales(self, examples: Examples) -> Tensor | None:
        """Of stochastic depth, on the device; None without it."""
        if examples.draws is None:
            return None
        scales = branch_scales(self._model_config, examples.draws.seeds("drop_path"))
        return None if scales is None else scales.to(examples.clip.device, non_blocking=True)

    def dropout_scales(self, examples: Examples) -> Tensor | None:
        """Of dropout before the last layer, on the device; None without it."""
        if examples.draws is None:
            return None
        dim = self._model_config.encoder.embed_dim
        scales = dropout_scales(dim, self._tuning.dropout, examples.draws.seeds("dropout"))
        return None if scales is None else scales.to(examples.clip.device, non_blocking=True)

    def check(self, context: RankContext) -> None:  # noqa: B027 - nothing to be looked for
        """See ``Objective``."""

    def samples(self, index: Index) -> Index:
        """See ``Objective``."""
        chosen = self._tuning.positions
        return index if chosen is None else index.part(chosen)

    def plan(self, pool: Pool) -> ClipPlan:
        """See ``Objective``."""
        tuning = self._tuning
        size = self._model_config.frame_size_px
        return ClipPlan(tuning.clip, tuning.num_frames, size, tuning.seed)

    def build(self, storage: Storage) -> nn.Module:
        """See ``Objective``."""
        return self.model_around(load_encoder(storage, self._tuning.source))

    def canary_model(self, trained: nn.Module | None) -> nn.Module:
        """See ``Objective``."""
        return self.model_around(Encoder(self._model_config))

    def lr_scale(self, name: str) -> float:
        """See ``Objective``: falls with the distance from the head (BEiT's layer decay)."""
        last = self._model_config.encoder.depth + 1
        return self._tuning.layer_decay ** (last - _layer(name, last))

    def forwards(
        self,
        engine: "DeepSpeedEngine",
        context: RankContext,
        batches: Sequence[Batch],
        meet: Callable[[], None],
    ) -> list[Forward]:
        """See ``Objective``.

        Raises:
            StageError: a sample could not be read, and another one stands in its place: scores on
                other data than was asked for are none.
        """
        for batch in batches:
            if batch.replaced:
                raise StageError(f"{batch.replaced[0].reason}; fine-tuning takes no other sample")
        return [partial(self._forward, engine, context.device, batch) for batch in batches]

    def after_update(self, engine: "DeepSpeedEngine") -> None:  # noqa: B027 - nor to be done
        """See ``Objective``."""

    def canary(self, batch: Batch) -> dict[str, Tensor]:
        """See ``Objective``: clips as they were cut, and their targets."""
        return {"clip": batch.clip, "targets": self.targets(batch)}

    def canary_loss(self, model: nn.Module, canary: Mapping[str, Tensor]) -> Tensor:
        """See ``Objective``."""
        examples = Examples(canary["clip"], canary["targets"])
        return self.loss(self.outputs(model, examples), examples.targets)

    def _forward(
        self, engine: "DeepSpeedEngine", device: torch.device, batch: Batch
    ) -> FineTuningOutput:
        examples = self.examples(batch, device)
        return FineTuningOutput(self.loss(self.outputs(engine, examples), examples.targets))


def labelled_positions(index: Index, positions: Sequence[int] | None) -> tuple[int, ...] | None:
    """Samples of a split that have a class; None where all have one.

    Args:
        index: of all the split, or of its samples at ``positions``.
        positions: in the whole split; None: all.
    """
    is_labelled = index.labels >= 0
    if positions is None and is_labelled.all():
        return None
    places = np.arange(len(index)) if positions is None else np.asarray(positions)
    return tuple(places[is_labelled].tolist())


def _layer(name: str, last: int) -> int:
    """0 for the embedding, 1 and on for the blocks, ``last`` for what stands on the encoder."""
    part, _, rest = name.removeprefix("encoder.").partition(".")
    if not name.startswith("encoder."):
        return last
    return int(rest.partition(".")[0]) + 1 if part == "blocks" else 0
