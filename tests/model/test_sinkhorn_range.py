"""Balanced assignment where floats end: extreme scores, half precision, unwanted prototypes."""

import pytest
import torch

from sigma_pipeline.model.sinkhorn import balanced_assignment
from tests.model.plans import cosines, in_logarithms, out_of_reach


@pytest.mark.parametrize("iterations", [1, 10, 500])
def test_extreme_scores_stay_finite_at_the_lowest_temperature(iterations: int) -> None:
    scores = torch.full((512, 8), -1.0)
    scores[:511, 0] = 1.0  # one token against a crowd, and prototypes nobody wants
    scores[511, 1] = 1.0

    plan = balanced_assignment(scores, epsilon=0.01, iterations=iterations)

    assert plan.isfinite().all()
    torch.testing.assert_close(plan.sum(dim=1), torch.ones(512))


@pytest.mark.parametrize("seed", range(5))
def test_random_signs_at_the_lowest_temperature_stay_finite(seed: int) -> None:
    scores = torch.randint(0, 2, (300, 7), generator=torch.Generator().manual_seed(seed)) * 2.0 - 1

    plan = balanced_assignment(scores, epsilon=0.01, iterations=100)

    assert plan.isfinite().all()
    torch.testing.assert_close(plan.sum(dim=1), torch.ones(300))


def test_a_prototype_opposite_to_all_tokens_gets_its_share() -> None:
    scores = cosines(64, 4)
    scores[:, 3] = -1.0

    plan = balanced_assignment(scores, epsilon=0.01, iterations=200)

    assert plan.isfinite().all()
    torch.testing.assert_close(plan.sum(dim=0)[3], torch.tensor(16.0), rtol=0.05, atol=0)


@pytest.mark.parametrize("epsilon", [0.01, 0.02, 0.03, 0.05])
@pytest.mark.parametrize("iterations", [1, 2, 10, 100])
def test_the_plan_is_the_exact_one_where_exponentials_leave_the_range_of_floats(
    epsilon: float, iterations: int
) -> None:
    scores = out_of_reach()

    plan = balanced_assignment(scores, epsilon, iterations)

    exact = in_logarithms(scores, epsilon, iterations)
    torch.testing.assert_close(plan.double(), exact, rtol=2e-3, atol=1e-5)
    assert (plan.argmax(dim=1) == exact.argmax(dim=1)).float().mean() > 0.99


@pytest.mark.parametrize("epsilon", [0.01, 0.05])
def test_prototypes_without_a_single_token_do_not_make_nan(epsilon: float) -> None:
    scores = torch.full((100, 30), -1.0)
    scores[:, 0] = 1.0

    plan = balanced_assignment(scores, epsilon, 10)

    torch.testing.assert_close(plan, torch.full((100, 30), 1 / 30), rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_does_not_overflow(dtype: torch.dtype) -> None:
    scores = cosines(64, 8).to(dtype)

    plan = balanced_assignment(scores, epsilon=0.01, iterations=10)

    assert plan.dtype is torch.float32
    torch.testing.assert_close(plan, balanced_assignment(scores.float(), 0.01, 10))


def test_autocast_does_not_lower_the_precision() -> None:
    scores = cosines(64, 8)

    with torch.autocast("cpu", torch.bfloat16):
        plan = balanced_assignment(scores, epsilon=0.05, iterations=10)

    assert torch.equal(plan, balanced_assignment(scores, 0.05, 10))
