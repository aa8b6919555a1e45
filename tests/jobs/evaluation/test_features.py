"""Features: extracted once, addressed by what they depend on."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.features import (
    FeatureRequest,
    extract_features,
    load_features,
    pool_tokens,
)

AddCommit = Callable[..., Commit]


@pytest.fixture
def request_(add_commit: AddCommit) -> FeatureRequest:
    return FeatureRequest(
        run_name="r1",
        source=committed_encoder(add_commit(0)),
        ref=DatasetRef("squares", "val", "v1"),
        view=ViewConfig(frame_stride=2, crop="resize"),
        pooling="slices",
        has_tokens=True,
        precision="fp32",
        batch_clips=5,
    )


def test_pooling_keeps_what_its_name_says() -> None:
    slices = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1, 1)
    rows = torch.tensor([0.0, 0.0, 10.0, 10.0]).view(1, 1, 4, 1, 1)
    tokens = (slices + rows).expand(1, 2, 4, 4, 1)

    assert pool_tokens(tokens, "mean").tolist() == [[6.5]]
    assert pool_tokens(tokens, "slices").tolist() == [[6.0, 7.0]]
    assert pool_tokens(tokens, "slices_grid2").tolist() == [[1, 1, 11, 11, 2, 2, 12, 12]]


def test_stored_features_are_those_of_the_encoder(
    storage: Storage, request_: FeatureRequest, tmp_path: object
) -> None:
    extract_features(storage, request_, str(tmp_path))

    features = load_features(storage, request_.key)

    assert features.keys == [f"val-{i}" for i in range(12)]
    assert features.labels.tolist() == [2, 1, 0] * 4
    assert features.num_classes == 3
    assert features.tokens is not None
    assert features.tokens.shape == (12, 2, 4, 4, 16)
    expected = features.tokens.astype(np.float32).mean(axis=(2, 3)).reshape(12, -1)
    np.testing.assert_allclose(features.pooled, expected, atol=2e-3)


def test_features_do_not_depend_on_the_batch_size(
    storage: Storage, request_: FeatureRequest, tmp_path: object
) -> None:
    other = replace(request_, batch_clips=12)
    extract_features(storage, request_, str(tmp_path))
    first = load_features(storage, request_.key).pooled
    storage.delete(request_.key)
    extract_features(storage, other, str(tmp_path))

    assert other.key == request_.key
    np.testing.assert_allclose(load_features(storage, other.key).pooled, first, atol=1e-5)


def test_features_that_are_there_are_not_made_again(
    storage: Storage, request_: FeatureRequest, tmp_path: object
) -> None:
    storage.write(request_.key, b"there")

    extract_features(storage, request_, str(tmp_path))

    assert storage.read(request_.key) == b"there"


def test_whatever_changes_the_features_changes_their_key(
    request_: FeatureRequest, add_commit: AddCommit
) -> None:
    others = [
        replace(request_, source=committed_encoder(add_commit(5))),
        replace(request_, ref=DatasetRef("squares", "val", "v2")),
        replace(request_, view=ViewConfig(frame_stride=1, crop="resize")),
        replace(request_, pooling="mean"),
        replace(request_, has_tokens=False),
        replace(request_, precision="bf16_autocast"),
    ]

    assert len({other.key for other in [request_, *others]}) == 7


def test_features_that_are_not_finite_are_refused(
    storage: Storage, request_: FeatureRequest, add_commit: AddCommit, tmp_path: object
) -> None:
    diverged = replace(request_, source=committed_encoder(add_commit(7, nan=True)))

    with pytest.raises(StageError, match=r"features of step-00000007 .* are not finite"):
        extract_features(storage, diverged, str(tmp_path))

    assert not storage.exists(diverged.key)


def test_damaged_weights_are_refused(
    storage: Storage, request_: FeatureRequest, tmp_path: object
) -> None:
    storage.write(request_.source.weights_key, b"other bytes")

    with pytest.raises(StageError, match="damaged"):
        extract_features(storage, request_, str(tmp_path))
