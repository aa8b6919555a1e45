"""The supervised reference."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage, read_json
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.config import SupervisedConfig
from sigma_pipeline.jobs.encoders import load_encoder
from sigma_pipeline.jobs.supervised import (
    peak_share,
    train_supervised,
)
from sigma_pipeline.jobs.supervised_request import (
    SupervisedRequest,
    current_supervised,
    find_supervised,
    name_current,
)


@pytest.fixture
def request_(add_commit: Callable[..., Commit]) -> SupervisedRequest:
    return SupervisedRequest(
        run_name="r1",
        config=SupervisedConfig(dataset="squares", steps=30, batch_clips=8, peak_lr=1e-2),
        model=add_commit(0).model,
        ref=DatasetRef("squares", "train", "v1"),
        view=ViewConfig(frame_stride=2, crop="resize"),
        pooling="mean",
        precision="fp32",
        seed=0,
    )


def test_the_reference_learns_what_its_labels_say(
    storage: Storage, request_: SupervisedRequest
) -> None:
    assert find_supervised(storage, request_) is None

    train_supervised(storage, request_)

    source = find_supervised(storage, request_)
    assert source is not None
    assert read_json(storage, request_.receipt_key)["train_accuracy"] > 0.9
    assert load_encoder(storage, source).config == source.model_config


def test_a_finished_reference_is_not_trained_again_and_equal_ones_have_equal_weights(
    storage: Storage, request_: SupervisedRequest
) -> None:
    short = replace(request_, config=SupervisedConfig(dataset="squares", steps=3, batch_clips=8))
    train_supervised(storage, short)
    first = find_supervised(storage, short)
    train_supervised(storage, short)
    assert find_supervised(storage, short) == first

    storage.delete(short.receipt_key)
    train_supervised(storage, short)
    second = find_supervised(storage, short)

    assert first is not None
    assert second is not None
    assert first.weights_sha256 == second.weights_sha256


def test_a_diverging_reference_is_refused(storage: Storage, request_: SupervisedRequest) -> None:
    config = SupervisedConfig(dataset="squares", steps=30, batch_clips=8, peak_lr=1e30)

    with pytest.raises(StageError, match="supervised reference: loss"):
        train_supervised(storage, replace(request_, config=config))

    assert find_supervised(storage, replace(request_, config=config)) is None


def test_a_sample_that_cannot_be_read_is_named_and_not_replaced(
    storage: Storage, request_: SupervisedRequest
) -> None:
    source = Index.load(storage, request_.ref).source(0)
    tar = bytearray(storage.read(source.tar))
    tar[source.media_offset : source.media_offset + source.media_size] = bytes(source.media_size)
    storage.write(source.tar, bytes(tar))

    with pytest.raises(StageError, match=r"supervised reference: sample .* cannot be read"):
        train_supervised(storage, request_)


def test_the_reference_that_tables_show_is_the_last_one_asked_for(
    storage: Storage, request_: SupervisedRequest
) -> None:
    assert current_supervised(storage, "r1") is None
    name_current(storage, "r1", request_)
    assert current_supervised(storage, "r1") == request_
    name_current(storage, "r1", None)
    assert current_supervised(storage, "r1") is None


def test_the_learning_rate_rises_and_then_falls_to_nothing() -> None:
    shares = [peak_share(step, 100) for step in range(100)]

    assert shares[0] == pytest.approx(0.1)
    assert max(shares) == 1.0
    assert shares.index(1.0) in (9, 10)
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[-1] < 0.001
