"""What a rank does before it meets the others, and nothing of what it waits for then."""

import pytest
import torch

from sigma_pipeline.jobs import pace
from sigma_pipeline.jobs.pace import Pace


def test_time_counts_from_the_beginning_of_a_step_to_its_first_meeting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = iter([10.0, 12.0, 50.0, 51.0])
    monkeypatch.setattr(pace.time, "monotonic", lambda: next(times))
    clock = Pace(torch.device("cpu"))

    for _ in range(2):
        clock.begin()
        clock.meet()
        clock.meet()  # waited in between

    assert clock.take_s() == 2 + 1
    assert clock.take_s() == 0


@pytest.mark.gpu
def test_on_a_gpu_its_own_time_counts() -> None:
    square = torch.randn(8192, 8192, device="cuda")
    clock = Pace(square.device)

    clock.begin()
    for _ in range(20):
        square @ square
    clock.meet()

    assert 20 * 2 * 8192**3 / clock.take_s() < 1e15  # longer than it takes to ask for them
