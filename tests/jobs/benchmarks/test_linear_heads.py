"""Heads trained side by side: against PyTorch's own layers and AdamW, one head at a time."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sigma_pipeline.jobs.benchmarks.linear_heads import (
    Heads,
    Rates,
    Schedule,
    best_pairs,
    initial_weight,
    normalized,
    train_heads,
)

SAMPLES, DIM, CLASSES = 24, 6, 3
SCHEDULE = Schedule(steps=12, warmup_steps=3, batch=SAMPLES, label_smoothing=0.1)
RATES = Rates(
    learning=torch.tensor([[0.03, 0.1], [0.01, 0.3]]), decay=torch.tensor([[0.5, 0.0], [0.1, 1.0]])
)


@pytest.fixture
def features() -> Tensor:
    """In double precision: AdamW turns a gradient of nothing but rounding into a whole step."""
    draws = torch.Generator().manual_seed(0)
    return normalized(torch.randn(SAMPLES, DIM, generator=draws, dtype=torch.float64))


@pytest.fixture
def labels() -> Tensor:
    return torch.arange(SAMPLES) % 5 % CLASSES


@pytest.fixture
def is_seen() -> Tensor:
    """Two folds that see different halves."""
    half = torch.arange(SAMPLES) < SAMPLES // 2
    return torch.stack([half, ~half])


def train(features: Tensor, labels: Tensor, is_seen: Tensor, rates: Rates = RATES) -> Heads:
    return train_heads(features, labels, is_seen, rates, SCHEDULE, num_classes=CLASSES, seed=3)


def plain_logits(features: Tensor, labels: Tensor, learning: float, decay: float) -> Tensor:
    """Logits of a LayerNorm's gain and shift with a linear layer, after the same steps."""
    mean, deviation = features.mean(dim=0), features.std(dim=0, unbiased=False)
    inputs = (features - mean) / deviation
    gain, shift = (nn.Parameter(value.double()) for value in (torch.ones(DIM), torch.zeros(DIM)))
    linear = nn.Linear(DIM, CLASSES).double()
    linear.weight.data = initial_weight(CLASSES, DIM, torch.Generator().manual_seed(3)).double()
    nn.init.zeros_(linear.bias)
    groups = [
        {"params": [linear.weight], "weight_decay": decay},
        {"params": [linear.bias, gain, shift], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8)
    for step in range(SCHEDULE.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning * SCHEDULE.share(step)
        logits = linear(inputs * gain + shift)
        loss = F.cross_entropy(logits, labels, label_smoothing=SCHEDULE.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return linear(inputs * gain + shift).detach()


def test_each_head_is_what_pytorch_trains_by_itself_on_what_its_fold_sees(
    features: Tensor, labels: Tensor, is_seen: Tensor
) -> None:
    heads = train(features, labels, is_seen)

    for fold, seen in enumerate(is_seen):
        logits = heads.logits(features[seen])[fold]
        for pair in range(2):
            rates = RATES.learning[fold, pair].item(), RATES.decay[fold, pair].item()
            expected = plain_logits(features[seen], labels[seen], *rates)
            assert (logits[pair].T - expected).abs().max() < 1e-6
            assert expected.std() > 0.1  # it has learned something to agree on


def test_what_a_fold_does_not_see_changes_nothing_of_it(
    features: Tensor, labels: Tensor, is_seen: Tensor
) -> None:
    before = train(features, labels, is_seen).logits(features)
    labels = torch.where(is_seen[1], (labels + 1) % CLASSES, labels)

    after = train(features, labels, is_seen).logits(features)

    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])


def test_batches_go_through_all_samples_before_one_comes_again(
    features: Tensor, labels: Tensor
) -> None:
    schedule = Schedule(steps=3, warmup_steps=1, batch=8)
    seen = torch.ones(1, SAMPLES, dtype=torch.bool)
    rates = Rates(torch.tensor([[0.1]]), torch.tensor([[0.0]]))

    def logits(labels: Tensor, seed: int) -> Tensor:
        heads = train_heads(features, labels, seen, rates, schedule, num_classes=CLASSES, seed=seed)
        return heads.logits(features)

    plain = logits(labels, 0)
    assert torch.equal(plain, logits(labels, 0))
    assert not torch.equal(plain, logits(labels, 1))
    for sample in range(SAMPLES):
        changed = labels.clone()
        changed[sample] = (labels[sample] + 1) % CLASSES
        assert not torch.equal(plain, logits(changed, 0))


def test_the_rate_warms_up_and_falls_along_a_cosine() -> None:
    schedule = Schedule(steps=10, warmup_steps=2, batch=1)

    shares = [schedule.share(step) for step in range(10)]

    assert shares[:3] == [0.5, 1.0, 1.0]
    assert shares[6] == pytest.approx(0.5)
    assert 0 < shares[9] < 0.05


def test_most_right_answers_are_best_and_of_these_the_surest() -> None:
    features = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    labels = torch.tensor([0, 1, 1, 1])
    slopes = torch.tensor([5.0, 0.5, -1.0, 1.0])  # of class 0 over class 1
    weight = torch.stack([slopes, torch.zeros(4)], dim=1)[None, :, :, None].repeat(2, 1, 1, 1)
    heads = Heads(torch.zeros(1), weight, torch.zeros(2, 4, 2))
    held_out = torch.tensor([[True, True, True, True], [True, True, False, False]])

    best = best_pairs(heads, features, labels, held_out)

    # All but the third are right three times of four; of too much sureness, the wrong answer costs.
    # Where nothing is wrong, the steepest slope is the surest.
    losses = [
        F.cross_entropy(torch.stack([features[:, 0] * slope, torch.zeros(4)], 1), labels).item()
        for slope in slopes.tolist()
    ]
    assert best == [min((0, 1, 3), key=lambda pair: losses[pair]), 0]
    assert best[0] == 3


def test_a_feature_that_is_the_same_in_all_seen_samples_has_no_say_where_it_differs(
    features: Tensor, labels: Tensor
) -> None:
    features[:, 0] = 0.7
    seen = torch.ones(1, SAMPLES, dtype=torch.bool)
    rates = Rates(torch.tensor([[0.1]]), torch.tensor([[0.0]]))
    heads = train(features, labels, seen, rates)
    others = features.clone()
    others[:, 0] += 1.0

    assert (heads.logits(others) - heads.logits(features)).abs().max() < 1e-3
