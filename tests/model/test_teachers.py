"""Frozen teachers as targets: what they see, and how it is normalized."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sigma_pipeline.model import teachers
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.masking import split_tokens
from sigma_pipeline.model.patches import cut_tubelets
from sigma_pipeline.model.teacher_shapes import TEACHERS, TeacherName
from sigma_pipeline.model.teachers import TeacherTarget, on_grid
from tests.model.teacher_files import (
    SMALL,
    config_of,
    masks,
    original_patches,
    original_state,
    targets_of,
    write_folder,
)

pytestmark = pytest.mark.usefixtures("small_teachers")

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def first_frames(clips: Tensor) -> Tensor:
    """Normalized first frames of the tubelets of all clips."""
    return ((clips[:, :, ::2].transpose(1, 2) / 255 - MEAN) / STD).flatten(0, 1)


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
    dino: ModelConfig, clips: Tensor
) -> None:
    features = targets_of(dino, clips)

    state = original_state(SMALL["dino_s"], side=7)
    everything = normalized(original_patches(state, SMALL["dino_s"], first_frames(clips)))
    expected = at_hidden(dino, everything)
    assert features.shape == (3, 3 * 36, 32)
    assert features.dtype is torch.float32
    torch.testing.assert_close(features.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("teacher", ["dino_s", "dinov3_s"])
def test_targets_from_a_folder_are_those_of_its_own_library(
    tmp_path: Path, teacher: TeacherName, clips: Tensor
) -> None:
    network = write_folder(tmp_path, teacher, image_size=112)
    config = config_of(teacher, tmp_path)

    features = targets_of(config, clips)

    with torch.no_grad():
        tokens = network.double()(first_frames(clips).double()).last_hidden_state
    expected = normalized(tokens[:, tokens.shape[1] - 49 :])
    torch.testing.assert_close(features.double(), at_hidden(config, expected), rtol=1e-3, atol=1e-3)


def test_patches_of_14_px_are_laid_bilinearly_on_the_tokens(tmp_path: Path, clips: Tensor) -> None:
    network = write_folder(tmp_path, "dinov2_s", image_size=112)
    config = config_of("dinov2_s", tmp_path)

    features = targets_of(config, clips)

    with torch.no_grad():
        tokens = network.double()(first_frames(clips).double()).last_hidden_state
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


def test_only_the_first_frame_of_each_tubelet_is_looked_at(
    dino: ModelConfig, clips: Tensor
) -> None:
    second, first = clips.clone(), clips.clone()
    second[:, :, 1::2] = 255 - second[:, :, 1::2]
    first[:, :, 4] = 255 - first[:, :, 4]

    before = targets_of(dino, clips)

    assert torch.equal(targets_of(dino, second), before)
    assert not torch.allclose(targets_of(dino, first), before, atol=0.1)


def test_frames_are_seen_whole_with_what_is_hidden_and_what_is_visible(
    dino: ModelConfig, clips: Tensor
) -> None:
    changed = clips.clone()
    visible = split_tokens(dino, masks(dino)[0])[0][0, 0]
    row, column = divmod(int(visible), 7)
    changed[0, :, 0, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] = 0

    difference = (targets_of(dino, changed) - targets_of(dino, clips)).abs().amax(dim=(1, 2))

    assert difference[0] > 1e-3
    assert torch.equal(difference[1:], torch.zeros(2))


def test_clips_are_normalized_by_their_own_numbers(dino: ModelConfig, clips: Tensor) -> None:
    together = targets_of(dino, clips)

    hidden = masks(dino)[1]
    alone = TeacherTarget(dino, TEACHERS["dino_s"])(cut_tubelets(clips[1:2], 2, 16), hidden[1:2])

    torch.testing.assert_close(alone[0], together[1], rtol=1e-4, atol=1e-4)


def test_frames_are_looked_at_a_few_at_a_time(
    dino: ModelConfig, clips: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = targets_of(dino, clips)
    monkeypatch.setattr(teachers, "_PATCHES_AT_ONCE", 2 * 49 + 1)
    target = TeacherTarget(dino, TEACHERS["dino_s"])
    seen: list[int] = []
    target.teacher.network.register_forward_pre_hook(lambda _, frames: seen.append(len(frames[0])))

    parts = target(cut_tubelets(clips, 2, 16), masks(dino)[1])

    assert seen == [2, 2, 2, 2, 1]
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)


def test_other_sizes_than_the_position_table_s_are_taken(tmp_path: Path, clips: Tensor) -> None:
    path = tmp_path / "dino.pth"
    torch.save(original_state(SMALL["dino_s"], side=3), path)

    features = targets_of(config_of("dino_s", path), clips)

    state = original_state(SMALL["dino_s"], side=3)
    table = state["pos_embed"][:, 1:].unflatten(1, (3, 3)).permute(0, 3, 1, 2)
    larger = F.interpolate(table, (7, 7), mode="bicubic").flatten(2).transpose(1, 2)
    state["pos_embed"] = torch.cat((state["pos_embed"][:, :1], larger), dim=1)
    expected = normalized(original_patches(state, SMALL["dino_s"], first_frames(clips)))
    expected = at_hidden(config_of("dino_s"), expected)
    torch.testing.assert_close(features.double(), expected, rtol=1e-3, atol=1e-3)


def test_the_teacher_moves_to_where_the_frames_are(dino: ModelConfig) -> None:
    target = TeacherTarget(dino, TEACHERS["dino_s"])
    assert next(target.teacher.network.parameters()).device.type == "cpu"

    target.teacher(torch.zeros(1, 3, 112, 112, dtype=torch.uint8, device="meta"))

    assert {weight.device.type for weight in target.teacher.network.parameters()} == {"meta"}


def test_reading_the_teacher_draws_no_random_numbers(dino: ModelConfig) -> None:
    state = torch.get_rng_state()

    assert isinstance(TeacherTarget(dino, TEACHERS["dino_s"]).teacher.network, nn.Module)

    assert torch.equal(torch.get_rng_state(), state)


def test_bfloat16_autocast_normalizes_in_float32(dino: ModelConfig, clips: Tensor) -> None:
    exact = targets_of(dino, clips)

    with torch.autocast("cpu", torch.bfloat16):
        features = targets_of(dino, clips)

    assert features.dtype is torch.float32
    assert F.cosine_similarity(features, exact, dim=-1).min() > 0.98
