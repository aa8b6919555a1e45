"""Linear probe on cached features: multinomial logistic regression over standardised features.

The fast variant of the linear benchmark (protocols, section 3): features of un-augmented clips are
computed once, so the protocol's trained LayerNorm becomes a standardisation with the training
split's statistics, and its 30 epochs of SGD the optimum of a convex problem, found by L-BFGS. The
weight decay is chosen on a part of the *training* samples; those of the test are looked at once.
"""

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveFloat, PositiveInt

from sigma_pipeline.jobs.benchmarks.benchmark import FeatureSet
from sigma_pipeline.jobs.benchmarks.classification import Classification, Classified

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

WEIGHT_DECAYS = (10.0, 1.0, 0.1, 0.01, 0.001, 0.0001)
"""Tried from strong to weak, so that each fit starts at the optimum of a simpler one."""

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class LinearProbe(Classification, frozen=True, extra="forbid"):
    """Minimises mean cross-entropy + ``weight_decay / 2 * |weight|^2``; the bias goes free.

    The seed draws the held-out part; everything else is determined.
    """

    name: ClassVar[str] = "linear"
    version: ClassVar[int] = 2

    weight_decay: PositiveFloat | None = None
    """Fixed; when absent, the weakest of ``WEIGHT_DECAYS`` down to which the held-out
    cross-entropy falls."""
    held_out_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of each training class that chooses the weight decay; all of it is fitted after. With
    ``leave_one_group_out``, share of the training groups, at least one: a performer who stood on
    both sides would choose too weak a decay."""
    iterations: PositiveInt = 1000
    """At most; a few hundred are enough to converge."""

    def classify(self, train: FeatureSet, test: FeatureSet, seed: int) -> Classified:
        """Logits of the probe fitted on ``train``.

        Raises:
            ValueError: all of ``train`` is of one class.
        """
        if len(np.unique(train.labels)) < 2:
            raise ValueError("all training samples are of one class: nothing to tell apart")
        mean, scale = train.pooled.mean(axis=0), train.pooled.std(axis=0)
        scale = np.maximum(scale, np.float32(1e-6))  # a constant feature stays one
        features = (train.pooled - mean) / scale
        decay, notes = self.weight_decay, []
        if decay is None:
            decay, remark = self._chosen_decay(features, train, seed)
            notes.append(remark)
        probe = self._probe()
        _fit(probe, features, train.labels, decay)
        # Classes without a training sample are not known to the probe, and never predicted.
        logits = np.full((test.num_samples, test.num_classes), -np.inf)
        logits[:, probe.classes_] = _logits(probe, (test.pooled - mean) / scale)
        return Classified(logits, notes)

    def _chosen_decay(self, features: Features, train: FeatureSet, seed: int) -> tuple[float, str]:
        fitted, held_out = self._parts(train, seed)
        if not held_out.any():
            middle = WEIGHT_DECAYS[len(WEIGHT_DECAYS) // 2]
            return middle, f"training split too small to hold a part out: weight decay {middle:g}"
        probe, labels = self._probe(), train.labels
        best, best_loss = WEIGHT_DECAYS[0], math.inf
        for decay in WEIGHT_DECAYS:
            _fit(probe, features[fitted], labels[fitted], decay)
            loss = _cross_entropy(probe, features[held_out], labels[held_out])
            if loss > best_loss:
                break  # weaker ones would over-fit more, and take longest to fit
            best, best_loss = decay, loss
        ends = (WEIGHT_DECAYS[0], WEIGHT_DECAYS[-1])
        edge = " (at the edge of the range)" if best in ends else ""
        return best, f"weight decay {best:g}{edge} chosen on {int(held_out.sum())} training clips"

    def _parts(self, train: FeatureSet, seed: int) -> tuple[Mask, Mask]:
        """The samples fitted while the weight decay is chosen, and those that choose it."""
        if not self.leave_one_group_out:
            held_out = stratified_part(train.labels, self.held_out_fraction, seed)
            return ~held_out, held_out
        held_out = group_part(train.groups, self.held_out_fraction, seed)
        known = np.unique(train.labels[~held_out])  # of other classes, the fit says nothing
        return ~held_out, held_out & np.isin(train.labels, known if len(known) > 1 else [])

    def _probe(self) -> "LogisticRegression":
        # Takes seconds to import, which tables of scores need not wait for.
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(max_iter=self.iterations, warm_start=True)


def stratified_part(labels: Labels, fraction: float, seed: int) -> Mask:
    """Marks a share of each class, rounded down: every class keeps at least one sample."""
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        chosen[members[: int(fraction * len(members))]] = True
    return chosen


def group_part(groups: Sequence[str | None], fraction: float, seed: int) -> Mask:
    """Marks all samples of a share of the groups: at least one, and never all of them."""
    names, group_of = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    wanted = min(max(1, int(fraction * len(names))), len(names) - 1)
    chosen = np.random.default_rng(seed).permutation(len(names))[:wanted]
    return np.isin(group_of, chosen)


def _fit(probe: "LogisticRegression", features: Features, labels: Labels, decay: float) -> None:
    """Fits ``probe`` in place, from where it stands; features [samples, dim]."""
    # scikit-learn sums the cross-entropy where we take the mean, and weighs that sum by C.
    probe.set_params(C=1 / (decay * len(labels)))
    with warnings.catch_warnings():
        # Separable classes under a weak decay are still moving after any number of iterations.
        warnings.filterwarnings("ignore", message="lbfgs failed to converge")
        probe.fit(features, labels)


def _cross_entropy(probe: "LogisticRegression", features: Features, labels: Labels) -> float:
    """Mean over samples, all of whose classes the probe knows."""
    logits = _logits(probe, features)
    logits -= logits.max(axis=1, keepdims=True)
    right = logits[np.arange(len(labels)), np.searchsorted(probe.classes_, labels)]
    return float((np.log(np.exp(logits).sum(axis=1)) - right).mean())


def _logits(probe: "LogisticRegression", features: Features) -> npt.NDArray[np.float64]:
    """[samples, classes the probe knows]; probabilities would underflow where it is sure."""
    logits = np.asarray(probe.decision_function(features), dtype=np.float64)
    # Two classes come as one column: how much the second is ahead.
    return logits if logits.ndim == 2 else np.stack([np.zeros_like(logits), logits], axis=1)
