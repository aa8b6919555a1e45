"""Mixup and CutMix: neighbours are mixed, the same way in batches of any size."""

import numpy as np
import pytest
import torch

from sigma_pipeline.data_prep.mixing import Mix, Mixing, draw_mix, mix_batch

PLAIN = Mixing(label_smoothing=0.0)


def clips(count: int = 4) -> torch.Tensor:
    """Each filled with its own number."""
    return torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1, 1).expand(count, 3, 2, 8, 8)


def test_mixup_blends_neighbours_and_their_labels_by_the_same_share() -> None:
    mixed, targets = mix_batch(clips(), torch.arange(4), 4, PLAIN, Mix(0.75, None))

    assert mixed[:, 0, 0, 0, 0].tolist() == [0.25, 0.75, 2.25, 2.75]
    assert targets[0].tolist() == [0.75, 0.25, 0, 0]
    assert targets[3].tolist() == [0, 0, 0.25, 0.75]


def test_cutmix_weighs_labels_by_the_pixels_that_are_left() -> None:
    mixed, targets = mix_batch(clips(), torch.arange(4), 4, PLAIN, Mix(0.5, (0.0, 0.0, 0.5, 1.0)))

    assert (mixed[0, :, :, :4] == 1).all()
    assert (mixed[0, :, :, 4:] == 0).all()
    assert targets[0].tolist() == [0.5, 0.5, 0, 0]


def test_targets_are_smoothed_as_published() -> None:
    _, targets = mix_batch(clips(2), torch.tensor([0, 0]), 10, Mixing(), Mix(0.5, None))

    assert targets[0, 0].item() == pytest.approx(0.9 + 0.1 / 10)
    assert targets[0, 1:].tolist() == pytest.approx([0.01] * 9)


def test_a_batch_in_parts_is_mixed_as_a_whole_one() -> None:
    clip, labels = torch.rand(8, 3, 2, 8, 8), torch.arange(8)
    mix = draw_mix(PLAIN, np.random.default_rng(1))

    whole, targets = mix_batch(clip, labels, 8, PLAIN, mix)
    parts = [mix_batch(clip[i : i + 2], labels[i : i + 2], 8, PLAIN, mix) for i in (0, 2, 4, 6)]

    assert torch.equal(whole, torch.cat([part[0] for part in parts]))
    assert torch.equal(targets, torch.cat([part[1] for part in parts]))


def test_an_odd_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="even number of clips, not 3"):
        mix_batch(clips(3), torch.arange(3), 3, PLAIN, Mix(0.5, None))


def test_both_kinds_come_equally_often() -> None:
    mixes = [draw_mix(PLAIN, np.random.default_rng(seed)) for seed in range(1000)]

    assert sum(mix.box is not None for mix in mixes) / 1000 == pytest.approx(0.5, abs=0.05)
    assert all(0 <= mix.kept <= 1 for mix in mixes)


def test_without_any_alpha_nothing_is_mixed() -> None:
    mix = draw_mix(Mixing(mixup_alpha=0, cutmix_alpha=0), np.random.default_rng(0))
    mixed, targets = mix_batch(clips(), torch.arange(4), 4, PLAIN, mix)

    assert torch.equal(mixed, clips())
    assert targets.argmax(1).tolist() == [0, 1, 2, 3]
