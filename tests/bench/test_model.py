"""What ``make bench-model`` counts, and the processes that it measures."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.flops import step_flops
from sigma_pipeline.model.masking import tube_masks
from sigma_pipeline.model.sigma import build_sigma
from tests.bench.model import alternated, median_ratio
from tests.bench.model_floor import Machine, floors
from tests.bench.model_process import BenchProcess, Taken
from tests.bench.model_reference import Parts, Reference
from tests.model.conftest import SMALL


def test_the_operations_of_a_step_are_those_that_pytorch_counts() -> None:
    config, batch = ModelConfig(**SMALL), 2
    model = build_sigma(config, seed=0)
    clip = torch.zeros(batch, 3, 8, 32, 32, dtype=torch.uint8)

    with FlopCounterMode(display=False) as counter:
        Reference(model).loss(clip, tube_masks(config, range(batch)), Parts()).backward()

    # The reference embeds all tubelets, where the count has the visible ones alone, and one more
    # product for gradients of the prototypes is counted by neither.
    hidden = config.num_masked_patches * config.num_slices
    embedded = 2 * 2 * batch * hidden * config.tubelet_dim * config.encoder.embed_dim
    assert counter.get_total_flops() - embedded == step_flops(config, batch)


def test_floors_follow_the_machine() -> None:
    config = ModelConfig(**SMALL)

    slow = floors(config, 2, 1000, Machine(1e9, 1e9, 1e9))
    fast = floors(config, 2, 1000, Machine(2e9, 2e9, 2e9))

    assert all(0 < fast[part] == pytest.approx(slow[part] / 2) for part in slow)


def test_neighbours_are_compared_after_two_rounds_that_warm_up() -> None:
    seconds = iter([90.0, 1.0, 90.0, 1.0, 6.0, 3.0, 4.0, 1.0, 2.0, 2.0])

    def take() -> Taken:
        return Taken(next(seconds), 0)

    slow, fast = alternated([take, take], repeats=3)

    assert [taken.seconds for taken in slow] == [6.0, 4.0, 2.0]
    assert median_ratio(slow, fast) == 2.0


def test_a_process_that_fails_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(SystemExit, match=r"nobody.*ended with status 1"),
        BenchProcess("sinkhorn", "nobody") as process,
    ):
        process()

    assert "KeyError: 'nobody'" in capfd.readouterr().err
