"""Masks: how much they hide, what they depend on, which tokens they stand for."""

import pytest
import torch

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.masking import split_tokens, tube_masks


def test_every_mask_hides_exactly_the_configured_number() -> None:
    config = ModelConfig()

    mask = tube_masks(config, range(50))

    assert mask.shape == (50, 196)
    assert mask.sum(dim=1).tolist() == [176] * 50


def test_a_mask_depends_on_its_own_seed_alone(config: ModelConfig) -> None:
    together = tube_masks(config, [5, 2**63 - 1, 9])

    assert torch.equal(together[1:2], tube_masks(config, [2**63 - 1]))
    assert torch.equal(together[2:], tube_masks(config, [9]))


def test_masks_neither_read_nor_change_the_global_random_state(config: ModelConfig) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = tube_masks(config, [1])
    after = torch.get_rng_state()
    torch.manual_seed(1)

    assert torch.equal(first, tube_masks(config, [1]))
    assert torch.equal(after, before)


def test_every_patch_is_hidden_equally_often(config: ModelConfig) -> None:
    hidden = tube_masks(config, range(2000)).float().mean(dim=0)

    torch.testing.assert_close(hidden, torch.full((16,), 0.75), rtol=0, atol=0.05)


def test_a_mask_is_the_same_on_every_machine_and_version(config: ModelConfig) -> None:
    hidden = tube_masks(config, [0])[0].nonzero().flatten().tolist()

    assert hidden == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]


def test_no_clips_give_no_masks(config: ModelConfig) -> None:
    assert tube_masks(config, []).shape == (0, 16)


def test_hidden_patches_are_hidden_in_every_slice(config: ModelConfig) -> None:
    mask = tube_masks(config, range(3))

    visible, hidden = split_tokens(config, mask)

    as_tubes = mask[:, None, :].expand(3, config.num_slices, 16).flatten(1)
    for row in range(3):
        assert hidden[row].tolist() == as_tubes[row].nonzero().flatten().tolist()
        assert visible[row].tolist() == (~as_tubes[row]).nonzero().flatten().tolist()


def test_a_mask_that_hides_another_number_is_refused(config: ModelConfig) -> None:
    mask = tube_masks(config, range(2))
    mask[1] = False

    with pytest.raises(ValueError, match=r"hide \[0, 12\] of 16 patches; mask_ratio=0.75 asks for"):
        split_tokens(config, mask)
