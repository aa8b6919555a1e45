"""Benchmarks that give each test clip a score per class: what the k-NN and the linear probe share.

From class scores come top-1 and top-5, over a split of their own or, where a dataset is too small
for two, over one split of which one group (the clips of one performer) is left out at a time.
"""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel
from torch import Tensor

from sigma_pipeline.jobs.benchmarks.benchmark import FeatureSet, Needs, Result, Score
from sigma_pipeline.jobs.benchmarks.figures import Confusion, Figure, Neighbours
from sigma_pipeline.jobs.benchmarks.held_out import Mask
from sigma_pipeline.jobs.benchmarks.intervals import exact_interval

if TYPE_CHECKING:
    from sigma_pipeline.data_prep.index import Index

SHOWN_QUERIES = 8
"""Test clips whose neighbours are shown."""
_MERGED_AT_ONCE = 1024
"""Samples; the views of all of K400 in float64 would take gigabytes."""


class Fold(NamedTuple):
    """One division of the samples: what is learned from, and what is classified by that."""

    train: Mask
    """[samples of the training split]."""
    test: Mask
    """[samples of the test split]."""

    @classmethod
    def whole(cls, train: FeatureSet, test: FeatureSet) -> Self:
        """All of both splits."""
        return cls(np.ones(train.num_samples, np.bool_), np.ones(test.num_samples, np.bool_))


@dataclass(frozen=True)
class LabelledSamples:
    """Samples that have a class each, and what is asked of them to be scored."""

    keys: Sequence[str]
    groups: Sequence[str | None]
    labels: npt.NDArray[np.int64]
    num_classes: int

    @classmethod
    def of(cls, index: "Index") -> Self:
        """All samples of an index."""
        keys, groups = zip(*((row.key, row.group) for row in index.rows), strict=True)
        return cls(keys, groups, index.labels, len(index.classes))


class Classified(NamedTuple):
    """What a classifier says of each test clip of a fold."""

    class_scores: npt.NDArray[np.float64]
    """[samples, classes]; -inf: never predicted."""
    notes: Sequence[str]
    neighbours: Neighbours | None = None
    """Of a few of the clips."""


class Classification(BaseModel, ABC, frozen=True, extra="forbid"):
    """Top-1 and top-5 of a classifier over frozen features."""

    leave_one_group_out: bool = False
    """Train and test are the same split, all of whose samples have a group. Each group in turn is
    classified by what all the others teach; the outcomes are scored as one. No sample of a group,
    such as a performer, is then ever recognized by another one of it."""

    @property
    def needs(self) -> Needs:
        """Labels, of two splits or of the groups of one."""
        return Needs(train=True, labels=True, groups=self.leave_one_group_out)

    def scores(self, train: FeatureSet | None, test: FeatureSet, seed: int) -> Result:
        """Top-1 and top-5 over the labelled samples of ``test``.

        Raises:
            ValueError: there is no training split or no label; with ``leave_one_group_out``, there
                are two splits, samples without a group, or no two groups.
        """
        if train is None:
            raise ValueError("this benchmark needs a training split")
        if self.leave_one_group_out:
            return self._leave_groups_out(train, test, seed)
        train, test, notes = labelled_splits(train, test)
        (said,) = self.classify(train, test, [Fold.whole(train, test)], seed)
        found = [] if said.neighbours is None else [said.neighbours]
        return classification_result(said.class_scores, test, [*notes, *said.notes], found)

    @abstractmethod
    def classify(
        self, train: FeatureSet, test: FeatureSet, folds: Sequence[Fold], seed: int
    ) -> Iterable[Classified]:
        """Of each fold, what its test clips are by its training clips; all have a label."""

    def _leave_groups_out(self, train: FeatureSet, test: FeatureSet, seed: int) -> Result:
        if list(train.keys) != list(test.keys):
            raise ValueError("leave_one_group_out takes one split, as train and as test")
        train, test, notes = _labelled(train, "")[0], *_labelled(test, "")
        folds = [Fold(~is_test, is_test) for is_test in one_group_each(test)]
        class_scores = np.full((test.num_samples, test.num_classes), -np.inf)
        remarks: Counter[str] = Counter()
        found: list[Neighbours] = []
        num_unseen = 0
        for fold, said in zip(folds, self.classify(train, test, folds, seed), strict=True):
            class_scores[fold.test] = said.class_scores
            remarks.update(said.notes)
            found += [] if said.neighbours is None else [said.neighbours]
            num_unseen += int((~np.isin(test.labels[fold.test], train.labels[fold.train])).sum())
        notes += [
            f"each of {len(folds)} groups left out in turn: {test.num_samples} samples",
            f"the interval takes {test.num_samples} samples of {len(folds)} groups as independent",
        ]
        if num_unseen:
            notes.append(
                f"{num_unseen} samples are of a class of no other group: counted, and always wrong"
            )
        notes += _with_counts(remarks, len(folds))
        return classification_result(class_scores, test, notes, found)


def labelled_splits(
    train: FeatureSet, test: FeatureSet
) -> tuple[FeatureSet, FeatureSet, list[str]]:
    """The labelled samples of both splits, and remarks on what was left out.

    Raises:
        ValueError: one of the splits has no labelled sample.
    """
    train, notes = _labelled(train, "train ")
    test, more = _labelled(test, "test ")
    return train, test, [*notes, *more, *unseen_classes(train.labels, test.labels)]


