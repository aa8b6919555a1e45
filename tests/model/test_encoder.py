"""The encoder: what it sees, what it does not, and which clips it takes."""

import pytest
import torch
from torch import Tensor

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.encoder import Encoder, Positions
from sigma_pipeline.model.masking import split_tokens
from sigma_pipeline.model.patches import cut_tubelets
from sigma_pipeline.model.sigma import build_sigma


@pytest.fixture
def encoder(config: ModelConfig) -> Encoder:
    return build_sigma(config, seed=0).encoder.eval()


def test_an_encoder_without_blocks_between_sees_visible_tokens_as_the_full_one_does(
    encoder: Encoder, clip: Tensor, mask: Tensor
) -> None:
    visible, _ = split_tokens(encoder.config, mask)
    tubelets = cut_tubelets(clip, 2, 8)
    encoder.blocks = torch.nn.ModuleList()  # attention is what lets tokens differ

    some, every = encoder(tubelets, visible), encoder(tubelets)

    for row in range(len(clip)):
        torch.testing.assert_close(some[row], every[row, visible[row]])


def test_all_tokens_given_as_visible_are_encoded_like_whole_clips(
    encoder: Encoder, clip: Tensor
) -> None:
    tubelets = cut_tubelets(clip, 2, 8)
    order = torch.randperm(64).expand(8, -1)

    torch.testing.assert_close(encoder(tubelets, order), encoder(tubelets)[:, order[0]])


def test_hidden_pixels_do_not_reach_the_features(
    encoder: Encoder, clip: Tensor, mask: Tensor
) -> None:
    visible, hidden = split_tokens(encoder.config, mask)
    tubelets = cut_tubelets(clip, 2, 8)
    before = encoder(tubelets, visible)

    tubelets[torch.arange(8)[:, None], hidden] = 0

    assert torch.equal(encoder(tubelets, visible), before)


def test_encode_gives_normalized_features_in_the_places_of_the_frame(
    encoder: Encoder, clip: Tensor
) -> None:
    features = encoder.encode(clip)

    assert features.shape == (8, 4, 4, 4, 48)
    assert torch.equal(features.flatten(1, 3), encoder(cut_tubelets(clip, 2, 8)))
    torch.testing.assert_close(features.mean(dim=-1), torch.zeros(8, 4, 4, 4), rtol=0, atol=1e-5)


def test_tokens_before_the_final_norm_are_those_it_is_applied_to(
    encoder: Encoder, clip: Tensor
) -> None:
    torch.nn.init.normal_(encoder.norm.weight)
    before = encoder.encode_unnormalized(clip)

    assert torch.equal(encoder.norm(before), encoder.encode(clip))
    halved = encoder.encode_unnormalized(clip, torch.full((8, len(encoder.blocks), 2), 0.5))
    assert not torch.allclose(halved, before)


def test_encoding_does_not_depend_on_the_rest_of_the_batch_or_on_the_call(
    encoder: Encoder, clip: Tensor
) -> None:
    features = encoder.encode(clip)

    assert torch.equal(encoder.encode(clip), features)
    torch.testing.assert_close(encoder.encode(clip[3:4]), features[3:4], rtol=1e-4, atol=1e-5)


def test_equal_patches_at_different_places_get_different_features(encoder: Encoder) -> None:
    grey = torch.full((1, 3, 8, 32, 32), 128, dtype=torch.uint8)

    features = encoder.encode(grey).flatten(0, 3)

    assert len(features.round(decimals=4).unique(dim=0)) == 64


def test_shorter_clips_are_encoded_too(encoder: Encoder, clip: Tensor) -> None:
    assert encoder.encode(clip[:, :, :4]).shape == (8, 2, 4, 4, 48)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 8, 32, 40), "frames are 32x40 px; this encoder was built for frame_size_px=32"),
        ((1, 3, 5, 32, 32), "clips have 5 frames; this encoder takes multiples of"),
        ((1, 3, 10, 32, 32), "up to num_frames=8"),
        ((1, 3, 0, 32, 32), "clips have 0 frames"),
    ],
)
def test_clips_of_another_shape_are_refused(
    encoder: Encoder, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        encoder.encode(torch.zeros(shape, dtype=torch.uint8))


def test_another_size_has_its_own_positions_and_the_same_weights(
    encoder: Encoder, config: ModelConfig
) -> None:
    larger = encoder.at_size(num_frames=4, frame_size_px=64)
    clip = torch.randint(0, 256, (1, 3, 4, 64, 64), dtype=torch.uint8)

    features = larger.encode(clip)

    settings = {**config.model_dump(), "num_frames": 4, "frame_size_px": 64}
    built = Encoder(ModelConfig.model_validate(settings)).eval()
    built.load_state_dict(encoder.state_dict())
    assert features.shape == (1, 2, 8, 8, 48)
    assert torch.equal(features, built.encode(clip))
    assert larger.patch_embed.proj.weight is encoder.patch_embed.proj.weight
    assert encoder.positions.shape == (64, 48)


def test_a_size_that_patches_do_not_divide_is_refused(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="frame_size_px=33 is not a multiple of patch_size_px=8"):
        encoder.at_size(num_frames=4, frame_size_px=33)


def test_whole_frames_of_any_shape_are_encoded_with_the_same_weights(encoder: Encoder) -> None:
    wide = encoder.at_shape(height_px=40, width_px=64)
    clip = torch.randint(0, 256, (2, 3, 4, 40, 64), dtype=torch.uint8)

    assert wide.encode(clip).shape == (2, 2, 5, 8, 48)
    assert wide.patch_embed.proj.weight is encoder.patch_embed.proj.weight
    assert encoder.frame_shape_px == (32, 32)
    with pytest.raises(ValueError, match="frames are 64x40 px; this encoder was built for 40x64"):
        wide.encode(clip.mT)


@pytest.mark.parametrize("positions", ["interpolated", "flattened"])
def test_the_shape_of_pre_training_has_its_own_positions(
    encoder: Encoder, clip: Tensor, positions: Positions
) -> None:
    same = encoder.at_shape(height_px=32, width_px=32, positions=positions)

    torch.testing.assert_close(same.encode(clip), encoder.encode(clip))


def test_interpolated_positions_keep_to_the_place_in_the_frame_and_flattened_ones_do_not(
    encoder: Encoder,
) -> None:
    finer = encoder.at_shape(height_px=96, width_px=96).positions.view(4, 12, 12, 48)
    counted = encoder.at_shape(height_px=96, width_px=96, positions="flattened").positions

    own = encoder.positions.view(4, 4, 4, 48)
    # The middle one of 3 x 3 finer tokens lies where the coarse token does.
    torch.testing.assert_close(finer[:, 1::3, 1::3], own)
    torch.testing.assert_close(counted[:64], encoder.positions)


def test_a_shape_that_patches_do_not_divide_is_refused(encoder: Encoder) -> None:
    with pytest.raises(ValueError, match="frames of 40x33 px cannot be cut into patches of patch"):
        encoder.at_shape(height_px=40, width_px=33)
