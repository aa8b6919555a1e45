"""What the tests on GPUs do, on the CPU with a small model."""

from pathlib import Path

import pytest
import torch

from sigma_pipeline.jobs.distributed import RankContext
from tests.jobs.device_steps import Trial, distance, gradients_of, run_trials, take_trial

SMALL = {"encoder": "vit_ti", "num_frames": 4, "frame_size_px": 32, "prototypes": 12, "steps": 3}


@pytest.mark.parametrize("stage", [1, 2])
def test_a_trial_gives_losses_rates_and_the_gradients_of_its_first_step(
    one_rank: RankContext, stage: int
) -> None:
    trial = Trial("small", stage, "fp32", **SMALL)

    measured, gradients = take_trial(trial, one_rank)

    assert len(measured.losses) == trial.steps
    assert measured.losses[-1] < measured.losses[0]
    assert measured.clips_per_s > 0
    assert (measured.device, measured.peak_memory_gib, measured.mfu) == ("cpu", 0, None)
    norm = torch.cat(list(gradients.values())).double().norm()
    assert float(norm) == pytest.approx(measured.gradient_norms[0], rel=1e-5)


def test_rounding_to_bf16_shows_in_the_distance(one_rank: RankContext) -> None:
    exact, again, rounded = (
        take_trial(Trial("small", 1, precision, **SMALL), one_rank)[1]
        for precision in ("fp32", "fp32", "bf16_autocast")
    )

    assert distance(again, exact) == 0
    assert 1e-4 < distance(rounded, exact) < 0.1


@pytest.mark.slow
def test_processes_take_the_steps_of_one_and_leave_them(tmp_path: Path) -> None:
    trial = Trial("small", 2, "fp32", **SMALL)
    for world_size in (1, 2):
        run_trials(tmp_path / str(world_size), [trial], world_size, on_cpu=True)

    one, two = (gradients_of(tmp_path / str(world_size), "small") for world_size in (1, 2))
    assert distance(two, one) < 1e-5
