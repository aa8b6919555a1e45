"""Training on GPUs: the steps of the CPU, and how fast. ``pytest -m gpu``, synthetic clips."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.jobs.device_steps import Measured, Trial, distance, gradients_of, run_trials

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="no CUDA device here, or a build of PyTorch without CUDA",
    ),
]

STAGES = (1, 2)
WORLD_SIZES = (1, 2)
FP32_TOLERANCE = 1e-4
"""Relative. Sums of some thousand products in float32, in another order, differ by 1e-6 or so; that
goes through 16 blocks and 10 rounds of Sinkhorn, whose plan is exp(score / 0.05)."""
SPEED_CLIPS = 16
"""Of each GPU: some 10 GiB."""


def compared_trials() -> Iterator[Trial]:
    yield Trial("fp32", 1, "fp32")
    for stage in STAGES:
        yield Trial(f"bf16-{stage}", stage)


def speed_trials(world_size: int) -> Iterator[Trial]:
    for stage in STAGES:
        yield Trial(
            f"speed-{stage}",
            stage,
            num_frames=16,
            frame_size_px=224,
            prototypes=3000,
            clips=SPEED_CLIPS * world_size,
            micro_batch_clips=SPEED_CLIPS,
            steps=15,
        )


@pytest.fixture(scope="module")
def cpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the CPU gives, in a process that sees no GPU."""
    folder = tmp_path_factory.mktemp("cpu")
    run_trials(folder, [Trial("fp32", 1, "fp32"), Trial("bf16")], 1, on_cpu=True)
    return folder


@pytest.fixture(scope="module", params=WORLD_SIZES)
def gpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one GPU gives, and two where there are two."""
    world_size: int = request.param
    if torch.cuda.device_count() < world_size:
        pytest.skip(f"{torch.cuda.device_count()} CUDA device here, {world_size} are needed")
    folder = tmp_path_factory.mktemp(f"gpus-{world_size}")
    run_trials(folder, [*compared_trials(), *speed_trials(world_size)], world_size)
    return folder


def test_a_gpu_takes_the_steps_of_the_cpu_in_float32(cpu: Path, gpus: Path) -> None:
    got, expected = Measured.read(gpus, "fp32"), Measured.read(cpu, "fp32")

    assert got.device != expected.device == "cpu"
    assert got.losses == pytest.approx(expected.losses, rel=FP32_TOLERANCE)
    assert distance(gradients_of(gpus, "fp32"), gradients_of(cpu, "fp32")) < 10 * FP32_TOLERANCE


@pytest.mark.parametrize("stage", STAGES)
def test_in_bf16_a_gpu_is_as_near_to_float32_as_the_cpu_is(
    cpu: Path, gpus: Path, stage: int
) -> None:
    """Both round to 8 bits, each in its own order: twice the CPU's distance is allowed."""
    exact, rounded = gradients_of(cpu, "fp32"), gradients_of(cpu, "bf16")

    got = gradients_of(gpus, f"bf16-{stage}")

    assert 0 < distance(got, exact) < 2 * distance(rounded, exact)
    losses = Measured.read(gpus, f"bf16-{stage}").losses
    assert losses == pytest.approx(Measured.read(cpu, "fp32").losses, rel=0.01)


@pytest.mark.parametrize("stage", STAGES)
def test_speed_memory_and_share_of_the_peak_are_shown(
    gpus: Path, stage: int, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = Measured.read(gpus, f"speed-{stage}")

    mfu = "peak not known" if measured.mfu is None else f"MFU {100 * measured.mfu:.1f} %"
    with capsys.disabled():
        sys.stdout.write(
            f"\n{gpus.name}, {measured.device}, ZeRO {stage}, bf16 autocast, ViT-S, synthetic "
            f"clips: {measured.clips_per_s:.1f} clips/s, "
            f"{measured.peak_memory_gib:.2f} GiB at the peak, {mfu}\n"
        )
    assert measured.clips_per_s > 0
    assert measured.peak_memory_gib > 0
    assert measured.mfu is None or 0 < measured.mfu < 1
