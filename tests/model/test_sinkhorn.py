"""Balanced assignment: what holds for any input, and the plan of the released algorithm."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import TypeCheckError
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sigma_pipeline.model import kernel
from sigma_pipeline.model import scores as scores_module
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.scores import CosineScores
from sigma_pipeline.model.sinkhorn import (
    assignments,
    balance,
    balanced_assignment,
    measured_assignments,
)
from tests.model.plans import as_released, cosines, in_logarithms, out_of_reach


class Storages(TorchDispatchMode):
    """Sees how large the memory is that tensors are made in, or are views of."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes_by_address: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Of each operation of PyTorch."""
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            storage = result.untyped_storage()
            self.bytes_by_address[storage.data_ptr()] = storage.nbytes()
        return result


@pytest.mark.parametrize(("tokens", "prototypes"), [(64, 8), (8, 64), (1, 1), (1, 5), (5, 1)])
def test_rows_sum_to_one_and_columns_are_balanced(tokens: int, prototypes: int) -> None:
    plan = balanced_assignment(cosines(tokens, prototypes), epsilon=0.05, iterations=300)

    torch.testing.assert_close(plan.sum(dim=1), torch.ones(tokens))
    torch.testing.assert_close(
        plan.sum(dim=0), torch.full((prototypes,), tokens / prototypes), rtol=1e-2, atol=1e-3
    )


def test_tokens_that_all_prefer_one_prototype_are_spread() -> None:
    scores = torch.zeros(16, 4)
    scores[:, 0] = 1.0

    plan = balanced_assignment(scores, epsilon=0.05, iterations=10)

    torch.testing.assert_close(plan.sum(dim=0), torch.full((4,), 4.0))


def test_a_better_score_than_other_tokens_have_wins_the_prototype() -> None:
    scores = torch.tensor([[0.9, 0.1], [0.9, 0.5], [0.9, 0.2], [0.9, 0.6]])

    plan = balanced_assignment(scores, epsilon=0.03, iterations=50)

    assert plan.argmax(dim=1).tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("epsilon", [0.03, 0.05])
@pytest.mark.parametrize("collapse", [0.0, 2.0])
def test_the_plan_is_the_one_of_the_released_algorithm(epsilon: float, collapse: float) -> None:
    scores = cosines(2000, 100, collapse=collapse)

    plan = balanced_assignment(scores, epsilon, iterations=100)

    expected = as_released(scores, epsilon, iterations=100)
    assert (plan.argmax(dim=1) == expected.argmax(dim=1)).float().mean() > 0.999
    torch.testing.assert_close(plan.double(), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("epsilon", [0.01, 0.05])
def test_a_kernel_that_is_not_kept_gives_the_same(
    epsilon: float, monkeypatch: pytest.MonkeyPatch, config: ModelConfig
) -> None:
    scores = out_of_reach()
    kept = balanced_assignment(scores, epsilon, 10)
    labels = measured_assignments(scores, config)

    monkeypatch.setattr(kernel, "MOST_KEPT_BYTES", 0)
    monkeypatch.setattr(scores_module, "CPU_PART_BYTES", 7 * 12 * 4)
    anew = balanced_assignment(scores, epsilon, 10)

    torch.testing.assert_close(anew, kept)
    assert torch.equal(measured_assignments(scores, config)[0], labels[0])


def test_scores_may_be_given_as_features_and_prototypes() -> None:
    draws = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(50, 6, generator=draws), dim=1)
    scores = CosineScores(features, F.normalize(torch.randn(9, 6, generator=draws), dim=1))

    plan = balanced_assignment(scores, 0.05, 10)

    torch.testing.assert_close(plan, balanced_assignment(scores.matrix(), 0.05, 10))


def test_memory_is_that_of_one_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = CosineScores(torch.eye(8).repeat(80, 1), torch.eye(8).repeat(8, 1))
    monkeypatch.setattr(scores_module, "CPU_PART_BYTES", 64 * 4)

    with Storages() as made:
        plan = balance(scores, 0.05, 10)
        plan.kernel.labels(plan.column_scale)

    kernel_bytes, *others = sorted(made.bytes_by_address.values(), reverse=True)
    assert kernel_bytes == 640 * 64 * 4
    assert max(others) < kernel_bytes / 5


def test_the_marginal_error_is_what_the_last_round_finds() -> None:
    scores = cosines(200, 12, collapse=2.0)

    errors = [float(balance(scores, 0.05, rounds).marginal_error) for rounds in (1, 3, 30)]

    before_the_third = in_logarithms(scores, 0.05, 2).sum(dim=0) / 200
    assert errors[0] > errors[1] > errors[2] > 0
    assert errors[1] == pytest.approx(float((before_the_third - 1 / 12).abs().sum() / 2), rel=1e-4)


def test_the_plan_entropy_tells_sharp_plans_from_flat_ones(config: ModelConfig) -> None:
    sharp = measured_assignments(torch.eye(24), config)[1]["plan_entropy"]
    flat = measured_assignments(torch.zeros(24, 24), config)[1]["plan_entropy"]

    assert sharp < 1e-4
    torch.testing.assert_close(flat, torch.tensor(1.0))


def test_the_plan_entropy_is_that_of_the_rows(config: ModelConfig) -> None:
    scores = cosines(100, 24)

    entropy = measured_assignments(scores, config)[1]["plan_entropy"]

    plan = in_logarithms(scores, 0.05, 10)
    exact = torch.special.entr(plan).sum(dim=1).mean() / math.log(24)
    torch.testing.assert_close(entropy.double(), exact, rtol=1e-4, atol=0)


def test_scores_are_left_as_they_were() -> None:
    scores = cosines(8, 4)
    before = scores.clone()

    balanced_assignment(scores, epsilon=0.05, iterations=3)

    assert torch.equal(scores, before)


def test_batched_input_is_refused() -> None:
    with pytest.raises(TypeCheckError, match="scores"):
        balanced_assignment(torch.zeros(2, 4, 4), epsilon=0.05, iterations=10)


def test_hard_assignments_are_the_largest_of_the_soft_ones(
    config: ModelConfig, soft_config: ModelConfig
) -> None:
    scores = cosines(32, 6)

    labels, plan = assignments(scores, config), assignments(scores, soft_config)

    assert labels.dtype is torch.int64
    assert torch.equal(labels, plan.argmax(dim=1))
