"""The objective: who learns from which term, and that it learns at all."""

import pytest
import torch
from torch import Tensor

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.masking import tube_masks
from sigma_pipeline.model.scores import CosineScores
from sigma_pipeline.model.sigma import Sigma, build_sigma
from sigma_pipeline.model.sinkhorn import Assignments, assign_both, balanced_assignment
from tests.model.conftest import constant

HIDDEN_TOKENS = 8 * 48
EVEN = torch.full((HIDDEN_TOKENS, 24), 1 / 24)


def matrices(scores: tuple[CosineScores, CosineScores]) -> tuple[Tensor, Tensor]:
    return scores[0].matrix(), scores[1].matrix()


def largest_gradient(model: Sigma, loss: Tensor, *parts: str) -> float:
    """Over all parameters whose names start with one of ``parts``."""
    weights = [weight for name, weight in model.named_parameters() if name.startswith(parts)]
    return max(float(g.abs().max()) for g in torch.autograd.grad(loss, weights, retain_graph=True))


# A branch that is told to predict the probabilities it gives already has a gradient of zero, which
# leaves the gradient of the other term.


def test_the_prediction_term_trains_encoder_and_decoder_only(
    soft_config: ModelConfig, clip: Tensor, mask: Tensor
) -> None:
    model = build_sigma(soft_config, seed=0)
    own = matrices(model.scores(clip, mask))[0].div(soft_config.temperature).softmax(dim=1)

    loss = model(clip, mask, constant(target=EVEN, prediction=own)).loss

    assert largest_gradient(model, loss, "head", "prototypes") < 1e-6
    for part in ("encoder.", "decoder.", "encoder_to_decoder", "mask_token"):
        assert largest_gradient(model, loss, part) > 1e-3


def test_the_target_term_trains_the_mlp_and_the_prototypes_only(
    soft_config: ModelConfig, clip: Tensor, mask: Tensor
) -> None:
    model = build_sigma(soft_config, seed=0)
    own = matrices(model.scores(clip, mask))[1].div(soft_config.temperature).softmax(dim=1)

    loss = model(clip, mask, constant(target=own, prediction=EVEN)).loss

    assert largest_gradient(model, loss, "encoder", "decoder", "mask_token") < 1e-6
    for part in ("head.0", "head.4", "prototypes"):
        assert largest_gradient(model, loss, part) > 1e-4


def test_every_parameter_is_trained(config: ModelConfig, clip: Tensor, mask: Tensor) -> None:
    model = build_sigma(config, seed=0)

    model(clip, mask).loss.backward()

    assert all(parameter.grad is not None for parameter in model.parameters())


def test_each_branch_is_measured_against_the_assignment_of_the_other(
    config: ModelConfig, clip: Tensor, mask: Tensor
) -> None:
    model = build_sigma(config, seed=0)
    target, prediction = (scores.argmax(dim=1) for scores in matrices(model.scores(clip, mask)))

    agreeing = model(clip, mask, constant(target=prediction, prediction=target)).numbers
    crossed = model(clip, mask, constant(target=target, prediction=prediction)).numbers

    assert agreeing["loss_target"] < crossed["loss_target"]
    assert agreeing["loss_prediction"] < crossed["loss_prediction"]


def test_the_assign_function_gets_the_detached_scores_of_both_branches(
    config: ModelConfig, clip: Tensor, mask: Tensor
) -> None:
    model = build_sigma(config, seed=0)
    seen: list[CosineScores] = []

    def assign(target: CosineScores, prediction: CosineScores) -> Assignments:
        seen.extend((target, prediction))
        return assign_both(target, prediction, config)

    output = model(clip, mask, assign)

    expected = model.scores(clip, mask)
    for given, scores in zip(seen, expected, strict=True):
        assert given.shape == (HIDDEN_TOKENS, 24)
        assert given.dtype is torch.float32
        assert not given.matrix().requires_grad
        assert torch.equal(given.matrix(), scores.matrix())
    assert torch.equal(output.loss, model(clip, mask).loss)


