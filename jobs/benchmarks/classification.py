"""From class scores to top-1 and top-5: what the k-NN and the linear probe have in common."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sigma_pipeline.jobs.benchmarks.benchmark import FeatureSet, Result, Score
from sigma_pipeline.jobs.benchmarks.intervals import wilson_interval


def labelled_splits(
    train: FeatureSet | None, test: FeatureSet
) -> tuple[FeatureSet, FeatureSet, list[str]]:
    """The labelled samples of both splits, and remarks on what was left out.

    Raises:
        ValueError: one of the splits has no labelled sample.
    """
    if train is None:
        raise ValueError("this benchmark needs a training split")
    notes = []
    for name, split in (("train", train), ("test", test)):
        unlabelled = int((split.labels < 0).sum())
        if unlabelled == split.num_samples:
            raise ValueError(f"the {name} split has no labelled sample")
        if unlabelled:
            notes.append(
                f"{unlabelled} of {split.num_samples} {name} samples have no label: left out"
            )
    train, test = train.labelled(), test.labelled()
    unseen = np.setdiff1d(test.labels, train.labels)
    if len(unseen):
        notes.append(
            f"{len(unseen)} test classes have no training sample: counted, and always wrong"
        )
    return train, test, notes


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
    outcomes = {
        "key": list(test.keys),
        "label": test.labels.tolist(),
        "prediction": order[:, 0].tolist(),
        "top1": hits[:, :1].any(axis=1).tolist(),
        "top5": hits[:, :5].any(axis=1).tolist(),
    }
    return Result(tuple(scores), outcomes, tuple(notes))


def _share(name: str, hits: npt.NDArray[np.bool_]) -> Score:
    count = int(hits.sum())
    low, high = wilson_interval(count, len(hits))
    return Score(name, count / len(hits), "fraction", True, low, high, len(hits))
