"""The canary: one fixed small batch whose loss tells whether weights came back as they were.

It is stored when a run begins. Each commit records the loss on it, and whoever resumes computes it
again before the first step. Weights that were mixed up, half read, or meant for another model show
up here instead of as a run that silently starts from scratch.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import safetensors.torch
import torch
from torch import Tensor

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commits import Commit, train_folder
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.sigma import Sigma, build_sigma
from sigma_pipeline.model.teachers import TeacherTarget
from sigma_pipeline.model.weights import restore_weights

CANARY_CLIPS = 8
TOLERANCE = 1e-3
"""Relative. Other devices and thread counts move the loss by about 1e-6; a hard assignment that
was nearly a tie may fall the other way and moves it by about 1e-4. Wrong weights move it by far
more."""


@dataclass(frozen=True)
class Canary:
    """The fixed batch."""

    clip: Tensor
    """uint8 [batch, channels, frames, height, width]."""
    mask: Tensor
    """bool [batch, patches], True: hidden."""


def store_canary(storage: Storage, run_name: str, clip: Tensor, mask: Tensor) -> None:
    """Keeps the first clips of a batch for the run, unless it has a canary already."""
    tensors = {"clip": clip[:CANARY_CLIPS].contiguous(), "mask": mask[:CANARY_CLIPS].contiguous()}
    storage.write_if_absent(_key(run_name), safetensors.torch.save(tensors))


def load_canary(storage: Storage, run_name: str) -> Canary:
    """The run's canary."""
    tensors = safetensors.torch.load(storage.read(_key(run_name)))
    return Canary(clip=tensors["clip"], mask=tensors["mask"])


class CanaryModel:
    """A model on the CPU for weights that are not those of any engine."""

    def __init__(self, config: ModelConfig, seed: int, canary: Canary) -> None:
        self._model = build_sigma(config, seed)
        self._canary = canary

    def share_teacher(self, model: Sigma) -> None:
        """Takes a frozen teacher that lies on the CPU already; else its own is read once more."""
        if isinstance(self._model.head, TeacherTarget) and isinstance(model.head, TeacherTarget):
            self._model.head.teacher = model.head.teacher

    def loss_of(self, weights: Mapping[str, Tensor]) -> float:
        """See ``canary_loss``.

        Args:
            weights: on the CPU, in float32; they become the model's own, so nothing is copied.
        """
        restore_weights(self._model, weights, assign=True)
        return canary_loss(self._model, self._canary)


@torch.no_grad()
def canary_loss(model: Sigma, canary: Canary) -> float:
    """Loss in float32 and evaluation mode, with Sinkhorn over the canary alone."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        with torch.autocast(device.type, enabled=False):
            return float(model(canary.clip.to(device), canary.mask).loss)
    finally:
        model.train(was_training)


def check_canary(model: Sigma, canary: Canary, commit: Commit) -> None:
    """Compares the loss with the one that the commit recorded.

    Raises:
        StageError: they differ by more than ``TOLERANCE``.
    """
    loss = canary_loss(model, canary)
    if not abs(loss - commit.canary_loss) <= TOLERANCE * abs(commit.canary_loss):
        raise StageError(
            f"the weights of {commit.prefix} give a canary loss of {loss:.6f}, but "
            f"{commit.canary_loss:.6f} was recorded with them (allowed: {TOLERANCE:g} relative); "
            "the commit or this version of the code is not what it was, so training stops here"
        )


def _key(run_name: str) -> str:
    return f"{train_folder(run_name)}/canary.safetensors"
