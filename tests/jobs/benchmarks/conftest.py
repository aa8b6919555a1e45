"""Feature sets made by hand."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from sigma_pipeline.jobs.benchmarks.benchmark import FeatureSet

MakeFeatures = Callable[..., FeatureSet]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def make_features() -> MakeFeatures:
    """Builds a feature set from rows of numbers and labels."""

    def make(
        pooled: Sequence[Sequence[float]],
        labels: Sequence[int],
        *,
        prefix: str = "clip",
        num_classes: int | None = None,
        groups: Sequence[str | None] | None = None,
    ) -> FeatureSet:
        return FeatureSet(
            keys=[f"{prefix}{i}" for i in range(len(labels))],
            groups=groups or [None] * len(labels),
            labels=np.asarray(labels, dtype=np.int64),
            num_classes=max(labels) + 1 if num_classes is None else num_classes,
            pooled=np.asarray(pooled, dtype=np.float32)[:, None],
        )

    return make


@pytest.fixture
def blobs(make_features: MakeFeatures) -> Callable[..., FeatureSet]:
    """Draws clips of well separated classes."""

    def draw(clips: int, seed: int, *, classes: int = 3, spread: float = 0.1) -> FeatureSet:
        generator = np.random.default_rng(seed)
        labels = np.arange(clips) % classes
        centres = np.eye(classes, 8) * 3
        pooled = centres[labels] + spread * generator.standard_normal((clips, 8))
        return make_features(pooled.tolist(), labels.tolist(), prefix=f"draw{seed}-")

    return draw
