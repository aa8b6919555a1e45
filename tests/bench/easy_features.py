"""What features that nobody has to learn reach: the yardstick beside encoders in ``make learn``."""

import tempfile
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmarks.benchmark import FeatureSet, Score
from sigma_pipeline.jobs.benchmarks.table import build_benchmark
from sigma_pipeline.jobs.cells import Trial
from sigma_pipeline.jobs.decoded import ClipShape, DecodedView
from sigma_pipeline.jobs.planned_trials import read_grid


def mean_frame(clips: Tensor) -> Tensor:
    """The mean frame in 8 x 8 grey pixels: [batch, 64] of [batch, 3, frames, size, size]."""
    return F.adaptive_avg_pool2d(clips.mean(dim=(1, 2)), 8).flatten(1)


def frame_differences(clips: Tensor) -> Tensor:
    """How much neighbouring frames differ in each quarter of the frame: [batch, 4]."""
    return F.adaptive_avg_pool2d(clips.diff(dim=2).abs().mean(dim=(1, 2)), 2).flatten(1)


EASY: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mean frame": mean_frame,
    "frame differences": frame_differences,
}


def easy_scores(
    storage: Storage, run_name: str, features: Callable[[Tensor], Tensor], shape: tuple[int, int]
) -> dict[tuple[str, str], Score]:
    """Top-1 of each benchmark and dataset of a run, with other features in the encoder's place.

    Args:
        storage: the run's.
        run_name: whose benchmarks, datasets and views.
        features: of clips.
        shape: frames of a clip, and their size in pixels.
    """
    scores = {}
    for planned in read_grid(storage, run_name):
        trial = planned.trial
        split = _feature_set(storage, trial, features, shape)
        benchmark = build_benchmark(trial.benchmark, trial.settings)
        scores[planned.label, trial.dataset] = benchmark.scores(split, split, 0).scores[0]
    return scores


def _feature_set(
    storage: Storage, trial: Trial, features: Callable[[Tensor], Tensor], shape: tuple[int, int]
) -> FeatureSet:
    index = Index.load(storage, trial.test)
    with tempfile.TemporaryDirectory() as scratch:
        decoded = DecodedView(storage, index, ClipShape(trial.view, *shape), scratch)
        pooled = torch.cat([features(clips.float() / 255) for clips in decoded.batches(16)])
    return FeatureSet(
        keys=[row.key for row in index.rows],
        groups=[row.group for row in index.rows],
        labels=np.asarray(index.labels),
        num_classes=int(index.labels.max()) + 1,
        pooled=pooled.numpy()[:, None],
    )
