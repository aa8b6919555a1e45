"""Which scores are made anew when a recipe or this code changes: those that it may change."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.feature_request import FeatureRequest
from sigma_pipeline.jobs.grid import plan_grid

MakeRequest = Callable[..., EvaluateRequest]


@pytest.fixture
def request_for_all(make_request: MakeRequest) -> EvaluateRequest:
    """A recipe with benchmarks of each kind."""
    return make_request(
        *({"benchmark": name} for name in ("knn", "uvos", "davis", "linear_augmented"))
    )


def _fingerprints(storage: Storage, request: EvaluateRequest) -> set[tuple[str, str]]:
    trials = [planned.trial for planned in plan_grid(storage, request).trials]
    return {(trial.benchmark, trial.fingerprint) for trial in trials}


@pytest.mark.parametrize(
    ("change", "unchanged"),
    [
        ({"pooling": "slices"}, {"uvos", "davis"}),
        ({"view": ViewConfig(frame_stride=3)}, {"davis"}),
    ],
)
def test_a_setting_leaves_the_scores_that_it_cannot_touch(
    storage: Storage, request_for_all: EvaluateRequest, change: dict[str, Any], unchanged: set[str]
) -> None:
    before = _fingerprints(storage, request_for_all)
    evaluate = request_for_all.evaluate.model_copy(update=change)

    after = _fingerprints(storage, replace(request_for_all, evaluate=evaluate))

    assert {name for name, _ in before & after} == unchanged


@pytest.mark.parametrize(
    ("version", "unchanged"),
    [("CLIPS_VERSION", {"davis"}), ("FEATURES_VERSION", {"davis", "linear_augmented"})],
)
def test_a_version_that_is_raised_makes_other_scores_and_features_of_all_that_rests_on_it(
    storage: Storage,
    request_for_all: EvaluateRequest,
    val_features: FeatureRequest,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    unchanged: set[str],
) -> None:
    before, features = _fingerprints(storage, request_for_all), val_features.about
    for module in ("grid", "feature_request"):
        monkeypatch.setattr(f"sigma_pipeline.jobs.{module}.{version}", 99)

    after = _fingerprints(storage, request_for_all)

    assert {name for name, _ in before & after} == unchanged
    assert val_features.about != features
