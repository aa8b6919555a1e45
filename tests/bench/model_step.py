"""Optimizer steps to be timed: ours, and the plain reference's."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from sigma_pipeline.jobs.config import OptimizerConfig
from sigma_pipeline.jobs.optimizer import build_adamw
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.loss import assignment_loss
from sigma_pipeline.model.masking import split_tokens, tube_masks
from sigma_pipeline.model.patches import cut_tubelets, pick_tokens
from sigma_pipeline.model.scores import cosine_scores
from sigma_pipeline.model.sigma import build_sigma
from sigma_pipeline.model.sinkhorn import assign_both
from tests.bench.model_reference import Parts, Reference

CONFIG = ModelConfig.model_validate(
    {"encoder": "vit_s", "prototypes": 3000, "sinkhorn": {"epsilon": 0.03, "iterations": 10}}
)
RATE = 1e-4

Precision = Literal["fp32", "bf16"]


class Case(NamedTuple):
    """One thing to measure."""

    who: Literal["ours", "parts", "reference", "kept"]
    """``parts`` is ours, cut into parts that can be timed; ``kept`` the reference in a process
    that keeps freed memory, as ours does."""
    precision: Precision
    batch: int

    @classmethod
    def named(cls, who: str, precision: str, batch: int) -> "Case":
        """A case whose names come from a command line."""
        checked: Any = (who, precision, batch)
        return cls(*checked)


class Step:
    """Takes optimizer steps on one batch of noise."""

    def __init__(self, case: Case) -> None:
        self.case = case
        draws = torch.Generator().manual_seed(0)
        shape = (case.batch, 3, CONFIG.num_frames, CONFIG.frame_size_px, CONFIG.frame_size_px)
        self.clip = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draws)
        self.mask = tube_masks(CONFIG, range(case.batch))
        self.model = build_sigma(CONFIG, seed=0)
        is_ours = case.who in ("ours", "parts")
        losses = {"ours": self._ours, "parts": self._ours_by_part}
        self.loss: Callable[[Parts], Tensor] = losses.get(case.who, self._reference)
        self.optimizer: torch.optim.Optimizer = (
            build_adamw(self.model, OptimizerConfig())
            if is_ours
            else torch.optim.AdamW(self.model.parameters(), betas=(0.9, 0.95), weight_decay=0.05)
        )
        for group in self.optimizer.param_groups:
            group["lr"] = RATE

    def __call__(self) -> tuple[float, float, Parts]:
        """Seconds of one step, its loss, and the seconds of the parts."""
        parts = Parts()
        started_s = time.perf_counter()
        with self._autocast():
            loss = self.loss(parts)
        with parts("backward"):
            loss.backward()
        with parts("optimizer"):
            self.optimizer.step()
            self.optimizer.zero_grad()
        return time.perf_counter() - started_s, float(loss.detach()), parts

    def _autocast(self) -> AbstractContextManager[None]:
        is_half = self.case.precision == "bf16"
        return torch.autocast("cpu", torch.bfloat16, enabled=is_half)

    def _reference(self, parts: Parts) -> Tensor:
        return Reference(self.model).loss(self.clip, self.mask, parts)

    def _ours(self, parts: Parts) -> Tensor:
        loss: Tensor = self.model(self.clip, self.mask).loss
        return loss

    def _ours_by_part(self, parts: Parts) -> Tensor:
        """What ``Sigma.forward`` does but for the health numbers, part by part."""
        model = self.model
        with parts("embedding"):
            visible, hidden = split_tokens(CONFIG, self.mask)
            tubelets = cut_tubelets(self.clip, CONFIG.tubelet_frames, CONFIG.patch_size_px)
            with torch.no_grad():
                model.encoder.patch_embed(pick_tokens(tubelets, visible))
        before_s = parts.seconds["embedding"]
        with parts("encoder"):
            features = model.encoder(tubelets, visible)
        parts.seconds["encoder"] -= before_s
        with parts("decoder"):
            known = model.encoder_to_decoder(features)
            prediction = model.decoder(known, model.mask_token, visible, hidden).flatten(0, 1)
        with parts("target"):
            target = model.head(tubelets, hidden).flatten(0, 1)
        with parts("scores"):
            to_target = cosine_scores(target, model.prototypes)
            to_prediction = cosine_scores(prediction, model.prototypes.detach())
        with parts("Sinkhorn"):
            assigned = assign_both(to_target.detach(), to_prediction.detach(), CONFIG)
        with parts("loss"):
            how = (CONFIG.temperature, prediction.dtype)  # the target's is the same
            to_both = assignment_loss(to_target, assigned.prediction, *how)
            return to_both + assignment_loss(to_prediction, assigned.target, *how)
