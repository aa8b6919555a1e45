"""The network that corrects guesses of cycle lengths, and its loss."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.cycle_counter import CycleCounter, cycle_loss, right_and_offsets
from sigma_pipeline.model.encoder import Encoder
from tests.tiny import TINY_MODEL


@pytest.fixture
def counter() -> CycleCounter:
    torch.manual_seed(0)
    return CycleCounter(Encoder(ModelConfig.model_validate(TINY_MODEL)), 7, seed=3)


def clips(count: int, seed: int = 0) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 8, 32, 32), dtype=torch.uint8, generator=draws)


def test_each_half_is_a_clip_of_its_own_and_both_sides_see_both(counter: CycleCounter) -> None:
    shown, other = clips(1), clips(1, seed=1)
    half_changed = torch.cat([shown[:, :, :4], other[:, :, 4:]], dim=2)
    swapped = torch.cat([shown[:, :, 4:], shown[:, :, :4]], dim=2)

    said, changed, turned = (counter(clip) for clip in (shown, half_changed, swapped))

    assert said.shape == (1, 2, 7, 3)
    for side in (0, 1):
        assert not torch.allclose(said[:, side], changed[:, side], atol=1e-4)
    assert not torch.allclose(said, turned, atol=1e-4)


def test_clips_of_a_batch_do_not_meet(counter: CycleCounter) -> None:
    batch = clips(3)

    alone = torch.cat([counter(clip[None]) for clip in batch])

    assert torch.allclose(counter(batch), alone, atol=1e-5)


def test_the_encoder_has_no_norm_of_its_own_and_the_head_follows_its_seed() -> None:
    config = ModelConfig.model_validate(TINY_MODEL)
    one, same, other = (CycleCounter(Encoder(config), 7, seed=seed) for seed in (3, 3, 4))

    assert not [name for name, _ in one.named_parameters() if name.startswith("encoder.norm")]
    assert torch.equal(one.counter.head.weight, same.counter.head.weight)
    assert not torch.equal(one.counter.head.weight, other.counter.head.weight)


def facts(labels: list[list[int]], offsets: list[list[float]]) -> Tensor:
    """Of one clip, [1, sides, 2, anchors]."""
    pairs = zip(labels, offsets, strict=True)
    return torch.tensor([[[label, offset] for label, offset in pairs]], dtype=torch.float32)


def test_the_loss_is_that_of_the_formula() -> None:
    said = torch.randn(1, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    known = facts([[0, 1, 1], [-1, -1, -1]], [[0.0, 0.4, -0.1], [0, 0, 0]])

    loss = cycle_loss(said, known, box_weight=50.0)

    entropy = F.cross_entropy(said[0, 0, :, :2], torch.tensor([0, 1, 1]))
    box = F.smooth_l1_loss(said[0, 0, 1:, 2], torch.tensor([0.4, -0.1]))
    assert loss == pytest.approx((entropy + 50 * box).item())


def test_a_clip_of_which_nothing_is_known_neither_teaches_nor_breaks() -> None:
    said = torch.randn(1, 2, 7, 3).requires_grad_()

    loss = cycle_loss(said, facts([[-1] * 7] * 2, [[0.0] * 7] * 2), box_weight=50.0)
    loss.backward()  # type: ignore[no-untyped-call]

    assert loss == 0
    assert said.grad is not None
    assert not said.grad.any()


def test_a_clip_weighs_the_same_whatever_it_is_batched_with() -> None:
    said = torch.randn(2, 2, 7, 3)
    much = facts([[0, 1, 1, 1, 1, 1, 0]] * 2, [[0, 0.4, 0.2, 0, -0.2, -0.4, 0]] * 2)
    little = facts([[-1] * 7, [0] * 7], [[0.0] * 7] * 2)

    together = cycle_loss(said, torch.cat([much, little]), 50.0)

    apart = (cycle_loss(said[:1], much, 50.0) + cycle_loss(said[1:], little, 50.0)) / 2
    assert together.item() == pytest.approx(apart.item())


def test_what_is_said_is_read_as_it_is_learned() -> None:
    said = torch.zeros(1, 2, 7, 3)
    said[0, 1, 4] = torch.tensor([0.0, 2.0, 0.3])

    is_right, offsets = right_and_offsets(said)

    assert is_right[0, 0].tolist() == [0.5] * 7
    assert is_right[0, 1, 4] == pytest.approx(torch.tensor(2.0).sigmoid().item())
    assert offsets[0, 1, 4] == pytest.approx(0.3)
