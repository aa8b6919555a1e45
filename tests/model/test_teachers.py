"""Frozen teachers as targets: what they see, how it is normalized, and that they stay apart."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sigma_pipeline.model import teachers
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.masking import split_tokens, tube_masks
from sigma_pipeline.model.patches import cut_tubelets
from sigma_pipeline.model.sigma import Sigma, build_sigma, num_parameters
from sigma_pipeline.model.teacher_shapes import TEACHERS, TeacherName
from sigma_pipeline.model.teachers import TeacherTarget, on_grid
from tests.model.teacher_files import (
    SMALL,
    original_patches,
    original_state,
    use_small_shapes,
    write_folder,
)

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_shapes(monkeypatch)


def config_of(teacher: TeacherName, weights: Path | None = None, **settings: object) -> ModelConfig:
    """Six frames of 112 px in 3 slices of 7x7 tokens; DINO v1 and v3 see 7x7 patches, v2 8x8."""
    shape: dict[str, object] = {
        "num_frames": 6,
        "frame_size_px": 112,
        "encoder": {"embed_dim": 48, "depth": 1, "num_heads": 3},
        "decoder": {"embed_dim": 32, "depth": 1, "num_heads": 2},
        "mask_ratio": 0.75,
        "prototypes": 24,
        "target": {
            "kind": "dino",
            "teacher": teacher,
            "teacher_weights": weights and str(weights),
        },
    }
    return ModelConfig.model_validate(shape | settings)


@pytest.fixture
def clip() -> Tensor:
    """Three clips of noise, whose deviation differs from frame to frame."""
    draws = torch.Generator().manual_seed(7)
    noise = torch.randint(0, 256, (3, 3, 6, 112, 112), dtype=torch.uint8, generator=draws)
    return noise // torch.tensor([1, 2, 3, 4, 5, 6], dtype=torch.uint8)[:, None, None]


@pytest.fixture
def dino(tmp_path: Path) -> ModelConfig:
    path = tmp_path / "dino_deitsmall16_pretrain.pth"
    torch.save(original_state(SMALL["dino_s"], side=7), path)
    return config_of("dino_s", path)


def masks(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """One mask per clip, and the hidden tokens under it."""
    mask = tube_masks(config, range(3))
    return mask, split_tokens(config, mask)[1]


def targets_of(config: ModelConfig, clip: Tensor) -> Tensor:
    return TeacherTarget(config, TEACHERS[config.target.teacher or "dino_s"])(
        cut_tubelets(clip, 2, 16), masks(config)[1]
    )


def first_frames(clip: Tensor) -> Tensor:
    """Normalized first frames of the tubelets of all clips."""
    return ((clip[:, :, ::2].transpose(1, 2) / 255 - MEAN) / STD).flatten(0, 1)


def normalized(features: Tensor) -> Tensor:
    """Of 3 clips, per channel over all tokens of the clip, in float64."""
    tokens = features.double().unflatten(0, (3, 3)).flatten(1, 2)
    variance = tokens.var(dim=1, keepdim=True, correction=1)
    return (tokens - tokens.mean(dim=1, keepdim=True)) / (variance.sqrt() + 1e-6)


def at_hidden(config: ModelConfig, features: Tensor) -> Tensor:
    """Of 3 clips, the tokens under their masks."""
    hidden = masks(config)[1]
    return torch.stack([features[number, hidden[number]] for number in range(3)])


def test_dino_targets_are_its_normalized_features_of_the_hidden_tokens_in_order(
    dino: ModelConfig, clip: Tensor
) -> None:
    features = targets_of(dino, clip)

    state = original_state(SMALL["dino_s"], side=7)
    everything = normalized(original_patches(state, SMALL["dino_s"], first_frames(clip)))
    expected = at_hidden(dino, everything)
    assert features.shape == (3, 3 * 36, 32)
    assert features.dtype is torch.float32
    torch.testing.assert_close(features.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("teacher", ["dino_s", "dinov3_s"])
def test_targets_from_a_folder_are_those_of_its_own_library(
    tmp_path: Path, teacher: TeacherName, clip: Tensor
) -> None:
    network = write_folder(tmp_path, teacher, image_size=112)
    config = config_of(teacher, tmp_path)

    features = targets_of(config, clip)

    with torch.no_grad():
        tokens = network.double()(first_frames(clip).double()).last_hidden_state
    expected = normalized(tokens[:, tokens.shape[1] - 49 :])
    torch.testing.assert_close(features.double(), at_hidden(config, expected), rtol=1e-3, atol=1e-3)


def test_patches_of_14_px_are_laid_bilinearly_on_the_tokens(tmp_path: Path, clip: Tensor) -> None:
    network = write_folder(tmp_path, "dinov2_s", image_size=112)
    config = config_of("dinov2_s", tmp_path)

    features = targets_of(config, clip)

    with torch.no_grad():
        tokens = network.double()(first_frames(clip).double()).last_hidden_state
    assert tokens.shape[1] == 1 + 4 + 64
    grid = tokens[:, 5:].unflatten(1, (8, 8)).permute(0, 3, 1, 2)
    laid = F.interpolate(grid, (7, 7), mode="bilinear").flatten(2).transpose(1, 2)
    expected = normalized(laid)
    torch.testing.assert_close(features.double(), at_hidden(config, expected), rtol=1e-3, atol=1e-3)


def test_a_ramp_stays_a_ramp_on_another_grid() -> None:
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    ramp = torch.stack((rows, columns), dim=-1).flatten(0, 1)[None]

    laid = on_grid(ramp, 14).unflatten(1, (14, 14))[0]

    centres = (torch.arange(14) + 0.5) * 16 / 14 - 0.5
    torch.testing.assert_close(laid[:, 3, 0], centres)
    torch.testing.assert_close(laid[3, :, 1], centres)


def test_only_the_first_frame_of_each_tubelet_is_looked_at(dino: ModelConfig, clip: Tensor) -> None:
    second, first = clip.clone(), clip.clone()
    second[:, :, 1::2] = 255 - second[:, :, 1::2]
    first[:, :, 4] = 255 - first[:, :, 4]

    before = targets_of(dino, clip)

    assert torch.equal(targets_of(dino, second), before)
    assert not torch.allclose(targets_of(dino, first), before, atol=0.1)


def test_frames_are_seen_whole_with_what_is_hidden_and_what_is_visible(
    dino: ModelConfig, clip: Tensor
) -> None:
    changed = clip.clone()
    visible = split_tokens(dino, masks(dino)[0])[0][0, 0]
    row, column = divmod(int(visible), 7)
    changed[0, :, 0, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] = 0

    difference = (targets_of(dino, changed) - targets_of(dino, clip)).abs().amax(dim=(1, 2))

    assert difference[0] > 1e-3
    assert torch.equal(difference[1:], torch.zeros(2))


def test_clips_are_normalized_by_their_own_numbers(dino: ModelConfig, clip: Tensor) -> None:
    together = targets_of(dino, clip)

    hidden = masks(dino)[1]
    alone = TeacherTarget(dino, TEACHERS["dino_s"])(cut_tubelets(clip[1:2], 2, 16), hidden[1:2])

    torch.testing.assert_close(alone[0], together[1], rtol=1e-4, atol=1e-4)


def test_frames_are_looked_at_a_few_at_a_time(
    dino: ModelConfig, clip: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = targets_of(dino, clip)
    monkeypatch.setattr(teachers, "_PATCHES_AT_ONCE", 2 * 49 + 1)
    target = TeacherTarget(dino, TEACHERS["dino_s"])
    seen: list[int] = []
    target.teacher.network.register_forward_pre_hook(lambda _, frames: seen.append(len(frames[0])))

    parts = target(cut_tubelets(clip, 2, 16), masks(dino)[1])

    assert seen == [2, 2, 2, 2, 1]
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)


def test_other_sizes_than_the_position_table_s_are_taken(tmp_path: Path, clip: Tensor) -> None:
    path = tmp_path / "dino.pth"
    torch.save(original_state(SMALL["dino_s"], side=3), path)

    features = targets_of(config_of("dino_s", path), clip)

    state = original_state(SMALL["dino_s"], side=3)
    table = state["pos_embed"][:, 1:].unflatten(1, (3, 3)).permute(0, 3, 1, 2)
    larger = F.interpolate(table, (7, 7), mode="bicubic").flatten(2).transpose(1, 2)
    state["pos_embed"] = torch.cat((state["pos_embed"][:, :1], larger), dim=1)
    expected = normalized(original_patches(state, SMALL["dino_s"], first_frames(clip)))
    expected = at_hidden(config_of("dino_s"), expected)
    torch.testing.assert_close(features.double(), expected, rtol=1e-3, atol=1e-3)


def sigma_after_a_step(config: ModelConfig, clip: Tensor) -> Sigma:
    model = build_sigma(config, seed=0)
    model(clip, masks(config)[0]).loss.backward()
    return model


def network_of(model: Sigma) -> nn.Module:
    assert isinstance(model.target, TeacherTarget)
    return model.target.teacher.network


def test_the_teacher_is_in_no_state_and_among_no_parameters(
    dino: ModelConfig, clip: Tensor
) -> None:
    model = sigma_after_a_step(dino, clip)

    assert not [name for name in model.state_dict() if name.startswith("head")]
    assert not [name for name, _ in model.named_parameters() if name.startswith("head")]
    assert not [name for name, _ in model.named_buffers() if name.startswith("head")]
    assert network_of(model) not in set(model.modules())


def test_no_gradient_reaches_the_teacher(dino: ModelConfig, clip: Tensor) -> None:
    model = sigma_after_a_step(dino, clip)

    weights = list(network_of(model).parameters())
    assert not any(weight.requires_grad or weight.grad is not None for weight in weights)
    assert all(weight.grad is not None for weight in model.parameters())


def test_the_teacher_evaluates_while_the_model_trains(dino: ModelConfig, clip: Tensor) -> None:
    model = sigma_after_a_step(dino, clip).train()

    assert model.training
    assert not any(module.training for module in network_of(model).modules())


def test_casting_the_model_leaves_the_teacher_in_float32(dino: ModelConfig, clip: Tensor) -> None:
    model = sigma_after_a_step(dino, clip).double()

    loss = model(clip, masks(dino)[0]).loss

    assert {weight.dtype for weight in network_of(model).parameters()} == {torch.float32}
    assert loss.isfinite()


def test_the_teacher_moves_to_where_the_frames_are(dino: ModelConfig) -> None:
    target = TeacherTarget(dino, TEACHERS["dino_s"])
    assert next(target.teacher.network.parameters()).device.type == "cpu"

    target.teacher(torch.zeros(1, 3, 112, 112, dtype=torch.uint8, device="meta"))

    assert {weight.device.type for weight in target.teacher.network.parameters()} == {"meta"}


def test_a_model_is_built_counted_and_restored_without_the_weights(clip: Tensor) -> None:
    config = config_of("dino_s", Path("/nowhere/dino.pth"))

    model = build_sigma(config, seed=0)
    model.load_state_dict(build_sigma(config, seed=1).state_dict())
    copied = copy.deepcopy(model)

    assert num_parameters(copied) == num_parameters(model) > 0
    assert num_parameters(model.target) == 0
    with pytest.raises(ValueError, match=r"/nowhere/dino\.pth does not exist"):
        model(clip, masks(config)[0])


def test_reading_the_teacher_draws_no_random_numbers(dino: ModelConfig) -> None:
    state = torch.get_rng_state()

    assert isinstance(TeacherTarget(dino, TEACHERS["dino_s"]).teacher.network, nn.Module)

    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "settings",
    [{"assignment": "hard"}, {"assignment": "soft"}, {"objective": "l2"}],
    ids=["hard", "soft", "l2"],
)
def test_the_objectives_learn_from_a_teacher(
    dino: ModelConfig, clip: Tensor, settings: dict[str, object]
) -> None:
    config = ModelConfig.model_validate(dino.model_dump() | settings)
    model = build_sigma(config, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

    losses = []
    for _ in range(15):
        loss = model(clip, masks(config)[0]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert losses[-1] < 0.85 * losses[0]


def test_regression_is_the_mean_squared_distance_to_the_teacher(
    dino: ModelConfig, clip: Tensor
) -> None:
    config = ModelConfig.model_validate(dino.model_dump() | {"objective": "l2"})
    model = build_sigma(config, seed=0)
    nn.init.zeros_(model.decoder.head.weight)

    loss = model(clip, masks(config)[0]).loss

    torch.testing.assert_close(loss, targets_of(config, clip).square().mean())


def test_bfloat16_autocast_normalizes_in_float32(dino: ModelConfig, clip: Tensor) -> None:
    exact = targets_of(dino, clip)

    with torch.autocast("cpu", torch.bfloat16):
        features = targets_of(dino, clip)

    assert features.dtype is torch.float32
    assert F.cosine_similarity(features, exact, dim=-1).min() > 0.98
