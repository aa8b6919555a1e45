"""Many linear classifiers of the same features, trained side by side in one pass over them.

Each has a learning rate and a weight decay of its own; the samples, their order, and the start are
the same for all. As on the published probe (protocols 3), a head is the affine part of a LayerNorm
and a linear layer. Together they are one linear map of the normalized features, so that all heads
of all folds are one matrix product:

    W (gain x + shift) + b  =  (W gain) x + (W shift + b)

Axes: ``folds`` are divisions of the samples into seen and unseen ones, ``pairs`` those of rates.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EPS = 1e-6  # of the encoder's own norms
_BETA_1, _BETA_2, _ADAM_EPS = 0.9, 0.999, 1e-8
_LEAST_DEVIATION = 1e-3  # of a feature, relative to the typical one
_TINY = 1e-30
_SAMPLES_AT_ONCE = 1024
_INIT_STD = 0.02 * 0.001  # the published deviation and ``init_scale``: hardly any say at first


@dataclass(frozen=True)
class Rates:
    """Learning rate at its peak and weight decay of each head: [folds, pairs] both."""

    learning: Tensor
    decay: Tensor


@dataclass(frozen=True)
class Schedule:
    """How long, and on how many samples at a time."""

    steps: int
    warmup_steps: int
    batch: int
    label_smoothing: float = 0.0

    def share(self, step: int) -> float:
        """Of the peak learning rate: linear warm-up, then a cosine to 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Heads:
    """Trained classifiers of features that ``normalized`` has seen."""

    centre: Tensor
    """[dim], taken off the features first: rounding would otherwise eat what differs."""
    weight: Tensor
    """[folds, pairs, classes, dim]."""
    bias: Tensor
    """[folds, pairs, classes]."""

    def logits(self, features: Tensor) -> Tensor:
        """[folds, pairs, classes, samples] of features [samples, dim]."""
        return _logits(features - self.centre, self.weight, self.bias)


def normalized(features: Tensor) -> Tensor:
    """Features [..., dim] after a LayerNorm without its affine part, which the heads have."""
    return F.layer_norm(features, features.shape[-1:], eps=_EPS)


def train_heads(
    features: Tensor,
    labels: Tensor,
    is_seen: Tensor,
    rates: Rates,
    schedule: Schedule,
    *,
    num_classes: int,
    seed: int,
) -> Heads:
    """Trains a head for each fold and pair with AdamW on the cross-entropy.

    A fold's features are divided by their deviations over its seen samples. The heads' gain and
    shift could do this themselves, but steps of one size suit features of one size.

    Args:
        features: [samples, dim], as ``normalized`` returns them.
        labels: [samples], all of ``num_classes``.
        is_seen: [folds, samples], what the heads of a fold learn from; not empty.
        rates: of each head. The linear weights decay; biases, gain and shift do not.
        schedule: the same for all.
        num_classes: outputs of a head.
        seed: of the order of the samples and of the initial weights.
    """
    generator = torch.Generator().manual_seed(seed)
    centre = features.mean(dim=0)
    features, seen = features - centre, is_seen.to(features.dtype)
    weight = initial_weight(num_classes, features.shape[1], generator).to(features)
    shape = rates.learning.shape
    parameters = _Parameters(weight, shape, *_statistics(features, seen))
    optimizer = _AdamW(parameters.all(), rates)
    for step, batch in enumerate(_batches(len(features), schedule, generator)):
        logits = _logits(features[batch], *parameters.linear())
        loss = _loss(logits, labels[batch], seen[:, batch], schedule.label_smoothing)
        optimizer.step(torch.autograd.grad(loss, parameters.all()), schedule.share(step))
    weight, bias = parameters.linear()
    return Heads(centre, weight.detach(), bias.detach())


@torch.no_grad()
def best_pairs(heads: Heads, features: Tensor, labels: Tensor, held_out: Tensor) -> list[int]:
    """The pair of each fold with the most right answers, and of several the lowest cross-entropy.

    Args:
        heads: of all folds and pairs.
        features: [samples, dim], as ``normalized`` returns them.
        labels: [samples].
        held_out: [folds, samples], which of them count.
    """
    hits, losses = torch.zeros(2, *heads.bias.shape[:2], dtype=torch.float64)
    for first in range(0, len(labels), _SAMPLES_AT_ONCE):
        part = slice(first, first + _SAMPLES_AT_ONCE)
        logits, wanted = heads.logits(features[part]), labels[part]
        each = F.cross_entropy(
            logits.flatten(0, 1), wanted.expand(hits.numel(), -1), reduction="none"
        )
        counts = held_out[:, None, part]
        hits += ((logits.argmax(dim=2) == wanted).cpu() & counts).sum(dim=2)
        losses += (each.view(*hits.shape, -1).double().cpu() * counts).sum(dim=2)
    is_best = hits == hits.max(dim=1, keepdim=True).values
    best: list[int] = losses.where(is_best, math.inf).argmin(dim=1).tolist()
    return best


