"""Weighted k-nearest-neighbour classification of frozen features (protocols, section 4).

The protocol as it was meant: the bank is the training split, a query is never in its own bank, and
neighbours vote with ``exp(cosine / temperature)``.
"""

from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import PositiveFloat, PositiveInt

from sigma_pipeline.jobs.benchmarks.benchmark import FeatureSet
from sigma_pipeline.jobs.benchmarks.classification import Classification, Classified

_QUERIES_AT_ONCE = 1024  # bounds the similarity matrix; 1024 x 240k float32 is 1 GB


class Knn(Classification, frozen=True, extra="forbid"):
    """Cosine k-NN.

    ``k`` is capped at the mean number of bank clips per class: beyond it most votes must come from
    other classes, whatever the features. The result says so when it happens.
    """

    name: ClassVar[str] = "knn"
    version: ClassVar[int] = 2

    k: PositiveInt = 200
    temperature: PositiveFloat = 0.07

    def classify(self, train: FeatureSet, test: FeatureSet, seed: int) -> Classified:
        """Votes of the bank ``train``; nothing in it is random."""
        del seed
        k, notes = self._capped_k(train.labels)
        shared = set(train.keys) & set(test.keys)
        if shared:
            notes.append(f"{len(shared)} queries are in the bank too: each left out of its own")
        votes = np.concatenate(
            [
                self._votes(train, test, slice(start, start + _QUERIES_AT_ONCE), k)
                for start in range(0, test.num_samples, _QUERIES_AT_ONCE)
            ]
        )
        return Classified(votes, notes)

    def _capped_k(self, labels: npt.NDArray[np.int64]) -> tuple[int, list[str]]:
        counts = np.unique(labels, return_counts=True)[1]
        cap = max(1, len(labels) // len(counts))
        if self.k <= cap:
            return self.k, []
        return cap, [f"k={self.k} was capped at {cap}, the bank's mean number of clips per class"]

    def _votes(
        self, bank: FeatureSet, queries: FeatureSet, part: slice, k: int
    ) -> npt.NDArray[np.float64]:
        """Votes [queries of the part, classes]; -inf where no neighbour is of the class."""
        similarity = _unit_rows(queries.pooled[part]) @ _unit_rows(bank.pooled).T
        place = {key: column for column, key in enumerate(bank.keys)}
        for row, key in enumerate(queries.keys[part]):
            if key in place:
                similarity[row, place[key]] = -np.inf
        k = min(k, similarity.shape[1])
        neighbours = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        nearest = np.take_along_axis(similarity, neighbours, axis=1).astype(np.float64)
        nearest -= nearest.max(axis=1, keepdims=True)  # no overflow, however low the temperature
        votes = np.zeros((len(similarity), queries.num_classes))
        rows = np.arange(len(similarity))[:, None]
        np.add.at(votes, (rows, bank.labels[neighbours]), np.exp(nearest / self.temperature))
        return np.where(votes > 0, votes, -np.inf)


def _unit_rows(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = features / np.maximum(norms, np.float32(1e-12))
    return unit
