"""Weighted k-nearest-neighbour classification of frozen features (protocols, section 4).

The protocol as it was meant: the bank is the training split, a query is never in its own bank, all
views of a video are one query, and neighbours vote with ``exp(cosine / temperature)``.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from sigma_pipeline.jobs.benchmarks.benchmark import Cost, FeatureSet
from sigma_pipeline.jobs.benchmarks.classification import (
    SHOWN_QUERIES,
    Classification,
    Classified,
    Fold,
    evenly_chosen,
)
from sigma_pipeline.jobs.benchmarks.figures import Neighbours

_SIMILARITIES_AT_ONCE = 1 << 26  # 256 MB, and as much being made, however large the bank is
_SAMPLES_AT_ONCE = 4096
_SHOWN_NEIGHBOURS = 5


class Knn(Classification, frozen=True, extra="forbid"):
    """Cosine k-NN.

    ``k`` is capped at the mean number of bank clips per class: beyond it most votes must come from
    other classes, whatever the features. Capping it at the smallest class instead would let one
    class of few clips decide how all others are judged, so that is only said, as capping is.
    """

    name: ClassVar[str] = "knn"
    version: ClassVar[int] = 2
    cost: ClassVar[Cost] = "cheap"
    summary: ClassVar[str] = "Weighted k nearest neighbours of frozen features"

    k: PositiveInt = 200
    temperature: PositiveFloat = 0.07

    def classify(
        self, train: FeatureSet, test: FeatureSet, folds: Sequence[Fold], seed: int
    ) -> Iterator[Classified]:
        """Votes of the bank ``train``; nothing in it is random."""
        del seed
        for fold in folds:
            yield self._classified(train.part(fold.train), test.part(fold.test))

    def _classified(self, bank: FeatureSet, queries: FeatureSet) -> Classified:
        k, notes = self._capped_k(bank.labels)
        shared = set(bank.keys) & set(queries.keys)
        if shared:
            notes.append(f"{len(shared)} queries are in the bank too: each left out of its own")
        votes = [
            votes_of(similarity, bank.labels, queries.num_classes, k, self.temperature)
            for similarity in similarities(bank, queries)
        ]
        return Classified(np.concatenate(votes), notes, _neighbours(bank, queries))

    def _capped_k(self, labels: npt.NDArray[np.int64]) -> tuple[int, list[str]]:
        counts = np.unique(labels, return_counts=True)[1]
        cap, smallest = max(1, len(labels) // len(counts)), int(counts.min())
        k, notes = min(self.k, cap), []
        if self.k > cap:
            why = "the bank's mean number of clips per class"
            notes.append(f"k={self.k} was capped at {cap}, {why}")
        if k > smallest:
            notes.append(f"k={k} is above the {smallest} clips of the bank's smallest class")
        return k, notes


def votes_of(
    similarity: Tensor,
    labels: npt.NDArray[np.int64],
    num_classes: int,
    k: int,
    temperature: float,
) -> npt.NDArray[np.float64]:
    """Votes [queries, classes]; -inf where no neighbour is of the class.

    Args:
        similarity: [queries, bank], as ``similarities`` gives it.
        labels: of the bank.
        num_classes: how many columns.
        k: neighbours that vote; all of the bank if it is smaller.
        temperature: of the weights, ``exp(cosine / temperature)``.
    """
    nearest = similarity.topk(min(k, similarity.shape[1]), dim=1)
    cosines = nearest.values.double()
    # Relative to the nearest, so that nothing overflows, however low the temperature.
    weights = ((cosines - cosines[:, :1]) / temperature).exp()
    classes = torch.from_numpy(labels)[nearest.indices]
    votes = weights.new_zeros(len(similarity), num_classes).scatter_add_(1, classes, weights)
    array: npt.NDArray[np.float64] = votes.where(votes > 0, -torch.inf).numpy()
    return array


def similarities(bank: FeatureSet, queries: FeatureSet) -> Iterator[Tensor]:
    """Cosines [queries, bank] of some queries after others, in their order.

    -inf: the query itself. How many queries come at once, follows from the size of the bank.
    """
    columns = _directions(bank.pooled).T
    rows = _directions(queries.pooled)
    place = {key: column for column, key in enumerate(bank.keys)}
    step = max(1, _SIMILARITIES_AT_ONCE // bank.num_samples)
    for first in range(0, queries.num_samples, step):
        part = slice(first, first + step)
        similarity = rows[part] @ columns
        for row, key in enumerate(queries.keys[part]):
            if key in place:
                similarity[row, place[key]] = -torch.inf
        yield similarity


def _neighbours(bank: FeatureSet, queries: FeatureSet) -> Neighbours:
    """Of a few queries, the most similar first."""
    is_shown = np.zeros(queries.num_samples, dtype=np.bool_)
    is_shown[evenly_chosen(queries.num_samples, SHOWN_QUERIES)] = True
    shown = queries.part(is_shown)
    similarity = torch.cat(list(similarities(bank, shown)))
    ranked = similarity.sort(dim=1, descending=True, stable=True)
    cosines = ranked.values[:, :_SHOWN_NEIGHBOURS]
    is_other = cosines.isfinite()  # not the query itself, however small the bank is
    places = [
        row[others].tolist()
        for row, others in zip(ranked.indices[:, :_SHOWN_NEIGHBOURS], is_other, strict=True)
    ]
    return Neighbours(
        queries=shown.keys,
        neighbours=[[bank.keys[i] for i in row] for row in places],
        similarity=[row[others].tolist() for row, others in zip(cosines, is_other, strict=True)],
    )


def _directions(pooled: npt.NDArray[np.float32]) -> Tensor:
    """[samples, dim] of unit length, from [samples, views, dim]: the views' mean direction."""
    directions = torch.empty(len(pooled), pooled.shape[-1])
    for first in range(0, len(pooled), _SAMPLES_AT_ONCE):
        part = slice(first, first + _SAMPLES_AT_ONCE)
        views = F.normalize(torch.from_numpy(pooled[part]), dim=-1)
        directions[part] = F.normalize(views.mean(dim=1), dim=-1)
    return directions


BENCHMARK = Knn
