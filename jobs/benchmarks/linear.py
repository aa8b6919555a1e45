"""Linear probe on cached features: a whole grid of learning rates and weight decays in one pass.

The fast variant of the linear benchmark (protocols, section 3). It trains what the published script
trains, the affine part of a LayerNorm and a linear layer, with AdamW, a warm-up and a cosine; but
on features of un-augmented clips, computed once, after the encoder's own final norm. The pair of
rates is chosen on a part of the *training* samples; those of the test are looked at once.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from sigma_pipeline.jobs.benchmarks.benchmark import Cost, FeatureSet
from sigma_pipeline.jobs.benchmarks.classification import (
    Classification,
    Classified,
    Fold,
    merged_views,
)
from sigma_pipeline.jobs.benchmarks.held_out import Mask, group_part, stratified_part
from sigma_pipeline.jobs.benchmarks.linear_heads import (
    Heads,
    Rates,
    Schedule,
    best_pairs,
    normalized,
    train_heads,
)

LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
WEIGHT_DECAYS = (0.0, 0.01, 0.1)

_WARMUP_SHARE = 5 / 30  # of the published 30 epochs
_NUMBERS_AT_ONCE = 1 << 26  # weights or logits of all heads trained together; five times 256 MB
_SAMPLES_AT_ONCE = 1024


class Pair(NamedTuple):
    """Rates of one head."""

    learning_rate: float
    weight_decay: float

    def is_edge_of(self, pairs: Sequence["Pair"]) -> bool:
        """Whether ``pairs`` end here, so that a better one may lie outside; no decay is no end."""
        learning, decays = ({pair[axis] for pair in pairs} for axis in (0, 1))
        is_end = len(learning) > 1 and self.learning_rate in (min(learning), max(learning))
        return is_end or (len(decays) > 1 and self.weight_decay == max(decays))

    def __str__(self) -> str:
        """For notes."""
        return f"learning rate {self.learning_rate:g} and weight decay {self.weight_decay:g}"


_UNTRIED = Pair(0.01, 0.01)
"""What is not fixed, where nothing can be held out to choose it."""


class LinearProbe(Classification, frozen=True, extra="forbid"):
    """LayerNorm and linear layer; the pair with the best held-out accuracy, fitted on all.

    Equal accuracies are told apart by the held-out cross-entropy. The seed draws the held-out part,
    the initial weights and the order of the samples. On a CPU equal seeds give equal scores.
    """

    name: ClassVar[str] = "linear"
    version: ClassVar[int] = 4
    cost: ClassVar[Cost] = "cheap"
    summary: ClassVar[str] = "Linear probe on cached frozen features"

    learning_rate: PositiveFloat | None = None
    """Fixed; when absent, one of ``LEARNING_RATES``."""
    weight_decay: NonNegativeFloat | None = None
    """Fixed; when absent, one of ``WEIGHT_DECAYS``."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    held_out_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of the training groups, at least one, that chooses the pair; all of it is fitted after.
    A performer who stood on both sides would choose for himself alone. Where a training sample has
    no group, or all have the same, share of each training class."""
    epochs: PositiveInt = 30
    min_steps: PositiveInt = 1000
    """Small splits are gone through more often."""
    batch_clips: PositiveInt = 2048

    def classify(
        self, train: FeatureSet, test: FeatureSet, folds: Sequence[Fold], seed: int
    ) -> Iterator[Classified]:
        """Log-probabilities by heads fitted on ``train``; folds are trained side by side.

        Raises:
            ValueError: all that a fold learns from is of one class.
        """
        if any(len(np.unique(train.labels[fold.train])) < 2 for fold in folds):
            raise ValueError("all training samples are of one class: nothing to tell apart")
        width = max(train.pooled.shape[-1], min(self.batch_clips, train.num_samples))
        step = max(1, _NUMBERS_AT_ONCE // (len(self._pairs()) * train.num_classes * width))
        for first in range(0, len(folds), step):
            yield from self._classified(train, test, folds[first : first + step], seed)

    def _classified(
        self, train: FeatureSet, test: FeatureSet, folds: Sequence[Fold], seed: int
    ) -> Iterator[Classified]:
        data = _Data.of(train)
        pairs, notes = self._chosen_pairs(train, data, folds, seed)
        is_seen = np.stack([fold.train for fold in folds])
        heads = self._fitted(data, is_seen, _rates([[pair] for pair in pairs], data), seed)
        for number, fold in enumerate(folds):
            class_scores = _merged_log_shares(heads, number, test.pooled[fold.test], data)
            unseen = np.setdiff1d(np.arange(train.num_classes), train.labels[fold.train])
            class_scores[:, unseen] = -np.inf
            yield Classified(class_scores, notes[number])

    def _chosen_pairs(
        self, train: FeatureSet, data: "_Data", folds: Sequence[Fold], seed: int
    ) -> tuple[list[Pair], list[list[str]]]:
        """Of each fold, and what there is to say of it."""
        pairs = self._pairs()
        if len(pairs) == 1:
            return pairs * len(folds), [[] for _ in folds]
        held_out = np.stack([self._held_out(train, fold, seed) for fold in folds])
        is_seen = np.stack([fold.train for fold in folds]) & ~held_out
        heads = self._fitted(data, is_seen, _rates([pairs] * len(folds), data), seed)
        held_out &= np.stack([_is_known(train.labels, seen) for seen in is_seen])
        best = best_pairs(heads, data.features, data.labels, torch.from_numpy(held_out))
        clips = held_out.sum(axis=1).tolist()
        chosen = [
            pairs[number] if count else self._untried()
            for count, number in zip(clips, best, strict=True)
        ]
        return chosen, [[_remark(*one, pairs)] for one in zip(chosen, clips, strict=True)]

    def _untried(self) -> Pair:
        learning, decay = self.learning_rate, self.weight_decay
        return Pair(
            _UNTRIED.learning_rate if learning is None else learning,
            _UNTRIED.weight_decay if decay is None else decay,
        )

    def _pairs(self) -> list[Pair]:
        learning = LEARNING_RATES if self.learning_rate is None else (self.learning_rate,)
        decays = WEIGHT_DECAYS if self.weight_decay is None else (self.weight_decay,)
        return [Pair(*pair) for pair in product(learning, decays)]

    def _held_out(self, train: FeatureSet, fold: Fold, seed: int) -> Mask:
        """What of the fold's training samples chooses the pair: [samples]."""
        fraction, chosen = self.held_out_fraction, np.zeros(train.num_samples, dtype=np.bool_)
        groups = [train.groups[i] for i in np.flatnonzero(fold.train).tolist()]
        has_groups = None not in groups and len(set(groups)) > 1
        if has_groups or self.leave_one_group_out:
            chosen[fold.train] = group_part(groups, fraction, seed)
        else:
            chosen[fold.train] = stratified_part(train.labels[fold.train], fraction, seed)
        return chosen

    def _fitted(self, data: "_Data", is_seen: Mask, rates: Rates, seed: int) -> Heads:
        batches = max(1, len(data.labels) // self.batch_clips)
        steps = max(self.min_steps, self.epochs * batches)
        warmup = max(1, round(_WARMUP_SHARE * steps))
        schedule = Schedule(steps, warmup, self.batch_clips, self.label_smoothing)
        seen = torch.from_numpy(is_seen).to(data.features.device)
        return train_heads(
            data.features,
            data.labels,
            seen,
            rates,
            schedule,
            num_classes=data.num_classes,
            seed=seed,
        )


class _Data(NamedTuple):
    """A training split on the device."""

    features: Tensor
    """[samples, dim], normalized."""
    labels: Tensor
    num_classes: int

    @classmethod
    def of(cls, train: FeatureSet) -> "_Data":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        pooled = torch.from_numpy(train.pooled.mean(axis=1)).to(device)
        labels = torch.tensor(train.labels, device=device)
        return cls(normalized(pooled), labels, train.num_classes)


def _rates(pairs: Sequence[Sequence[Pair]], data: _Data) -> Rates:
    """Of each fold's pairs."""
    table = torch.tensor(pairs, device=data.features.device)
    return Rates(table[..., 0], table[..., 1])


def _is_known(labels: npt.NDArray[np.int64], is_seen: Mask) -> Mask:
    """Marks samples of which heads that have seen these say something: [samples]."""
    known = np.unique(labels[is_seen])
    return np.isin(labels, known if len(known) > 1 else [])


@torch.no_grad()
def _merged_log_shares(
    heads: Heads, fold: int, pooled: npt.NDArray[np.float32], data: _Data
) -> npt.NDArray[np.float64]:
    """[samples, classes] from [samples, views, dim], by the only head of ``fold``."""
    own = Heads(heads.centre, heads.weight[fold : fold + 1], heads.bias[fold : fold + 1])
    parts = [np.empty((0, data.num_classes))]
    for first in range(0, len(pooled), _SAMPLES_AT_ONCE):
        clips = torch.from_numpy(pooled[first : first + _SAMPLES_AT_ONCE])
        views = normalized(clips.to(heads.weight.device)).flatten(0, 1)
        logits = own.logits(views)[0, 0].T
        parts.append(merged_views(logits.reshape(*clips.shape[:2], -1)))
    return np.concatenate(parts)


def _remark(pair: Pair, clips: int, pairs: Sequence[Pair]) -> str:
    if not clips:
        return f"training split too small to hold a part out: {pair}"
    edge = " (at the edge of the grid)" if pair.is_edge_of(pairs) else ""
    return f"{pair}{edge} chosen on {clips} held-out training clips, then fitted on all"


BENCHMARK = LinearProbe
