"""SIGMA's pre-training as an objective: masks, assignments over the global batch, prototypes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.data_prep.clip_plan import ClipPlan
from sigma_pipeline.data_prep.config import ClipConfig
from sigma_pipeline.data_prep.draws import sample_seed
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.pool import Pool
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.masters import own_parameters_fetched, renormalize_prototypes
from sigma_pipeline.jobs.objective import Forward
from sigma_pipeline.jobs.teacher_on_nodes import require_teacher
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.flops import step_flops
from sigma_pipeline.model.masking import tube_masks
from sigma_pipeline.model.scores import CosineScores, joined_scores
from sigma_pipeline.model.sigma import AssignFunction, Sigma, SigmaOutput, build_sigma
from sigma_pipeline.model.sinkhorn import Assignments, assign_both
from sigma_pipeline.model.stochastic_depth import branch_scales
from sigma_pipeline.model.teachers import TeacherTarget

if TYPE_CHECKING:  # imported when ``init_ranks`` has prepared it
    from deepspeed import DeepSpeedEngine


class _Inputs(NamedTuple):
    """What the model is given of a micro-batch."""

    clip: Tensor
    mask: Tensor
    branch_scales: Tensor | None
    """What stochastic depth does to each clip."""
    target_features: Tensor | None
    """Of a frozen teacher, where they are known before the forward pass."""


class SigmaObjective:
    """Predicting each other's assignments (protocols 1.3); see ``Objective``."""

    def __init__(
        self,
        model: ModelConfig,
        seed: int,
        *,
        clip: ClipConfig | None = None,
        target_lr_scale: float = 1.0,
        teacher_sha256: str | None = None,
    ) -> None:
        """Takes settings.

        Args:
            model: of the run.
            seed: of weights, clips, masks and stochastic depth.
            clip: how clips are cut.
            target_lr_scale: of the target branch and the prototypes.
            teacher_sha256: of the frozen teacher where the job was launched.
        """
        self.flops_per_clip = step_flops(model, 1)
        self._model = model
        self._seed = seed
        self._clip = clip or ClipConfig()
        self._target_lr_scale = target_lr_scale
        self._teacher_sha256 = teacher_sha256

    def check(self, context: RankContext) -> None:
        """See ``Objective``: a frozen teacher, on every node."""
        require_teacher(self._model.target, self._teacher_sha256, context)

    def samples(self, index: Index) -> Index:
        """See ``Objective``: all."""
        return index

    def plan(self, pool: Pool) -> ClipPlan:
        """See ``Objective``."""
        return ClipPlan(self._clip, self._model.num_frames, self._model.frame_size_px, self._seed)

    def build(self, storage: Storage) -> Sigma:
        """See ``Objective``: untrained."""
        return build_sigma(self._model, self._seed)

    def canary_model(self, trained: nn.Module | None) -> Sigma:
        """See ``Objective``: a frozen teacher is read once, and shared."""
        model = build_sigma(self._model, self._seed)
        if (
            isinstance(trained, Sigma)
            and isinstance(trained.head, TeacherTarget)
            and isinstance(model.head, TeacherTarget)
        ):
            model.head.teacher = trained.head.teacher
        return model

    def lr_scale(self, name: str) -> float:
        """See ``Objective``."""
        is_target = name.startswith("head.") or name == "prototypes"
        return self._target_lr_scale if is_target else 1.0

    def forwards(
        self,
        engine: "DeepSpeedEngine",
        context: RankContext,
        batches: Sequence[Batch],
        meet: Callable[[], None],
    ) -> list[Forward]:
        """See ``Objective``: where a step has several micro-batches, all are assigned together."""
        step = _SigmaStep(self._model, self._seed, engine, context, meet)
        return step.forwards(batches)

    def after_update(self, engine: "DeepSpeedEngine") -> None:
        """See ``Objective``: prototypes go back to the unit sphere."""
        if self._model.objective == "sigma":
            renormalize_prototypes(engine)

    def canary(self, batch: Batch) -> dict[str, Tensor]:
        """See ``Objective``: clips with their masks, True: hidden."""
        return {"clip": batch.clip, "mask": batch_masks(batch, self._model, self._seed)}

    def canary_loss(self, model: nn.Module, canary: Mapping[str, Tensor]) -> Tensor:
        """See ``Objective``: with Sinkhorn over the canary alone."""
        output: SigmaOutput = model(canary["clip"], canary["mask"].cpu())
        return output.loss


