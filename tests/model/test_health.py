"""Health numbers at the ends of their scales."""

import math

import pytest
import torch
from torch import Tensor

from sigma_pipeline.model.health import (
    SpikeWatch,
    assignment_health,
    collapse_warnings,
    effective_rank,
    feature_health,
    prototype_shares,
)

EVEN = torch.arange(12) % 4
COLLAPSED = torch.zeros(12, dtype=torch.int64)


def test_an_even_branch_beside_a_collapsed_one() -> None:
    numbers = {name: float(value) for name, value in assignment_health(EVEN, COLLAPSED, 4).items()}

    assert numbers == pytest.approx(
        {
            "usage_entropy_target": 1.0,
            "prototypes_used_fraction_target": 1.0,
            "usage_entropy_prediction": 0.0,
            "prototypes_used_fraction_prediction": 0.25,
            "branch_agreement_fraction": 0.25,
        }
    )


@pytest.mark.parametrize("labels", [EVEN, COLLAPSED])
def test_one_hot_shares_are_as_healthy_as_labels(labels: Tensor) -> None:
    shares = torch.nn.functional.one_hot(labels, 4).float()

    assert assignment_health(shares, shares, 4) == assignment_health(labels, labels, 4)


def test_shares_count_prototypes_that_nobody_chose() -> None:
    shares = prototype_shares(torch.tensor([2, 2, 0]), num_prototypes=4)

    torch.testing.assert_close(shares, torch.tensor([1 / 3, 0, 2 / 3, 0]))


def test_a_single_prototype_is_used_evenly() -> None:
    assert assignment_health(COLLAPSED, COLLAPSED, 1)["usage_entropy_target"] == 1


def test_a_prototype_that_is_no_tokens_first_choice_is_not_used() -> None:
    shares = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6]])

    numbers = assignment_health(shares, shares, 3)

    torch.testing.assert_close(numbers["prototypes_used_fraction_target"], torch.tensor(2 / 3))
    assert numbers["usage_entropy_target"] > 0.99


@pytest.mark.parametrize("dimensions", [1, 3, 8])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_effective_rank_counts_directions_whatever_the_scale(
    dimensions: int, scale: float
) -> None:
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * dimensions).view(-1, dimensions)
    features = torch.nn.functional.pad(signs * scale, (0, 20)) + 5 * scale

    torch.testing.assert_close(effective_rank(features), torch.tensor(float(dimensions)))


@pytest.mark.parametrize("tokens", [40, 4])
def test_the_effective_rank_is_that_of_the_eigenvalues_of_the_covariance(tokens: int) -> None:
    features = torch.randn(tokens, 6, generator=torch.Generator().manual_seed(0)).double()
    features *= torch.arange(1, 7)

    eigenvalues = torch.linalg.eigvalsh(features.T.cov())
    expected = eigenvalues.sum() ** 2 / eigenvalues.square().sum()
    torch.testing.assert_close(effective_rank(features), expected)


def test_features_that_are_all_the_same_have_no_rank() -> None:
    assert effective_rank(torch.ones(10, 4)) == 0


def test_feature_health_looks_at_512_tokens_at_most() -> None:
    features = torch.ones(600, 2)
    features[::2] = 0  # every second one makes 300

    assert feature_health(features, features)["feature_norm_target"] == 0


def test_feature_health_describes_both_branches() -> None:
    signs = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])

    numbers = feature_health(signs.repeat(50, 1), 3 * torch.ones(200, 2))

    assert {name: float(value) for name, value in numbers.items()} == pytest.approx(
        {
            "effective_rank_target": 2.0,
            "feature_norm_target": 2**0.5,
            "effective_rank_prediction": 0.0,
            "feature_norm_prediction": 3 * 2**0.5,
        },
        rel=1e-4,
    )


HEALTHY = {
    "prototypes_used_fraction_target": 0.9,
    "effective_rank_target": 40.0,
    "plan_entropy_target": 0.2,
    "marginal_error_prediction": 0.02,
    "feature_norm_prediction": 3.0,
    "clips_per_s": 0.0,
}


def test_healthy_numbers_warn_of_nothing() -> None:
    assert collapse_warnings(HEALTHY) == {}


@pytest.mark.parametrize(
    ("name", "value", "what_to_look_at"),
    [
        ("prototypes_used_fraction_target", 0.02, "target_lr_scale"),
        ("effective_rank_target", 1.1, "temperature"),
        ("effective_rank_target", float("nan"), "temperature"),
        ("plan_entropy_target", 0.999, "epsilon"),
        ("marginal_error_prediction", 0.8, "iterations"),
        ("feature_norm_prediction", 1e-6, "base_lr"),
        ("feature_norm_prediction", 1e6, "base_lr"),
    ],
)
def test_a_number_beyond_its_limit_warns_and_says_where_to_look(
    name: str, value: float, what_to_look_at: str
) -> None:
    warnings = collapse_warnings({**HEALTHY, name: value})

    assert list(warnings) == [name]
    assert warnings[name].startswith(f"{name} is {value:.3g}: ")
    assert what_to_look_at in warnings[name]


def watched(*losses: float) -> list[float | None]:
    """What is said of each loss."""
    watch = SpikeWatch()
    return [watch.look(loss) for loss in losses]


def test_a_loss_far_above_the_recent_ones_is_a_spike() -> None:
    usual = [2.0, 2.02, 1.98, 2.01, 1.99] * 6

    assert watched(*usual, 2.15, 3.0, 2.0)[-3:] == [None, 2.0, None]  # 2.15: less than a tenth
    assert watched(*usual[:19], 3.0)[-1] is None  # too few are known
    assert watched(*[2.0, 3.0] * 15, 3.4)[-1] is None  # they vary as much themselves


def test_a_loss_that_stays_high_becomes_usual_and_one_that_is_no_number_says_nothing() -> None:
    said = watched(*[2.0, 2.01] * 15, math.nan, *[4.0] * 60, math.inf)

    assert said[30] is None
    assert said[31] is not None
    assert said[-2:] == [None, None]
