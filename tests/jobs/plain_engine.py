"""What ``TrainStep`` asks of a DeepSpeed engine, in plain PyTorch: the reference of all stages."""

from copy import deepcopy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sigma_pipeline.jobs.checkpoints import MOMENTS
from sigma_pipeline.jobs.config import TrainConfig
from sigma_pipeline.jobs.optimizer import build_adamw
from sigma_pipeline.model.loss import normalize_prototypes
from sigma_pipeline.model.scores import CosineScores
from sigma_pipeline.model.sigma import Sigma
from sigma_pipeline.model.sinkhorn import Assignments


class PlainEngine:
    """AdamW on masters of the model's own type; every rank has all of everything."""

    def __init__(self, model: Sigma, train: TrainConfig, accumulation_steps: int) -> None:
        self.masters = deepcopy(model)
        self.optimizer = build_adamw(self.masters, train.optimizer)
        self.module = model.to(torch.bfloat16) if train.precision == "bf16" else model
        self.skipped_steps = 0
        self.assigned: list[Tensor] = []
        """Of the last step: of each micro-batch, targets of both branches."""
        self._is_autocast = train.precision == "bf16_autocast"
        self._accumulation_steps = accumulation_steps
        self._clip_norm = train.optimizer.gradient_clip_norm
        self._num_batches = 0
        self.gradients: dict[str, Tensor] = {}
        self._norm = 0.0

    def torch_autocast_enabled(self) -> bool:
        """Whether forward passes are autocast."""
        return self._is_autocast

    def get_global_grad_norm(self) -> float:
        """Of the last step."""
        return self._norm

    def __call__(self, clip: Tensor, mask: Tensor, assign: Any, *others: Any) -> Any:
        """Forward pass of a micro-batch."""

        def noted(target: CosineScores, prediction: CosineScores) -> Assignments:
            assigned: Assignments = assign(target, prediction)
            self.assigned += [assigned.target, assigned.prediction]
            return assigned

        with torch.autocast("cpu", torch.bfloat16, enabled=self._is_autocast):
            return self.module(clip, mask, noted, *others)

    def backward(self, loss: Tensor) -> None:
        """Adds the gradient of a micro-batch, averaged over ranks, to that of the masters."""
        loss.backward()
        for master, copy in zip(self.masters.parameters(), self.module.parameters(), strict=True):
            gradient = copy.grad.to(master.dtype) / self._accumulation_steps
            dist.all_reduce(gradient)
            gradient /= dist.get_world_size()
            master.grad = gradient if master.grad is None else master.grad + gradient
            copy.grad = None

    def step(self) -> None:
        """Updates after the last micro-batch."""
        self._num_batches += 1
        if self._num_batches % self._accumulation_steps:
            return
        limit = self._clip_norm or torch.inf
        self._norm = float(torch.nn.utils.clip_grad_norm_(self.masters.parameters(), limit))
        self.gradients = {name: p.grad for name, p in self.masters.named_parameters()}
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.copy_masters()

    @torch.no_grad()
    def copy_masters(self) -> None:
        """To what the module computes with."""
        for master, copy in zip(self.masters.parameters(), self.module.parameters(), strict=True):
            copy.copy_(master)

    @torch.no_grad()
    def renormalize(self) -> None:
        """Stands for ``renormalize_prototypes`` of the engine."""
        self.masters.prototypes.copy_(normalize_prototypes(self.masters.prototypes))
        self.copy_masters()

    def state(self) -> dict[str, Tensor]:
        """Masters, and what AdamW keeps of each, by the names of a commit."""
        state = {name: master.detach() for name, master in self.masters.named_parameters()}
        for name, master in self.masters.named_parameters():
            for moment in MOMENTS:
                state[f"{moment}/{name}"] = self.optimizer.state[master][moment]
        return state
