"""What happens to a training in a test, and what is read of it afterwards."""

import os
import signal
from collections.abc import Callable

import pytest

from sigma_pipeline.infra.journal import read_entries
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs import train
from sigma_pipeline.jobs.optimizer import learning_rate


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

    monkeypatch.setattr(train, "learning_rate", rate)


def wish_to_stop() -> None:
    """As a scheduler does."""
    os.kill(os.getpid(), signal.SIGTERM)
