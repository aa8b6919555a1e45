"""Health numbers at the ends of their scales."""

import pytest
import torch
from torch import Tensor

from sigma_pipeline.model.health import assignment_health, prototype_shares

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