def test_hard_and_soft_assignments_give_different_losses_from_the_same_weights(
    config: ModelConfig, soft_config: ModelConfig, clip: Tensor, mask: Tensor
) -> None:
    hard, soft = build_sigma(config, seed=0), build_sigma(soft_config, seed=0)

    plans = [balanced_assignment(scores, 0.05, 10) for scores in soft.scores(clip, mask)]
    labels = [plan.argmax(dim=1) for plan in plans]
    soft_loss, hard_loss = soft(clip, mask).loss, hard(clip, mask).loss

    assert torch.equal(soft_loss, soft(clip, mask, constant(*plans)).loss)
    assert torch.equal(hard_loss, hard(clip, mask, constant(*labels)).loss)
    assert not torch.isclose(soft_loss, hard_loss, rtol=1e-3)


def test_numbers_are_detached_scalars_that_add_up(
    config: ModelConfig, clip: Tensor, mask: Tensor
) -> None:
    loss, numbers = build_sigma(config, seed=0)(clip, mask)

    assert all(value.shape == () and not value.requires_grad for value in numbers.values())
    torch.testing.assert_close(numbers["loss_target"] + numbers["loss_prediction"], loss.detach())
    assert {"usage_entropy_target", "branch_agreement_fraction"} < numbers.keys()


@pytest.mark.parametrize(
    ("settings", "most_left"), [("config", 0.2), ("soft_config", 0.2), ("pixel_config", 0.9)]
)
def test_loss_falls_on_eight_clips(
    request: pytest.FixtureRequest, settings: str, most_left: float, clip: Tensor
) -> None:
    config: ModelConfig = request.getfixturevalue(settings)
    model, mask = build_sigma(config, seed=0), tube_masks(config, range(8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

    losses = []
    for _ in range(50):
        loss = model(clip, mask).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert losses[-1] < most_left * losses[0]


def test_regression_of_pixels_has_no_prototypes(
    pixel_config: ModelConfig, clip: Tensor, mask: Tensor
) -> None:
    model = build_sigma(pixel_config, seed=0)

    output = model(clip, mask)

    assert 0.5 < output.loss < 3  # normalized pixels have variance 1
    assert "prototypes" not in model.state_dict()
    with pytest.raises(ValueError, match="objective=l2 has no prototypes"):
        model.scores(clip, mask)


def test_only_a_frozen_teacher_has_features_to_keep(
    config: ModelConfig, pixel_config: ModelConfig, clip: Tensor, mask: Tensor
) -> None:
    for settings in (config, pixel_config):
        assert build_sigma(settings, seed=0).frozen_features(clip, mask) is None


def test_a_model_is_a_function_of_its_seed_alone(config: ModelConfig) -> None:
    torch.manual_seed(1)
    first = build_sigma(config, seed=5).state_dict()
    state = torch.get_rng_state()
    torch.manual_seed(2)
    second, other = build_sigma(config, seed=5).state_dict(), build_sigma(config, seed=6)
    torch.manual_seed(1)

    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["prototypes"], other.prototypes)
    assert torch.equal(torch.get_rng_state(), state)


def test_prototypes_start_on_the_unit_sphere(config: ModelConfig) -> None:
    norms = build_sigma(config, seed=0).prototypes.norm(dim=1)

    torch.testing.assert_close(norms, torch.ones(24))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((8, 3, 4, 32, 32), r"clips are torch.uint8 \[3, 4, 32, 32\]"),
        ((8, 3, 8, 32, 40), r"takes torch.uint8 \[3, 8, 32, 32\]"),
        ((8, 1, 8, 32, 32), r"clips are torch.uint8 \[1, 8, 32, 32\]"),
    ],
)
def test_clips_of_another_shape_are_refused_with_the_numbers(
    config: ModelConfig, mask: Tensor, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_sigma(config, seed=0)(torch.zeros(shape, dtype=torch.uint8), mask)


def test_masks_of_another_shape_are_refused_with_the_numbers(
    config: ModelConfig, clip: Tensor, mask: Tensor
) -> None:
    with pytest.raises(ValueError, match=r"masks are \[8, 12\]; 8 clips of 16 patches per frame"):
        build_sigma(config, seed=0)(clip, mask[:, :12])
