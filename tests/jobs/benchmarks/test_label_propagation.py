"""Labels go where the protocol says, token by token, whatever the size of the parts."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sigma_pipeline.jobs.benchmarks import label_propagation
from sigma_pipeline.jobs.benchmarks.label_propagation import (
    Propagation,
    carried_labels,
    labels_of_mask,
    mask_of_labels,
    next_labels,
)


def directions(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def soft(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(9)).softmax(dim=-1)


def reference(frame: Tensor, context: Tensor, labels: Tensor, how: Propagation) -> Tensor:
    """One token, one candidate at a time, as protocols 7 words it."""
    frames, rows, columns = context.shape[:3]
    own = torch.zeros(rows, columns, labels.shape[-1], dtype=torch.float64)
    for row in range(rows):
        for column in range(columns):
            found = []
            for place in range(frames):
                for other_row in range(rows):
                    for other in range(columns):
                        away = max(abs(other_row - row), abs(other - column))
                        if how.radius and away > how.radius:
                            continue
                        one = context[place, other_row, other].double()
                        cosine = float(frame[row, column].double() @ one)
                        weight = math.exp(cosine / how.temperature)
                        found.append((weight, labels[place, other_row, other].double()))
            found.sort(key=lambda pair: -pair[0])
            kept = found[: how.topk]
            total = sum(weight for weight, _ in kept)
            for weight, label in kept:
                own[row, column] += weight / total * label
    return own


@pytest.mark.parametrize(
    "how",
    [
        Propagation(radius=1, topk=5),
        Propagation(radius=2, topk=3, temperature=0.02),
        Propagation(radius=0, topk=7),
        Propagation(radius=1, topk=1000),
        Propagation(radius=9, topk=1),
    ],
)
@pytest.mark.parametrize("most_affinities", [1, 500, 1 << 22])
def test_labels_are_those_of_explicit_loops(
    monkeypatch: pytest.MonkeyPatch, how: Propagation, most_affinities: int
) -> None:
    monkeypatch.setattr(label_propagation, "_MOST_AFFINITIES", most_affinities)
    frame, context = directions(5, 7, 6), directions(3, 5, 7, 6, seed=1)
    labels = soft(3, 5, 7, 4)

    own = next_labels(frame, context, labels, how)

    torch.testing.assert_close(
        own, reference(frame, context, labels, how).float(), rtol=1e-4, atol=1e-5
    )


def test_labels_that_tie_for_the_last_place_all_count() -> None:
    same = F.normalize(torch.ones(1, 3, 4), dim=-1)
    labels = torch.eye(3)[None, None]

    own = next_labels(same, same[None], labels, Propagation(radius=0, topk=1))

    torch.testing.assert_close(own, torch.full((1, 3, 3), 1 / 3))


def test_what_is_out_of_reach_has_no_say_however_alike() -> None:
    context = directions(1, 1, 9, 64)
    frame = context[0].roll(4, dims=1)  # each token's own image is 4 tokens away, or 5 around
    labels = torch.eye(9)[None, None]

    near = next_labels(frame, context, labels, Propagation(radius=3))
    wide = next_labels(frame, context, labels, Propagation(radius=4))

    reach = (torch.arange(9)[:, None] - torch.arange(9)).abs()
    assert (near[0][reach > 3] == 0).all()
    assert (near[0][reach <= 3] > 0).any()
    assert wide[0].argmax(dim=1)[4:].tolist() == list(range(5))


def test_frames_that_are_all_alike_keep_the_first_mask() -> None:
    mask = torch.zeros(48, 64, dtype=torch.uint8)
    mask[8:24, 16:40], mask[32:48, 0:16] = 1, 2
    still = directions(6, 8, 256)

    *_, last = carried_labels([still] * 12, mask, Propagation(topk=1))
    found = mask_of_labels(last, patch_size_px=8, height=48, width=64)

    assert torch.equal(last.argmax(dim=-1), mask[4::8, 4::8].long())
    assert (found != mask).float().mean() < 0.04  # corners are rounded by less than a patch
    assert torch.equal(found[4::8, 4::8], mask[4::8, 4::8])


def test_the_first_frame_stays_in_the_context_and_the_last_ones_go() -> None:
    seen: list[int] = []

    def count(frame: Tensor, context: Tensor, labels: Tensor, how: Propagation) -> Tensor:
        seen.append(len(context))
        assert torch.equal(context[0], first)
        return labels[0]

    first = directions(1, 1, 4)
    frames = [first, *(directions(1, 1, 4, seed=seed) for seed in range(1, 6))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_propagation, "next_labels", count)
        list(carried_labels(frames, torch.ones(4, 4, dtype=torch.uint8), Propagation(2)))

    assert seen == [1, 2, 3, 3, 3]


def test_a_token_is_of_the_object_at_its_middle() -> None:
    mask = torch.zeros(4, 8, dtype=torch.uint8)
    mask[2:, 2:5] = 2

    labels = labels_of_mask(mask, 1, 2)

    assert labels.tolist() == [[[0, 0, 1], [1, 0, 0]]]


def test_labels_become_the_mask_of_the_size_that_frames_have() -> None:
    labels = F.one_hot(torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1]])).float()

    found = mask_of_labels(labels, patch_size_px=4, height=6, width=20)

    assert found.shape == (6, 20)
    assert found.dtype is torch.uint8
    assert found.tolist() == [[0] * 10 + [1] * 10] * 6


def test_a_faint_object_is_spread_to_the_full_range_and_an_absent_one_is_not() -> None:
    labels = torch.tensor([[[0.9, 0.1, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])

    found = mask_of_labels(labels, patch_size_px=1, height=1, width=3)

    assert found.tolist() == [[1, 0, 0]]