def labelled_index(index: "Index", split: str) -> tuple["Index", list[str]]:
    """The labelled samples of a split, and what there is to say of the others.

    Raises:
        ValueError: there are none.
    """
    is_labelled = index.labels >= 0
    lacking = int((~is_labelled).sum())
    if not lacking:
        return index, []
    if lacking == len(index):
        raise ValueError(f"the {split} split has no labelled sample")
    notes = [f"{lacking} of {len(index)} {split} samples have no label: left out"]
    return index.part(np.flatnonzero(is_labelled).tolist()), notes


def unseen_classes(train: npt.NDArray[np.int64], test: npt.NDArray[np.int64]) -> list[str]:
    """A remark where labels of the test split are none of the training split; else nothing."""
    unseen = len(np.setdiff1d(test, train))
    if not unseen:
        return []
    return [f"{unseen} test classes have no training sample: counted, and always wrong"]


def one_group_each(split: FeatureSet) -> Iterator[Mask]:
    """Marks the samples [samples] of each group, in the order of their names.

    Raises:
        ValueError: a sample has no group, or all have the same.
    """
    lacking = sum(group is None for group in split.groups)
    if lacking:
        raise ValueError(
            f"{lacking} of {split.num_samples} samples have no group; leave_one_group_out needs "
            "one of each"
        )
    names, group_of = np.unique(np.asarray(split.groups, dtype=np.str_), return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"all samples are of group {names[0]!s}: nothing is left to train on")
    for number in range(len(names)):
        yield group_of == number


def classification_result(
    class_scores: npt.NDArray[np.floating],
    test: FeatureSet | LabelledSamples,
    notes: Sequence[str],
    neighbours: Sequence[Neighbours] = (),
) -> Result:
    """Top-1 and top-5 of ``class_scores`` [samples, classes]; -inf: never predicted.

    Equal scores go to the class that comes first. With five classes or fewer, top-5 says nothing
    and is left out.
    """
    order = np.argsort(-class_scores, axis=1, kind="stable")
    possible = np.isfinite(np.take_along_axis(class_scores, order, axis=1))
    hits = (order == test.labels[:, None]) & possible
    scores = [_share("top1", hits[:, :1].any(axis=1))]
    if test.num_classes > 5:
        scores.append(_share("top5", hits[:, :5].any(axis=1)))
    has_groups = any(group is not None for group in test.groups)
    labels, predictions = test.labels.tolist(), order[:, 0].tolist()
    outcomes = {
        "key": list(test.keys),
        **({"group": list(test.groups)} if has_groups else {}),
        "label": labels,
        "prediction": predictions,
        "top1": hits[:, :1].any(axis=1).tolist(),
        "top5": hits[:, :5].any(axis=1).tolist(),
    }
    figures: tuple[Figure, ...] = (Confusion(labels, predictions), *_shown(neighbours))
    return Result(tuple(scores), outcomes, tuple(notes), figures=figures)


def merged_views(logits: Tensor) -> npt.NDArray[np.float64]:
    """Log of the mean probability over views: [samples, classes] of [samples, views, classes].

    The merging of protocols 2, which ranks classes by probability; its logarithm does not
    underflow where a classifier is sure.
    """
    parts = [
        part.double().log_softmax(dim=-1).logsumexp(dim=1) - math.log(logits.shape[1])
        for part in torch.split(logits, _MERGED_AT_ONCE)
    ]
    array: npt.NDArray[np.float64] = torch.cat(parts).cpu().numpy()
    return array


def evenly_chosen(total: int, wanted: int) -> list[int]:
    """At most ``wanted`` of the numbers below ``total``, spread evenly over them."""
    count = min(total, wanted)
    return [number * total // count for number in range(count)]


def _shown(found: Sequence[Neighbours]) -> Iterator[Neighbours]:
    """A few of all queries of all folds, as one figure; none if there are none."""
    queries = [query for one in found for query in one.queries]
    neighbours = [row for one in found for row in one.neighbours]
    similarity = [row for one in found for row in one.similarity]
    if chosen := evenly_chosen(len(queries), SHOWN_QUERIES):
        yield Neighbours(
            [queries[i] for i in chosen],
            [neighbours[i] for i in chosen],
            [similarity[i] for i in chosen],
        )


def _labelled(split: FeatureSet, name: str) -> tuple[FeatureSet, list[str]]:
    """The labelled samples, and what there is to say of the others; ``name`` ends in a space."""
    is_labelled = split.labels >= 0
    lacking = int((~is_labelled).sum())
    if lacking == split.num_samples:
        raise ValueError(f"the {name}split has no labelled sample")
    if not lacking:
        return split, []
    notes = [f"{lacking} of {split.num_samples} {name}samples have no label: left out"]
    return split.part(is_labelled), notes


def _with_counts(remarks: Counter[str], num_folds: int) -> Iterable[str]:
    """Each remark once, with the number of folds it holds for unless that is all."""
    for remark, count in remarks.items():
        yield remark if count == num_folds else f"{remark} ({count} of {num_folds} folds)"


def _share(name: str, hits: Mask) -> Score:
    count = int(hits.sum())
    low, high = exact_interval(count, len(hits))
    return Score(name, count / len(hits), "fraction", True, low, high, len(hits))
