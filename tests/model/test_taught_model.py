"""A model that learns from a frozen teacher, which stays apart from it."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.sigma import Sigma, build_sigma, num_parameters
from sigma_pipeline.model.teachers import TeacherTarget
from tests.model.teacher_files import config_of, masks, targets_of

pytestmark = pytest.mark.usefixtures("small_teachers")


def sigma_after_a_step(config: ModelConfig, clips: Tensor) -> Sigma:
    model = build_sigma(config, seed=0)
    model(clips, masks(config)[0]).loss.backward()
    return model


def network_of(model: Sigma) -> nn.Module:
    assert isinstance(model.target, TeacherTarget)
    return model.target.teacher.network


def test_the_teacher_is_in_no_state_and_among_no_parameters(
    dino: ModelConfig, clips: Tensor
) -> None:
    model = sigma_after_a_step(dino, clips)

    assert not [name for name in model.state_dict() if name.startswith("head")]
    assert not [name for name, _ in model.named_parameters() if name.startswith("head")]
    assert not [name for name, _ in model.named_buffers() if name.startswith("head")]
    assert network_of(model) not in set(model.modules())


def test_no_gradient_reaches_the_teacher(dino: ModelConfig, clips: Tensor) -> None:
    model = sigma_after_a_step(dino, clips)

    weights = list(network_of(model).parameters())
    assert not any(weight.requires_grad or weight.grad is not None for weight in weights)
    assert all(weight.grad is not None for weight in model.parameters())


def test_the_teacher_evaluates_while_the_model_trains(dino: ModelConfig, clips: Tensor) -> None:
    model = sigma_after_a_step(dino, clips).train()

    assert model.training
    assert not any(module.training for module in network_of(model).modules())


def test_casting_the_model_leaves_the_teacher_in_float32(dino: ModelConfig, clips: Tensor) -> None:
    model = sigma_after_a_step(dino, clips).double()

    loss = model(clips, masks(dino)[0]).loss

    assert {weight.dtype for weight in network_of(model).parameters()} == {torch.float32}
    assert loss.isfinite()


def test_a_model_is_built_counted_and_restored_without_the_weights(clips: Tensor) -> None:
    config = config_of("dino_s", Path("/nowhere/dino.pth"))

    model = build_sigma(config, seed=0)
    model.load_state_dict(build_sigma(config, seed=1).state_dict())
    copied = copy.deepcopy(model)

    assert num_parameters(copied) == num_parameters(model) > 0
    assert num_parameters(model.target) == 0
    with pytest.raises(ValueError, match=r"/nowhere/dino\.pth does not exist"):
        model(clips, masks(config)[0])


@pytest.mark.parametrize("is_autocast", [False, True])
def test_features_that_were_kept_give_the_same_scores_loss_and_gradients(
    dino: ModelConfig, clips: Tensor, *, is_autocast: bool
) -> None:
    model, (mask, _) = build_sigma(dino, seed=0), masks(dino)
    weights = list(model.parameters())

    with torch.autocast("cpu", torch.bfloat16, is_autocast):
        kept = model.frozen_features(clips, mask)
        outputs = model(clips, mask), model(clips, mask, target_features=kept)
        scores = model.scores(clips, mask), model.scores(clips, mask, target_features=kept)

    assert kept is not None
    assert kept.shape == (3, 3 * 36, 32)
    losses = [output.loss for output in outputs]
    assert torch.equal(*losses)
    assert outputs[0].numbers == outputs[1].numbers
    gradients = [torch.autograd.grad(loss, weights) for loss in losses]
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))
    for one, other in zip(*scores, strict=True):
        assert torch.equal(one.matrix(), other.matrix())


def test_features_that_were_kept_are_used_without_the_teacher(
    dino: ModelConfig, clips: Tensor
) -> None:
    kept = build_sigma(dino, seed=0).frozen_features(clips, masks(dino)[0])
    blind = build_sigma(config_of("dino_s", Path("/nowhere/dino.pth")), seed=0)

    assert blind(clips, masks(dino)[0], target_features=kept).loss.isfinite()


@pytest.mark.parametrize(
    "settings",
    [{"assignment": "hard"}, {"assignment": "soft"}, {"objective": "l2"}],
    ids=["hard", "soft", "l2"],
)
def test_the_objectives_learn_from_a_teacher(
    dino: ModelConfig, clips: Tensor, settings: dict[str, object]
) -> None:
    config = ModelConfig.model_validate(dino.model_dump() | settings)
    model = build_sigma(config, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

    losses = []
    for _ in range(15):
        loss = model(clips, masks(config)[0]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert losses[-1] < 0.85 * losses[0]


def test_regression_is_the_mean_squared_distance_to_the_teacher(
    dino: ModelConfig, clips: Tensor
) -> None:
    config = ModelConfig.model_validate(dino.model_dump() | {"objective": "l2"})
    model = build_sigma(config, seed=0)
    nn.init.zeros_(model.decoder.head.weight)

    loss = model(clips, masks(config)[0]).loss

    torch.testing.assert_close(loss, targets_of(config, clips).square().mean())
