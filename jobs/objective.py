"""What a training run learns: its model, its loss, and how its clips are cut.

Pre-training and fine-tuning differ in this alone. Trainer, loader, commits, canary and resuming are
the same for all.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from torch import Tensor, nn

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.data_prep.clip_plan import ClipPlan
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.pool import Pool
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.distributed import RankContext

if TYPE_CHECKING:  # imported when ``init_ranks`` has prepared it
    from deepspeed import DeepSpeedEngine


class LossOutput(Protocol):
    """What a forward pass over one micro-batch gives."""

    @property
    def loss(self) -> Tensor:
        """Scalar with gradient; the mean over the clips of the micro-batch."""
        ...

    @property
    def numbers(self) -> dict[str, Tensor]:
        """Detached scalars, for curves."""
        ...


Forward = Callable[[], LossOutput]


class Objective(Protocol):
    """What is learned. All of it follows from settings and data, never from the rank."""

    flops_per_clip: int
    """Of a step, forward and backward."""

    def check(self, context: RankContext) -> None:
        """Makes sure, before anything is built, that what is needed is there. A collective.

        Raises:
            StageError: it is not, on every rank.
        """
        ...

    def samples(self, index: Index) -> Index:
        """What of a split is trained on."""
        ...

    def plan(self, pool: Pool) -> ClipPlan:
        """How clips are cut from the samples of ``pool``, and what their targets are."""
        ...

    def build(self, storage: Storage) -> nn.Module:
        """The model on the CPU, as training begins; a pure function.

        Raises:
            MissingInputError: the weights it begins with were deleted.
            StageError: they are damaged.
        """
        ...

    def canary_model(self, trained: nn.Module | None) -> nn.Module:
        """A model of the same shape on the CPU, for weights that are not those of any engine.

        Args:
            trained: a model on the CPU with frozen parts to be shared, if there is one.
        """
        ...

    def lr_scale(self, name: str) -> float:
        """Learning rate of a parameter, relative to the step's."""
        ...

    def forwards(
        self,
        engine: "DeepSpeedEngine",
        context: RankContext,
        batches: Sequence[Batch],
        meet: Callable[[], None],
    ) -> Sequence[Forward]:
        """The forward passes of a step, one for each micro-batch, to be called in order.

        Args:
            engine: around the model.
            context: of this rank.
            batches: this rank's micro-batches of one global batch.
            meet: to be called before this rank first waits for others.
        """
        ...

    def after_update(self, engine: "DeepSpeedEngine") -> None:
        """Called when the weights have changed."""
        ...

    def canary(self, batch: Batch) -> dict[str, Tensor]:
        """What is kept of a run's first batch, for ``canary_loss``."""
        ...

    def canary_loss(self, model: nn.Module, canary: Mapping[str, Tensor]) -> Tensor:
        """Loss on the canary; ``model`` is in evaluation mode, and autocast is off."""
        ...


class Learning(Protocol):
    """An objective as it is asked for: plain data that can be pickled, without PyTorch."""

    def objective(self) -> Objective:
        """Imports what it needs."""
        ...