class _SigmaStep:
    """The forward passes of one step."""

    def __init__(
        self,
        model: ModelConfig,
        seed: int,
        engine: "DeepSpeedEngine",
        context: RankContext,
        meet: Callable[[], None],
    ) -> None:
        self._model = model
        self._seed = seed
        self._engine = engine
        self._context = context
        self._meet = meet

    def forwards(self, batches: Sequence[Batch]) -> list[Forward]:
        """Of each micro-batch, to be called in order."""
        is_scored_first = self._is_scored_first(len(batches))
        inputs = [self._inputs(batch, keep_target=is_scored_first) for batch in batches]
        assign_functions = (
            self._known_assignments(inputs)
            if is_scored_first
            else [self._assign_over_ranks] * len(inputs)
        )
        return [
            partial(
                self._engine,
                each.clip,
                each.mask,
                assign,
                each.branch_scales,
                each.target_features,
            )
            for each, assign in zip(inputs, assign_functions, strict=True)
        ]

    def _is_scored_first(self, num_batches: int) -> bool:
        """Whether the micro-batches are assigned all together, before any is trained on."""
        is_whole = self._model.sinkhorn.scope == "global_batch"
        return self._model.objective == "sigma" and is_whole and num_batches > 1

    def _inputs(self, batch: Batch, *, keep_target: bool) -> _Inputs:
        """Clips on the device, masks beside them, and the draws of stochastic depth.

        With ``keep_target`` a frozen teacher runs here, and no more in this step. What it gives is
        kept until the step ends: micro-batches x clips x hidden tokens x width x 4 bytes.
        """
        device = self._context.device
        clip = batch.clip.to(device, non_blocking=True)
        mask = batch_masks(batch, self._model, self._seed)
        scales = batch_scales(batch, self._model, self._seed)
        if scales is not None:
            scales = scales.to(device, non_blocking=True)
        features = None
        if keep_target:
            with self._autocast():
                features = self._engine.module.frozen_features(clip, mask)
        return _Inputs(clip, mask, scales, features)

    def _known_assignments(self, inputs: Sequence[_Inputs]) -> list[AssignFunction]:
        """Of each micro-batch its part of the assignments over all of them, of all ranks."""
        scored = [self._scores(each) for each in inputs]
        sizes = [target.shape[0] for target, _ in scored]
        whole = self._assign_over_ranks(
            joined_scores([target for target, _ in scored]),
            joined_scores([prediction for _, prediction in scored]),
        )
        parts = zip(
            torch.split(whole.target, sizes), torch.split(whole.prediction, sizes), strict=True
        )
        return [_known(Assignments(*part, whole.numbers)) for part in parts]

    def _assign_over_ranks(self, target: CosineScores, prediction: CosineScores) -> Assignments:
        self._meet()
        return assign_both(target, prediction, self._model, self._context.sum_on_device)

    def _scores(self, inputs: _Inputs) -> tuple[CosineScores, CosineScores]:
        """Scores as the forward pass of the engine will compute them."""
        module = self._engine.module
        with self._autocast(), own_parameters_fetched(module):
            scores: tuple[CosineScores, CosineScores] = module.scores(*inputs)
        return scores

    def _autocast(self) -> torch.autocast:
        """As in the forward pass of the engine."""
        is_enabled = self._engine.torch_autocast_enabled()
        return torch.autocast(self._context.device.type, torch.bfloat16, is_enabled)


def batch_masks(batch: Batch, model: ModelConfig, seed: int) -> Tensor:
    """Masks of a batch's clips, drawn from seed, epoch and position alone; True: hidden."""
    return tube_masks(model, _seeds(batch, seed, "mask"))


def batch_scales(batch: Batch, model: ModelConfig, seed: int) -> Tensor | None:
    """What stochastic depth does to a batch's clips; drawn like masks. None where there is none."""
    return branch_scales(model, _seeds(batch, seed, "drop_path"))


def _seeds(batch: Batch, seed: int, purpose: str) -> list[int]:
    places = batch.positions.tolist()
    return [sample_seed(seed, batch.epoch, place, purpose) for place in places]


def _known(assignments: Assignments) -> AssignFunction:
    return lambda _target, _prediction: assignments
