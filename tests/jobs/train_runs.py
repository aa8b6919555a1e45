"""What happens to a training in a test, and what is read of it afterwards."""

import math
import os
import signal
from collections.abc import Callable, Sequence

import pytest

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.infra.journal import read_entries
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs import train_loop
from sigma_pipeline.jobs.optimizer import learning_rate
from sigma_pipeline.jobs.train_step import StepOutcome, TrainStep


def curve(storage: Storage) -> dict[int, tuple[float, float]]:
    """Loss and gradient norm by step; of a step taken twice, the later one."""
    entries, _ = read_entries(storage, "tiny")
    values = {
        entry.fields["step"]: entry.fields["values"] for entry in entries if entry.kind == "metrics"
    }
    return {step: (v["train/loss"], v["train/gradient_norm"]) for step, v in sorted(values.items())}


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], object]) -> None:
    """Calls ``act`` once, just before step number ``step`` (from 0) is taken."""
    pending = [act]

    def rate(number: int, *settings: object) -> float:
        if number == step and pending:
            pending.pop()()
        return learning_rate(number, *settings)

    monkeypatch.setattr(train_loop, "learning_rate", rate)


def wish_to_stop() -> None:
    """As a scheduler does."""
    os.kill(os.getpid(), signal.SIGTERM)


def ruin_steps(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> list[int]:
    """Makes weights infinite for these calls alone; what calls have been made, by number from 1."""
    calls: list[int] = []
    take_step = TrainStep.__call__

    def step(self: TrainStep, batches: Sequence[Batch], rate: float) -> StepOutcome:
        calls.append(len(calls) + 1)
        weight = self._engine.module.encoder_to_decoder.weight
        before = weight.detach().clone()
        if calls[-1] in numbers:
            weight.data.fill_(math.inf)
        outcome = take_step(self, batches, rate)
        if calls[-1] in numbers:
            weight.data.copy_(before)
        return outcome

    monkeypatch.setattr(TrainStep, "__call__", step)
    return calls
