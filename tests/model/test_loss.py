"""The cross-entropy between scores and assignments, against the textbook form in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sigma_pipeline.model import scores as scores_module
from sigma_pipeline.model.loss import assignment_loss, normalize_prototypes
from sigma_pipeline.model.scores import CosineScores
from sigma_pipeline.model.sinkhorn import Assignment


def scores_of(matrix: Tensor) -> CosineScores:
    """Prototypes along the axes, so that features are scores."""
    return CosineScores(matrix, torch.eye(matrix.shape[1], dtype=matrix.dtype))


def drawn(kind: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Assignment]:
    """Unit features of 60 tokens, 11 unit prototypes, and what the tokens belong to."""
    draws = torch.Generator().manual_seed(3)
    features = F.normalize(torch.randn(60, 5, generator=draws, dtype=torch.float64), dim=1)
    prototypes = F.normalize(torch.randn(11, 5, generator=draws, dtype=torch.float64), dim=1)
    labels = torch.randint(0, 11, (60,), generator=draws)
    shares = torch.rand(60, 11, generator=draws, dtype=torch.float64)
    soft = shares / shares.sum(dim=1, keepdim=True)
    assignment = labels if kind == "hard" else soft.to(dtype)
    return features.to(dtype).requires_grad_(), prototypes.to(dtype).requires_grad_(), assignment


def textbook(features: Tensor, prototypes: Tensor, assignment: Assignment) -> Tensor:
    return F.cross_entropy(features @ prototypes.T / 0.1, assignment)


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("part_bytes", [1, 7 * 11 * 8, 2**30])
def test_loss_and_gradients_are_those_of_the_textbook_however_it_is_cut(
    kind: str, part_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores_module, "CPU_PART_BYTES", part_bytes)
    features, prototypes, assignment = drawn(kind)

    loss = assignment_loss(CosineScores(features, prototypes), assignment, 0.1)
    gradients = torch.autograd.grad(3 * loss, (features, prototypes))

    expected = textbook(features, prototypes, assignment)
    torch.testing.assert_close(loss, expected)
    wanted = torch.autograd.grad(3 * expected, (features, prototypes))
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_only_the_gradient_of_features_is_rounded_to_half_precision(kind: str) -> None:
    features, prototypes, assignment = drawn(kind, torch.float32)
    scores = CosineScores(features, prototypes)

    exact = assignment_loss(scores, assignment, 0.1)
    rounded = assignment_loss(scores, assignment, 0.1, torch.bfloat16)

    assert torch.equal(rounded, exact)
    to_features, to_prototypes = torch.autograd.grad(rounded, (features, prototypes))
    wanted = torch.autograd.grad(exact, (features, prototypes))
    assert to_features.dtype is torch.float32
    assert 0 < (to_features - wanted[0]).norm() <= 0.01 * wanted[0].norm()
    assert torch.equal(to_prototypes, wanted[1])


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_float32_stays_within_rounding_of_float64(kind: str) -> None:
    features, prototypes, assignment = drawn(kind, torch.float32)

    loss = assignment_loss(CosineScores(features, prototypes), assignment, 0.1)

    exact = textbook(*(tensor.double() for tensor in drawn(kind)[:2]), drawn(kind)[2])
    torch.testing.assert_close(loss.double(), exact, rtol=1e-6, atol=0)


def test_detached_prototypes_get_no_gradient() -> None:
    features, prototypes, labels = drawn("hard")

    assignment_loss(CosineScores(features, prototypes.detach()), labels, 0.1).backward()

    assert features.grad is not None
    assert prototypes.grad is None


def test_the_loss_is_the_same_inside_autocast() -> None:
    features, prototypes, labels = drawn("hard", torch.float32)
    scores = CosineScores(features, prototypes)

    with torch.autocast("cpu", torch.bfloat16):
        loss = assignment_loss(scores, labels, 0.1)

    assert torch.equal(loss, assignment_loss(scores, labels, 0.1))


def test_a_very_low_temperature_stays_finite() -> None:
    features, prototypes, labels = drawn("hard", torch.float32)

    loss = assignment_loss(CosineScores(features, prototypes), labels, 1e-3)

    exact = F.cross_entropy(features.double() @ prototypes.double().T / 1e-3, labels)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=0)


def test_scores_that_say_nothing_cost_the_logarithm_of_the_number_of_prototypes() -> None:
    loss = assignment_loss(scores_of(torch.zeros(6, 10)), torch.arange(6), temperature=0.1)

    torch.testing.assert_close(loss, torch.tensor(math.log(10)))


def test_one_hot_shares_cost_what_labels_cost() -> None:
    scores, labels = scores_of(torch.randn(6, 10)), torch.arange(6)
    shares = torch.nn.functional.one_hot(labels, 10).float()

    torch.testing.assert_close(
        assignment_loss(scores, labels, 0.1), assignment_loss(scores, shares, 0.1)
    )


def test_a_lower_temperature_trusts_scores_more() -> None:
    scores, labels = scores_of(torch.tensor([[0.9, 0.1]])), torch.tensor([0])

    assert assignment_loss(scores, labels, 0.1) < assignment_loss(scores, labels, 1.0)


def test_normalized_prototypes_are_a_new_tensor_of_unit_rows() -> None:
    weight = torch.nn.Parameter(torch.randn(5, 3) * 7)
    before = weight.detach().clone()

    normalized = normalize_prototypes(weight)

    torch.testing.assert_close(normalized.norm(dim=1), torch.ones(5))
    assert torch.equal(weight, before)
    assert not normalized.requires_grad
