"""Two ranks, started once for all of these tests: every stage and precision, and ways between them.

What they leave is compared with one rank, and with plain PyTorch.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.model.sigma import build_sigma
from tests.jobs.cases import NUM_PROTOTYPES, make_case
from tests.jobs.step_rank import Case, committed, exact_step, plain_steps, take_steps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of DeepSpeed's, from torch 2.13
]

ROOT = Path(__file__).parents[2]
STAGES = (1, 2, 3)
PRECISIONS = ("fp32", "bf16_autocast", "bf16")
ALL = list(product(STAGES, PRECISIONS))
HALF = {"micro_batch_clips": 4}
"""The share of one of two ranks."""
STEPS = 2
LONG = 50
MOMENT_TOLERANCE = {"fp32": 2e-6, "bf16_autocast": 0.02, "bf16": 0.06}
"""Of the largest one in a tensor. Shares of ranks are rounded one by one in half precision."""
LOSS_TOLERANCE = {"fp32": 1e-6, "bf16_autocast": 1e-3, "bf16": 3e-3}
"""Relative, at the second step, after what a rounded gradient near 0 did to the first one."""
EXACT = {"2x4": 4, "2x(2x2)": 2}
LONG_CASES = {
    "long-1": (1, "fp32", 4),
    "long-2": (2, "fp32", 4),
    "long-3": (3, "fp32", 4),
    "long-1-accumulated": (1, "fp32", 2),
    "long-3-accumulated": (3, "fp32", 2),
    "long-autocast": (2, "bf16_autocast", 4),
    "long-bf16": (1, "bf16", 4),
}
"""Stage, precision, and clips in each micro-batch of a rank that has four."""
LONG_TOLERANCE = {"fp32": 2e-6, "bf16_autocast": 0.02, "bf16": 0.02}
"""Relative, of any loss of a long run. What gradients may differ by (``MOMENT_TOLERANCE``) moves a
loss by no more than itself: all steps a thousandth longer move it by a thousandth."""
WAY_TOLERANCE = {"fp32": 1e-5, "bf16_autocast": 0.05, "bf16": 0.05}
"""Of the way from the first weights to the last. Where gradients are all but 0, Adam makes a whole
step of a rounded one: more than the losses show."""


def two_rank_cases() -> list[Case]:
    """In this order: some go on where others ended."""
    moves = [("moved-2", 2, "1-fp32"), ("moved-3", 3, "moved-2"), ("moved-1", 1, "moved-3")]
    return [
        *(make_case(f"{stage}-{kind}", stage, kind, **HALF, steps=STEPS) for stage, kind in ALL),
        *(make_case(name, stage, **HALF, steps=1, after=after) for name, stage, after in moves),
        make_case("straight", 1, **HALF, steps=STEPS + 3),
        *(
            make_case(name, *how, micro_batch_clips=clips, steps=LONG)
            for name, (*how, clips) in LONG_CASES.items()
        ),
        make_case("again", 3, "bf16_autocast", **HALF, steps=STEPS),
        make_case("accumulated", 3, micro_batch_clips=2, steps=STEPS),
        make_case("from-one-rank", 2, "bf16", **HALF, steps=1, after="one-rank"),
        *(make_case(name, micro_batch_clips=clips, is_exact=True) for name, clips in EXACT.items()),
    ]


@pytest.fixture(scope="module")
def folder(one_rank: RankContext, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two ranks left what they saw and made."""
    folder = tmp_path_factory.mktemp("ranks")
    take_steps(make_case("one-rank", 3, "bf16", steps=STEPS), one_rank, folder)
    records = [case.to_json() for case in two_rank_cases()]
    (folder / "cases.json").write_text(json.dumps(records))
    program = Path(__file__).with_name("step_rank.py")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen([sys.executable, "-P", program, rank, "2", folder], env=environment)
        for rank in ("0", "1")
    ]
    try:
        assert [rank.wait(timeout=300) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    return folder


def seen(folder: Path, name: str) -> list[dict[str, Any]]:
    """What each rank saw of a case."""
    return [json.loads((folder / f"{rank}.json").read_text())[name] for rank in (0, 1)]


def assert_equal(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(got[name], tensor)] == []


def assert_moments_near(
    got: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float
) -> None:
    """Moments are means of the gradients so far, and of their squares."""
    moments = [name for name in expected if "/" in name]
    assert moments
    for name in moments:
        scale = float(expected[name].abs().max())
        torch.testing.assert_close(got[name], expected[name], rtol=0, atol=tolerance * scale)


def assert_weights_near(got: dict[str, Tensor], expected: dict[str, Tensor], rate: float) -> None:
    """To a thousandth of a step, and what the tolerance of the moments makes of it.

    Adam divides the first moment by the root of the second. Where that is far below the largest of
    its tensor, the rounding that moments may have becomes a visible part of each step.
    """
    for name in (name for name in expected if "/" not in name):
        first, second = (expected.get(f"{kind}/{name}") for kind in ("exp_avg", "exp_avg_sq"))
        allowed = torch.full_like(expected[name], 1e-3)
        if first is not None and second is not None:
            rounding = 2 * MOMENT_TOLERANCE["fp32"] * first.abs().max()
            # Both moments are means that have just begun: 0.19 and 0.0975 of their final weight.
            rounding = STEPS * rounding / 0.19 / (second / 0.0975).sqrt()
            allowed += rounding.nan_to_num(0.0).clamp(max=4e-3)
        assert ((got[name] - expected[name]).abs() <= rate * allowed).all(), name


@pytest.mark.parametrize(("stage", "precision"), ALL)
def test_steps_of_two_ranks_are_those_of_plain_pytorch(
    one_rank: RankContext, folder: Path, stage: int, precision: str
) -> None:
    case = make_case("whole", stage, precision, steps=STEPS)
    losses, state = plain_steps(case, one_rank)

    got = committed(f"{stage}-{precision}", folder)

    for rank in seen(folder, f"{stage}-{precision}"):
        assert rank["losses"] == pytest.approx(losses, rel=LOSS_TOLERANCE[precision])
        assert rank["losses"][0] == pytest.approx(losses[0], rel=1e-6)
    assert_moments_near(got, state, 2 * MOMENT_TOLERANCE[precision])
    if precision == "fp32":
        assert_weights_near(got, state, case.rate)


@pytest.mark.parametrize(("stage", "precision"), ALL)
def test_prototypes_of_two_ranks_stay_on_the_sphere_in_the_master(
    folder: Path, stage: int, precision: str
) -> None:
    """That the second step starts from it shows in the losses above."""
    for rank in seen(folder, f"{stage}-{precision}"):
        assert rank["master_norms"] == pytest.approx([1] * NUM_PROTOTYPES, abs=2e-7)
        # In bfloat16, each number of the module's copy is rounded by up to one in 256.
        assert rank["module_norms"] == pytest.approx([1] * NUM_PROTOTYPES, abs=4e-3)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("stage", [2, 3])
def test_stages_do_the_same_bit_for_bit(folder: Path, stage: int, precision: str) -> None:
    assert_equal(committed(f"{stage}-{precision}", folder), committed(f"1-{precision}", folder))


@pytest.mark.parametrize("stage", STAGES)
def test_each_rank_owns_its_own_part_and_together_they_own_all(folder: Path, stage: int) -> None:
    ranks = [rank["fragments"] for rank in seen(folder, f"{stage}-fp32")]

    owned = [{(name, start): length for name, start, length in rank} for rank in ranks]
    assert owned[0].keys().isdisjoint(owned[1])
    total = sum(t.numel() for n, t in committed("1-fp32", folder).items() if "/" not in n)
    assert sum((owned[0] | owned[1]).values()) == total
    assert sum(owned[0].values()) == pytest.approx(total / 2, rel=0.01)


def test_a_run_of_two_ranks_moves_between_stages_as_if_undisturbed(folder: Path) -> None:
    assert_equal(committed("moved-1", folder), committed("straight", folder))


@pytest.mark.parametrize(("stage", "precision"), ALL)
def test_one_rank_goes_on_from_two(
    one_rank: RankContext, folder: Path, stage: int, precision: str
) -> None:
    name = f"on-{stage}-{precision}"

    case = make_case(name, stage % 3 + 1, precision, steps=1, after=f"{stage}-{precision}")
    seen_by_one = take_steps(case, one_rank, folder)

    losses, state = plain_steps(make_case("whole", 1, precision, steps=STEPS + 1), one_rank)
    assert seen_by_one.losses == pytest.approx(losses[STEPS:], rel=LOSS_TOLERANCE[precision])
    assert_moments_near(committed(name, folder), state, 2 * MOMENT_TOLERANCE[precision])


def test_two_ranks_go_on_from_one(one_rank: RankContext, folder: Path) -> None:
    losses, state = plain_steps(make_case("whole", 1, "bf16", steps=STEPS + 1), one_rank)

    for rank in seen(folder, "from-one-rank"):
        assert rank["losses"] == pytest.approx(losses[STEPS:], rel=1e-6)
    assert_moments_near(committed("from-one-rank", folder), state, MOMENT_TOLERANCE["bf16"])


def test_two_ranks_give_the_same_result_twice(folder: Path) -> None:
    assert seen(folder, "again") == seen(folder, "3-bf16_autocast")
    assert_equal(committed("again", folder), committed("3-bf16_autocast", folder))


def test_micro_batches_at_stage_3_change_nothing_but_rounding(folder: Path) -> None:
    whole, cut = (seen(folder, name)[0]["losses"] for name in ("3-fp32", "accumulated"))

    assert cut == pytest.approx(whole, rel=1e-6)
    assert_moments_near(committed("accumulated", folder), committed("3-fp32", folder), 4e-6)


@pytest.mark.parametrize("name", LONG_CASES)
def test_fifty_steps_of_two_ranks_are_those_of_plain_pytorch(
    one_rank: RankContext, folder: Path, name: str
) -> None:
    """With soft targets; hard ones would turn rounding into other labels sooner or later."""
    precision = LONG_CASES[name][1]
    losses, state = plain_steps(make_case("whole", 1, precision, steps=LONG), one_rank)

    for rank in seen(folder, name):
        assert rank["losses"] == pytest.approx(losses, rel=LONG_TOLERANCE[precision])
    assert losses[-1] < losses[0] / 2
    end = committed(name, folder)
    start = dict(build_sigma(make_case("whole").model, 0).named_parameters())
    assert distance(end, state) < WAY_TOLERANCE[precision] * distance(start, state)


def distance(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> float:
    """Of all weights together."""
    names = [name for name in others if "/" not in name]
    return math.hypot(*(float((some[name] - others[name]).detach().norm()) for name in names))


def test_a_thousandth_more_at_each_of_fifty_steps_would_be_seen(one_rank: RankContext) -> None:
    """What the tolerance of the long runs is derived from."""
    case = make_case("whole", steps=LONG)
    losses, _ = plain_steps(case, one_rank)
    others, _ = plain_steps(replace(case, rate=1.001 * case.rate), one_rank)

    moved = max(abs(other / loss - 1) for other, loss in zip(others, losses, strict=True))

    assert 100 * LONG_TOLERANCE["fp32"] < moved < 2e-3


@pytest.mark.parametrize("name", ["1x(4x2)", *EXACT])
def test_cutting_the_batch_changes_no_loss_assignment_or_gradient_in_float64(
    one_rank: RankContext, folder: Path, name: str
) -> None:
    whole = exact_step(make_case("1x8"), one_rank)

    if name in EXACT:
        ranks = [load_file(folder / f"{name}-{rank}.safetensors") for rank in (0, 1)]
    else:
        ranks = [exact_step(make_case(name, micro_batch_clips=2), one_rank)]

    assert {"loss", "target", "prediction", "prototypes"} < whole.keys()
    for got in ranks:
        for key, expected in whole.items():
            scale = float(expected.abs().max())
            assert expected.dtype == torch.float64
            torch.testing.assert_close(got[key], expected, rtol=0, atol=1e-13 * scale)


def test_all_ranks_hear_of_a_wish_to_stop_at_the_same_call(folder: Path) -> None:
    assert seen(folder, "agreed") == [[False, False, True, False]] * 2