def initial_weight(num_classes: int, dim: int, generator: torch.Generator) -> Tensor:
    """[classes, dim]; all heads begin with the same."""
    weight = torch.empty(num_classes, dim)
    bound = 2 * _INIT_STD
    return nn.init.trunc_normal_(weight, std=_INIT_STD, a=-bound, b=bound, generator=generator)


class _Parameters:
    """What is learned by each head: [folds, pairs, ...]."""

    def __init__(self, weight: Tensor, shape: torch.Size, mean: Tensor, scale: Tensor) -> None:
        classes, dim = weight.shape
        self.weight = weight.expand(*shape, classes, dim).clone()
        self.bias = weight.new_zeros(*shape, classes)
        self.gain = weight.new_ones(*shape, dim)
        self.shift = weight.new_zeros(*shape, dim)
        for parameter in self.all():
            parameter.requires_grad_()
        self._mean, self._scale = mean[:, None, None], scale[:, None, None]

    def all(self) -> list[Tensor]:
        """The linear weight first."""
        return [self.weight, self.bias, self.gain, self.shift]

    def linear(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the map that a head comes to, standardizing included."""
        weight = self.weight * self.gain[:, :, None] * self._scale
        shift = (self.weight * self.shift[:, :, None]).sum(dim=-1)
        return weight, self.bias + shift - (weight * self._mean).sum(dim=-1)


class _AdamW:
    """``torch.optim.AdamW`` with rates of their own for each [folds, pairs]."""

    def __init__(self, parameters: list[Tensor], rates: Rates) -> None:
        self._parameters = parameters
        self._first = [torch.zeros_like(one) for one in parameters]
        self._second = [torch.zeros_like(one) for one in parameters]
        self._rates = rates
        self._steps = 0

    @torch.no_grad()
    def step(self, gradients: tuple[Tensor, ...], share: float) -> None:
        """Changes the parameters in place; the first of them decays."""
        self._steps += 1
        unbias = math.sqrt(1 - _BETA_2**self._steps)
        rates = share * self._rates.learning
        for number, gradient in enumerate(gradients):
            parameter = self._parameters[number]
            first = self._first[number].lerp_(gradient, 1 - _BETA_1)
            second = self._second[number].mul_(_BETA_2)
            second.addcmul_(gradient, gradient, value=1 - _BETA_2)
            own = (*rates.shape, *[1] * (parameter.ndim - rates.ndim))
            if number == 0:
                parameter.mul_(1 - (rates * self._rates.decay).view(own))
            direction = first / (second.sqrt().div_(unbias).add_(_ADAM_EPS))
            parameter.sub_(direction.mul_(rates.view(own) / (1 - _BETA_1**self._steps)))


def _statistics(features: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [folds, dim] over the seen samples, and what features are multiplied by after it.

    That is 1 over their deviation; but 0, no say at all, where they hardly vary: AdamW would follow
    their rounding, and among other samples they may vary.
    """
    weights = seen / seen.sum(dim=1, keepdim=True)
    mean = weights @ features
    variance = torch.stack(
        [own @ (features - middle).square() for own, middle in zip(weights, mean, strict=True)]
    )
    typical = variance.mean(dim=1, keepdim=True)
    varies = variance > _LEAST_DEVIATION**2 * typical
    return mean, torch.where(varies, variance.clamp(min=_TINY).rsqrt(), 0.0)


def _batches(num_samples: int, schedule: Schedule, generator: torch.Generator) -> Iterator[Tensor]:
    """Samples of each step; whole batches of one shuffled order after another."""
    size = min(schedule.batch, num_samples)
    per_epoch = num_samples // size
    order = torch.arange(num_samples)
    for step in range(schedule.steps):
        place = step % per_epoch
        if place == 0 and size < num_samples:
            order = torch.randperm(num_samples, generator=generator)
        yield order[place * size : (place + 1) * size]


def _logits(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[folds, pairs, classes, samples]: sums over classes are several times faster this way."""
    flat = weight.flatten(0, 2) @ features.T
    return flat.view(*bias.shape, len(features)) + bias[..., None]


def _loss(logits: Tensor, labels: Tensor, seen: Tensor, smoothing: float) -> Tensor:
    """Of each head the mean over what its fold sees, summed: no head feels another."""
    heads = logits.flatten(0, 1)
    wanted = labels.expand(len(heads), -1)
    each = F.cross_entropy(heads, wanted, reduction="none", label_smoothing=smoothing)
    share = seen / seen.sum(dim=1, keepdim=True).clamp(min=1)
    return (each.view(*logits.shape[:2], -1) * share[:, None]).sum()
