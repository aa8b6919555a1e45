"""The canary: one fixed small batch whose loss tells whether weights came back as they were.

It is stored when a run begins. Each commit records the loss on it, and whoever resumes computes it
again before the first step. Weights that were mixed up, half read, or meant for another model show
up here instead of as a run that silently starts from scratch.
"""

from collections.abc import Mapping

import safetensors.torch
import torch
from torch import Tensor, nn

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commits import Commit, train_folder
from sigma_pipeline.jobs.objective import Objective
from sigma_pipeline.model.weights import restore_weights

CANARY_CLIPS = 8
TOLERANCE = 1e-3
"""Relative. Other devices and thread counts move the loss by about 1e-6; a hard assignment that
was nearly a tie may fall the other way and moves it by about 1e-4. Wrong weights move it by far
more."""
_LEAST_SCALE = 1e-2
"""Of losses that differences are compared with. A model that has learned a few samples by heart has
a loss near 0, which is a difference of larger numbers: rounding then moves it by its own size."""

Canary = Mapping[str, Tensor]
"""The fixed batch, as the objective wants it; [batch, ...] each."""


def store_canary(storage: Storage, run_name: str, canary: Canary) -> None:
    """Keeps the first clips of a batch for the run, unless it has a canary already."""
    tensors = {name: values[:CANARY_CLIPS].contiguous() for name, values in canary.items()}
    storage.write_if_absent(_key(run_name), safetensors.torch.save(tensors))


def load_canary(storage: Storage, run_name: str) -> Canary:
    """The run's canary."""
    return safetensors.torch.load(storage.read(_key(run_name)))


class CanaryModel:
    """A model on the CPU for weights that are not those of any engine."""

    def __init__(
        self, objective: Objective, canary: Canary, trained: nn.Module | None = None
    ) -> None:
        """``trained``: see ``Objective.canary_model``."""
        self._objective = objective
        self._model = objective.canary_model(trained)
        self._canary = canary

    def loss_of(self, weights: Mapping[str, Tensor]) -> float:
        """See ``canary_loss``.

        Args:
            weights: on the CPU, in float32; they become the model's own, so nothing is copied.
        """
        restore_weights(self._model, weights, assign=True)
        return canary_loss(self._objective, self._model, self._canary)


@torch.no_grad()
def canary_loss(objective: Objective, model: nn.Module, canary: Canary) -> float:
    """Loss in float32 and evaluation mode, of the canary alone."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        with torch.autocast(device.type, enabled=False):
            on_device = {name: values.to(device) for name, values in canary.items()}
            return float(objective.canary_loss(model, on_device))
    finally:
        model.train(was_training)


def check_canary(objective: Objective, model: nn.Module, canary: Canary, commit: Commit) -> None:
    """Compares the loss with the one that the commit recorded.

    Raises:
        StageError: they differ by more than ``TOLERANCE``, of which losses near 0 have more.
    """
    loss = canary_loss(objective, model, canary)
    allowed = TOLERANCE * max(abs(commit.canary_loss), _LEAST_SCALE)
    if not abs(loss - commit.canary_loss) <= allowed:
        raise StageError(
            f"the weights of {commit.prefix} give a canary loss of {loss:.6g}, but "
            f"{commit.canary_loss:.6g} was recorded with them (allowed: {allowed:.2g} apart); "
            "the commit or this version of the code is not what it was, so training stops here"
        )


def _key(run_name: str) -> str:
    return f"{train_folder(run_name)}/canary.safetensors"
