"""Scores and the cross-entropy between them and assignments."""

import math

import torch

from sigma_pipeline.model.loss import assignment_loss, cosine_scores, normalize_prototypes


def test_scores_are_cosines_whatever_the_length_of_the_features() -> None:
    prototypes = torch.tensor([[1.0, 0.0], [0.0, 1.0]])

    scores = cosine_scores(torch.tensor([[3.0, 4.0], [-0.1, 0.0]]), prototypes)

    torch.testing.assert_close(scores, torch.tensor([[0.6, 0.8], [-1.0, 0.0]]))


def test_scores_are_float32_inside_autocast() -> None:
    features = torch.randn(16, 8)
    prototypes = normalize_prototypes(torch.randn(4, 8))

    with torch.autocast("cpu", torch.bfloat16):
        scores = cosine_scores(features, prototypes)

    assert torch.equal(scores, cosine_scores(features, prototypes))


def test_float64_is_kept() -> None:
    assert cosine_scores(torch.ones(1, 2).double(), torch.ones(1, 2).double()).dtype == torch.double


def test_scores_that_say_nothing_cost_the_logarithm_of_the_number_of_prototypes() -> None:
    loss = assignment_loss(torch.zeros(6, 10), torch.arange(6), temperature=0.1)

    torch.testing.assert_close(loss, torch.tensor(math.log(10)))


def test_one_hot_shares_cost_what_labels_cost() -> None:
    scores, labels = torch.randn(6, 10), torch.arange(6)
    shares = torch.nn.functional.one_hot(labels, 10).float()

    torch.testing.assert_close(
        assignment_loss(scores, labels, 0.1), assignment_loss(scores, shares, 0.1)
    )


def test_a_lower_temperature_trusts_scores_more() -> None:
    scores, labels = torch.tensor([[0.9, 0.1]]), torch.tensor([0])

    assert assignment_loss(scores, labels, 0.1) < assignment_loss(scores, labels, 1.0)


def test_normalized_prototypes_are_a_new_tensor_of_unit_rows() -> None:
    weight = torch.nn.Parameter(torch.randn(5, 3) * 7)
    before = weight.detach().clone()

    normalized = normalize_prototypes(weight)

    torch.testing.assert_close(normalized.norm(dim=1), torch.ones(5))
    assert torch.equal(weight, before)
    assert not normalized.requires_grad
