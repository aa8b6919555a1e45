"""Test samples are shared out to the processes of a gang, and what they say is joined."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sigma_pipeline.jobs.benchmarks.fine_tuned_views import shared_out
from sigma_pipeline.jobs.train_request import RankPlace
from tests.jobs.evaluation.in_turn import InTurn


def numbers(place: RankPlace, samples: range, offset: int) -> np.ndarray:
    return np.array([[offset + number] for number in samples], np.float32)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_samples_are_shared_out_and_joined_in_their_order(size: int) -> None:
    subject: Any = SimpleNamespace(gang=InTurn(size))

    rows = shared_out(subject, numbers, 7, 10)

    assert rows.tolist() == [[float(10 + number)] for number in range(7)]
