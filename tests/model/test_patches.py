"""Tubelets: which pixels they hold, and that embedding them is the convolution they stand for."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sigma_pipeline.model.patches import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PatchEmbed,
    cut_tubelets,
    pick_tokens,
    position_table,
)


def test_a_tubelet_holds_the_pixels_of_its_place(clip: Tensor) -> None:
    tubelets = cut_tubelets(clip, tubelet_frames=2, patch_size=8)

    assert tubelets.shape == (8, 64, 3, 128)
    expected = clip[5, :, 4:6, 8:16, 24:32]  # slice 2, row 1, column 3
    assert torch.equal(tubelets[5, 2 * 16 + 1 * 4 + 3], expected.flatten(1))


def test_tokens_are_picked_per_clip_in_the_given_order() -> None:
    tokens = torch.arange(24).view(2, 4, 3)

    picked = pick_tokens(tokens, torch.tensor([[3, 0], [1, 1]]))

    assert torch.equal(picked[0], tokens[0, [3, 0]])
    assert torch.equal(picked[1], tokens[1, [1, 1]])


def test_embedding_is_a_convolution_of_the_normalized_clip(clip: Tensor) -> None:
    embed = PatchEmbed(embed_dim=10, tubelet_frames=2, patch_size=8)
    mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1, 1)
    std = torch.tensor(IMAGENET_STD).view(3, 1, 1, 1)

    tokens = embed(cut_tubelets(clip, 2, 8))

    normalized = (clip / 255 - mean) / std
    convolved = F.conv3d(normalized, embed.proj.weight, embed.proj.bias, stride=(2, 8, 8))
    torch.testing.assert_close(tokens, convolved.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_embedding_parameters_are_drawn_like_those_of_a_convolution() -> None:
    projection = PatchEmbed(embed_dim=256, tubelet_frames=2, patch_size=8).proj
    convolution = torch.nn.Conv3d(3, 256, kernel_size=(2, 8, 8))

    for ours, theirs in ((projection.weight, convolution.weight), (projection.bias,) * 2):
        assert ours.shape == theirs.shape
        assert ours.abs().max() <= (3 * 2 * 8 * 8) ** -0.5
        torch.testing.assert_close(ours.std(), theirs.std(), rtol=0.05, atol=0)


def test_positions_are_the_sines_and_cosines_of_the_token_number() -> None:
    table = position_table(50, 8).double()

    token = torch.arange(50).double()
    torch.testing.assert_close(table[:, 0], token.sin(), rtol=0, atol=1e-6)
    torch.testing.assert_close(table[:, 1], token.cos(), rtol=0, atol=1e-6)
    torch.testing.assert_close(table[:, 6], (token / 10000**0.75).sin(), rtol=0, atol=1e-6)
    torch.testing.assert_close(table[:, 7], (token / 10000**0.75).cos(), rtol=0, atol=1e-6)


def test_a_shorter_clip_uses_the_first_rows_of_the_same_table() -> None:
    assert torch.equal(position_table(1568, 48)[:392], position_table(392, 48))
