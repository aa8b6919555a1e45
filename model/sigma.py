"""SIGMA: clips in, loss and named numbers out.

Two branches describe the hidden tubelets of a clip: the target branch, which sees them, and the
prediction branch, which sees the visible ones. Features of both are assigned to learned
prototypes, all prototypes equally often, and each branch is trained to predict the other's
assignment. (Salehi et al., "SIGMA: Sinkhorn-Guided Masked Video Modeling", ECCV 2024.)
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.decoder import Decoder
from sigma_pipeline.model.encoder import Encoder
from sigma_pipeline.model.health import assignment_health, feature_health
from sigma_pipeline.model.loss import assignment_loss, normalize_prototypes
from sigma_pipeline.model.masking import split_tokens
from sigma_pipeline.model.patches import cut_tubelets
from sigma_pipeline.model.products import Linear
from sigma_pipeline.model.scores import CosineScores, cosine_scores
from sigma_pipeline.model.sinkhorn import Assignments, assign_both
from sigma_pipeline.model.targets import MlpTarget, PixelTarget, build_target
from sigma_pipeline.model.teachers import TeacherTarget

AssignFunction = Callable[[CosineScores, CosineScores], Assignments]
"""From the scores of the target and of the prediction branch to their assignments."""


class SigmaOutput(NamedTuple):
    """Result of one micro-batch; a plain tuple to those who walk through outputs for tensors."""

    loss: Tensor
    """Scalar with gradient."""
    numbers: dict[str, Tensor]
    """Detached scalars: terms of the loss, and the health of the assignments."""


class Sigma(nn.Module):
    """Encoder, decoder, target branch and prototypes, named as in the published checkpoints.

    A frozen teacher is no part of its parameters or its state, and is read at the first forward.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.head = build_target(config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config, self.head.out_dim)
        dim = config.decoder.embed_dim
        self.encoder_to_decoder = Linear(config.encoder.embed_dim, dim, bias=False)
        self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, dim), std=0.02))
        if config.execution.compile:
            for block in (*self.encoder.blocks, *self.decoder.blocks):
                block.compile()
        if config.objective == "sigma":
            drawn = torch.randn(config.prototypes, self.head.out_dim)
            self.prototypes = nn.Parameter(normalize_prototypes(drawn))

    @property
    def target(self) -> MlpTarget | PixelTarget | TeacherTarget:
        """The target branch; its parameters are called ``head`` in the published checkpoints."""
        return self.head

    def forward(
        self,
        clip: UInt8[Tensor, "batch channels frames height width"],
        mask: Bool[Tensor, "batch patches"],
        assign: AssignFunction | None = None,
        branch_scales: Float[Tensor, "batch blocks halves"] | None = None,
        target_features: Float[Tensor, "batch hidden out_dim"] | None = None,
    ) -> SigmaOutput:
        """Loss of one micro-batch.

        Args:
            clip: RGB in [0, 255].
            mask: True: hidden, in every slice of the clip.
            assign: gets the detached scores of both branches, of the hidden tokens of the
                micro-batch, and returns both assignments; by default each branch is balanced over
                this micro-batch alone. Not used by the ``l2`` objective.
            branch_scales: of stochastic depth, which asks for them in training.
            target_features: of a frozen teacher, where ``frozen_features`` has given them before.

        Raises:
            ValueError: clips or masks are not those of ``config``, or there are no branch scales.
        """
        if self.training and self.config.drop_path > 0 and branch_scales is None:
            raise ValueError(f"drop_path={self.config.drop_path} needs branch_scales in training")
        target, prediction = self._features(clip, mask, branch_scales, target_features)
        numbers = feature_health(target, prediction)
        if self.config.objective == "l2":
            loss = F.mse_loss(prediction.to(target.dtype), target)
            return SigmaOutput(loss, {"loss_prediction": loss.detach(), **numbers})

        target_scores = cosine_scores(target, self.prototypes)
        # Prototypes are the target branch's: through the decoder they would drift to be easy.
        prediction_scores = cosine_scores(prediction, self.prototypes.detach())
        assign = assign or self._assign_alone
        targets = assign(target_scores.detach(), prediction_scores.detach())
        scores = target_scores, prediction_scores
        return self._symmetric_loss(scores, targets, numbers, (target.dtype, prediction.dtype))

    @torch.no_grad()
    def frozen_features(
        self,
        clip: UInt8[Tensor, "batch channels frames height width"],
        mask: Bool[Tensor, "batch patches"],
    ) -> Float[Tensor, "batch hidden out_dim"] | None:
        """What a frozen teacher makes of the hidden tokens; None from every other target branch.

        Saves its second run on clips that are scored first and trained on afterwards.

        Raises:
            ValueError: clips or masks are not those of ``config``, or the teacher is not there.
        """
        if not isinstance(self.head, TeacherTarget):
            return None
        self._check(clip, mask)
        _, hidden = split_tokens(self.config, mask)
        features: Tensor = self.head(self._tubelets(clip), hidden.to(clip.device))
        return features

    @torch.no_grad()
    def scores(
        self,
        clip: UInt8[Tensor, "batch channels frames height width"],
        mask: Bool[Tensor, "batch patches"],
        branch_scales: Float[Tensor, "batch blocks halves"] | None = None,
        target_features: Float[Tensor, "batch hidden out_dim"] | None = None,
    ) -> tuple[CosineScores, CosineScores]:
        """Scores of the target and of the prediction branch, as ``assign`` gets them.

        Lets a batch that is trained in micro-batches be assigned as a whole before. Takes what
        ``forward`` takes.

        Raises:
            ValueError: the objective has no prototypes.
        """
        if self.config.objective != "sigma":
            raise ValueError(f"objective={self.config.objective} has no prototypes to score")
        target, prediction = self._features(clip, mask, branch_scales, target_features)
        # Detached: what a parameter holds now, also when ZeRO 3 has taken it away again.
        prototypes = self.prototypes.detach()
        return cosine_scores(target, prototypes), cosine_scores(prediction, prototypes)

    def _features(
        self, clip: Tensor, mask: Tensor, scales: Tensor | None, target: Tensor | None
    ) -> tuple[Float[Tensor, "tokens out_dim"], Float[Tensor, "tokens out_dim"]]:
        """Features of the hidden tokens of all clips: target branch, prediction branch."""
        self._check(clip, mask)
        visible, hidden = (index.to(clip.device) for index in split_tokens(self.config, mask))
        tubelets = self._tubelets(clip)
        seen = self.encoder_to_decoder(self.encoder(tubelets, visible, scales))
        prediction = self.decoder(seen, self.mask_token, visible, hidden)
        if target is None:
            target = self.head(tubelets, hidden)
        return target.flatten(0, 1), prediction.flatten(0, 1)

    def _tubelets(self, clip: Tensor) -> UInt8[Tensor, "batch tokens channels voxels"]:
        return cut_tubelets(clip, self.config.tubelet_frames, self.config.patch_size_px)

    def _check(self, clip: Tensor, mask: Tensor) -> None:
        """Shapes that do not fit could go on unnoticed until some tensor is too small."""
        config = self.config
        of_clip = (3, config.num_frames, config.frame_size_px, config.frame_size_px)
        if tuple(clip.shape[1:]) != of_clip or clip.dtype != torch.uint8:
            raise ValueError(
                f"clips are {clip.dtype} {list(clip.shape[1:])} (channels, frames, height, width); "
                f"this model takes torch.uint8 {list(of_clip)}"
            )
        if tuple(mask.shape) != (len(clip), config.num_patches):
            raise ValueError(
                f"masks are {list(mask.shape)}; {len(clip)} clips of {config.num_patches} patches "
                f"per frame need {[len(clip), config.num_patches]}"
            )

    def _assign_alone(self, target: CosineScores, prediction: CosineScores) -> Assignments:
        return assign_both(target, prediction, self.config)

    def _symmetric_loss(
        self,
        scores: tuple[CosineScores, CosineScores],
        targets: Assignments,
        numbers: dict[str, Tensor],
        dtypes: tuple[torch.dtype, torch.dtype],
    ) -> SigmaOutput:
        """Cross-entropy of each branch's scores with the other branch's assignments.

        ``dtypes`` are those in which the branches gave their features.
        """
        temperature = self.config.temperature
        loss_target = assignment_loss(scores[0], targets.prediction, temperature, dtypes[0])
        loss_prediction = assignment_loss(scores[1], targets.target, temperature, dtypes[1])
        health = assignment_health(
            targets.target, targets.prediction, num_prototypes=self.config.prototypes
        )
        numbers = {
            "loss_target": loss_target.detach(),
            "loss_prediction": loss_prediction.detach(),
            **health,
            **targets.numbers,
            **numbers,
        }
        return SigmaOutput(loss_target + loss_prediction, numbers)


def build_sigma(config: ModelConfig, seed: int) -> Sigma:
    """Untrained model on the CPU, a pure function of its arguments.

    The global random state is neither read nor changed.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        return Sigma(config)


def num_parameters(module: nn.Module) -> int:
    """Trained numbers of a module; tables of positions are not among them."""
    return sum(parameter.numel() for parameter in module.parameters())
