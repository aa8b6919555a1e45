"""Features: extracted once, part by part, addressed by what they depend on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from sigma_pipeline.data_prep.config import MultiViewConfig, ViewConfig
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs import feature_request
from sigma_pipeline.jobs.benchmarks.benchmark import FeatureSet
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.decoded import DecodedView
from sigma_pipeline.jobs.encoders import committed_encoder, load_encoder
from sigma_pipeline.jobs.feature_request import FeatureRequest
from sigma_pipeline.jobs.features import (
    extract_features,
    pool_tokens,
)
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.encoder import Encoder
from tests.jobs.evaluation.conftest import MODEL

AddCommit = Callable[..., Commit]
Get = Callable[..., FeatureSet]


def _tokens(
    storage: Storage, request: FeatureRequest, scratch: Path, encoder: Encoder | None = None
) -> npt.NDArray[np.float32]:
    """What the encoder says of all clips of the request, in one batch."""
    view = DecodedView(storage, Index.load(storage, request.ref), request.clip_shape, str(scratch))
    with torch.inference_mode():
        tokens: Tensor = (encoder or load_encoder(storage, request.source)).encode(
            next(view.batches(100))
        )
    return tokens.numpy()


def test_pooling_keeps_what_its_name_says() -> None:
    slices = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1, 1)
    rows = torch.tensor([0.0, 0.0, 10.0, 10.0]).view(1, 1, 4, 1, 1)
    tokens = (slices + rows).expand(1, 2, 4, 4, 1)

    assert pool_tokens(tokens, "mean").tolist() == [[6.5]]
    assert pool_tokens(tokens, "slices").tolist() == [[6.0, 7.0]]
    assert pool_tokens(tokens, "slices_grid2").tolist() == [[1, 1, 11, 11, 2, 2, 12, 12]]


def test_stored_features_are_those_of_the_encoder(val_features: FeatureRequest, get: Get) -> None:
    features = get(val_features, layer=-1)

    assert features.keys == [f"val-{i}" for i in range(12)]
    assert features.labels.tolist() == [2, 1, 0] * 4
    assert features.num_classes == 3
    assert features.tokens is not None
    assert features.tokens.shape == (12, 2, 4, 4, 16)
    assert (features.tokens.dtype, features.pooled.dtype) == (np.float16, np.float32)
    expected = features.tokens.astype(np.float32).mean(axis=(2, 3)).reshape(12, 1, -1)
    np.testing.assert_allclose(features.pooled, expected, atol=2e-3)


def test_tokens_of_another_layer_are_those_of_its_block_without_the_final_norm(
    storage: Storage, val_features: FeatureRequest, add_commit: AddCommit, get: Get, tmp_path: Path
) -> None:
    encoder_settings = MODEL.encoder.model_dump() | {"depth": 2}
    deep = ModelConfig.model_validate(MODEL.model_dump() | {"encoder": encoder_settings})
    source = committed_encoder(add_commit(3, model=deep))
    request = replace(val_features, source=source, layers=(-2, -1))

    tokens = get(request, layer=-2).tokens

    encoder, seen = load_encoder(storage, source), []
    encoder.blocks[0].register_forward_hook(lambda _, __, output: seen.append(output))
    last = _tokens(storage, request, tmp_path, encoder)
    expected = seen[0].numpy().reshape(last.shape)
    assert tokens is not None
    np.testing.assert_allclose(tokens, expected, atol=2e-3)
    np.testing.assert_allclose(get(request, layer=-1).tokens, last, atol=2e-3)
    assert not np.allclose(expected, last, atol=0.1)


@pytest.mark.usefixtures("encoded")
def test_features_depend_neither_on_the_size_of_batches_nor_of_parts(
    storage: Storage,
    val_features: FeatureRequest,
    get: Get,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = get(val_features, layer=-1)
    storage.delete(val_features.key)
    for key in storage.list(val_features.folder):
        storage.delete(key)
    monkeypatch.setattr(feature_request, "PART_SAMPLES", 100)
    other = replace(val_features, batch_clips=12)

    again = get(other, layer=-1)

    assert other.key == val_features.key
    np.testing.assert_allclose(again.pooled, first.pooled, atol=1e-5)
    np.testing.assert_allclose(again.tokens, first.tokens, atol=2e-3)  # type: ignore[arg-type]


def test_features_that_are_there_are_not_made_again(
    storage: Storage, val_features: FeatureRequest, tmp_path: Path
) -> None:
    storage.write(val_features.key, b"there")

    extract_features(storage, val_features, str(tmp_path))

    assert storage.list(val_features.folder) == [val_features.key]


def test_whatever_changes_the_features_changes_their_key(
    val_features: FeatureRequest, add_commit: AddCommit
) -> None:
    others = [
        replace(val_features, source=committed_encoder(add_commit(5))),
        replace(val_features, ref=DatasetRef("squares", "val", "v2")),
        replace(val_features, view=ViewConfig(frame_stride=1, crop="resize")),
        replace(val_features, view=ViewConfig(frame_stride=2, crop="resize", num_frames=2)),
        replace(val_features, view=MultiViewConfig(frame_stride=2, crop="resize")),
        replace(val_features, pooling="mean"),
        replace(val_features, layers=()),
        replace(val_features, precision="bf16_autocast"),
    ]

    assert len({other.key for other in [val_features, *others]}) == 9
    assert replace(val_features, limit_gib=2).key == val_features.key


def test_views_of_a_sample_stand_side_by_side(
    storage: Storage, val_features: FeatureRequest, get: Get, tmp_path: Path
) -> None:
    view = MultiViewConfig(frame_stride=1, crop="resize", segments=3)
    request = replace(val_features, view=view, pooling="mean", layers=())

    pooled = get(request).pooled

    tokens = _tokens(storage, request, tmp_path)
    assert pooled.shape == (12, 3, 16)
    np.testing.assert_allclose(pooled.reshape(36, 16), tokens.mean(axis=(1, 2, 3)), atol=1e-5)
    assert not np.allclose(pooled[:, 0], pooled[:, 2], atol=1e-3)


def test_shorter_clips_have_fewer_slices(val_features: FeatureRequest, get: Get) -> None:
    view = ViewConfig(frame_stride=2, crop="resize", num_frames=2)

    tokens = get(replace(val_features, view=view), layer=-1).tokens

    assert tokens is not None
    assert tokens.shape == (12, 1, 4, 4, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"view": ViewConfig(num_frames=6)},
            r"features of squares/val, step-00000000: clips of 6 frames are not .* up to "
            r"model.num_frames=4",
        ),
        ({"layers": (-2,)}, "there is no layer -2: the encoder's 1 blocks"),
        (
            {"limit_gib": 1e-6},
            r"take 1.29e-05 GiB, but .* evaluate.features_gib=1e-06: raise that, or keep less "
            r"\(tokens of fewer layers, or none\)",
        ),
        ({"limit_gib": 1e-6, "layers": ()}, r"keep less \(fewer views or frames\)"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_written(
    storage: Storage,
    val_features: FeatureRequest,
    get: Get,
    changes: dict[str, object],
    message: str,
) -> None:
    request = replace(val_features, **changes)

    with pytest.raises(StageError, match=message):
        get(request)

    assert storage.list("runs/r1/features") == []


def test_features_that_are_not_finite_are_refused(
    storage: Storage, val_features: FeatureRequest, add_commit: AddCommit, get: Get
) -> None:
    diverged = replace(val_features, source=committed_encoder(add_commit(7, nan=True)))

    with pytest.raises(StageError, match=r"features of step-00000007 .* are not finite"):
        get(diverged)

    assert not storage.exists(diverged.key)


def test_damaged_weights_are_refused(
    storage: Storage, val_features: FeatureRequest, get: Get
) -> None:
    storage.write(val_features.source.weights_key, b"other bytes")

    with pytest.raises(StageError, match="damaged"):
        get(val_features)
