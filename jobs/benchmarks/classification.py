"""Benchmarks that give each test clip a score per class: what the k-NN and the linear probe share.

From class scores come top-1 and top-5, over a split of their own or, where a dataset is too small
for two, over one split of which one group (the clips of one performer) is left out at a time.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from sigma_pipeline.jobs.benchmarks.benchmark import FeatureSet, Needs, Result, Score
from sigma_pipeline.jobs.benchmarks.intervals import exact_interval


class Classified(NamedTuple):
    """What a classifier says of each test clip."""

    class_scores: npt.NDArray[np.float64]
    """[samples, classes]; -inf: never predicted."""
    notes: Sequence[str]


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
            if list(train.keys) != list(test.keys):
                raise ValueError("leave_one_group_out takes one split, as train and as test")
            return self._leave_groups_out(test, seed)
        train, test, notes = labelled_splits(train, test)
        class_scores, remarks = self.classify(train, test, seed)
        return classification_result(class_scores, test, [*notes, *remarks])

    @abstractmethod
    def classify(self, train: FeatureSet, test: FeatureSet, seed: int) -> Classified:
        """Scores the samples of ``test`` by those of ``train``, all of which have a label."""

    def _leave_groups_out(self, split: FeatureSet, seed: int) -> Result:
        split, notes = _labelled(split, "")
        class_scores = np.full((split.num_samples, split.num_classes), -np.inf)
        remarks: Counter[str] = Counter()
        folds = list(one_group_each(split))
        num_unseen = 0
        for is_test in folds:
            train, test = split.part(~is_test), split.part(is_test)
            class_scores[is_test], said = self.classify(train, test, seed)
            remarks.update(said)
            num_unseen += int((~np.isin(test.labels, train.labels)).sum())
        notes += [
            f"each of {len(folds)} groups left out in turn: {split.num_samples} samples",
            f"the interval takes {split.num_samples} samples of {len(folds)} groups as independent",
        ]
        if num_unseen:
            notes.append(
                f"{num_unseen} samples are of a class of no other group: counted, and always wrong"
            )
        notes += _with_counts(remarks, len(folds))
        return classification_result(class_scores, split, notes)


def labelled_splits(
    train: FeatureSet, test: FeatureSet
) -> tuple[FeatureSet, FeatureSet, list[str]]:
    """The labelled samples of both splits, and remarks on what was left out.

    Raises:
        ValueError: one of the splits has no labelled sample.
    """
    train, notes = _labelled(train, "train ")
    test, more = _labelled(test, "test ")
    unseen = np.setdiff1d(test.labels, train.labels)
    if len(unseen):
        more.append(
            f"{len(unseen)} test classes have no training sample: counted, and always wrong"
        )
    return train, test, [*notes, *more]


def one_group_each(split: FeatureSet) -> Iterator[npt.NDArray[np.bool_]]:
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
    class_scores: npt.NDArray[np.floating], test: FeatureSet, notes: Sequence[str]
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
    outcomes = {
        "key": list(test.keys),
        **({"group": list(test.groups)} if has_groups else {}),
        "label": test.labels.tolist(),
        "prediction": order[:, 0].tolist(),
        "top1": hits[:, :1].any(axis=1).tolist(),
        "top5": hits[:, :5].any(axis=1).tolist(),
    }
    return Result(tuple(scores), outcomes, tuple(notes))


def _labelled(split: FeatureSet, name: str) -> tuple[FeatureSet, list[str]]:
    """The labelled samples, and what there is to say of the others; ``name`` ends in a space."""
    is_labelled = split.labels >= 0
    lacking = int((~is_labelled).sum())
    if lacking == split.num_samples:
        raise ValueError(f"the {name}split has no labelled sample")
    notes = [f"{lacking} of {split.num_samples} {name}samples have no label: left out"]
    return split.part(is_labelled), notes if lacking else []


def _with_counts(remarks: Counter[str], num_folds: int) -> Iterable[str]:
    """Each remark once, with the number of folds it holds for unless that is all."""
    for remark, count in remarks.items():
        yield remark if count == num_folds else f"{remark} ({count} of {num_folds} folds)"


def _share(name: str, hits: npt.NDArray[np.bool_]) -> Score:
    count = int(hits.sum())
    low, high = exact_interval(count, len(hits))
    return Score(name, count / len(hits), "fraction", True, low, high, len(hits))
