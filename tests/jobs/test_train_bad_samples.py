"""Samples that cannot be decoded: replaced, counted and named, or too many of them."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.journal import read_entries
from sigma_pipeline.infra.storage import Storage, read_json
from sigma_pipeline.jobs.commits import manifest_key, newest_commit
from sigma_pipeline.jobs.train import run_train
from sigma_pipeline.jobs.train_request import TrainRequest
from tests.jobs.conftest import REF
from tests.jobs.train_runs import at_step, wish_to_stop

pytestmark = [
    pytest.mark.usefixtures("one_rank"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of DeepSpeed's, from torch 2.13
]

MakeRequest = Callable[..., TrainRequest]


def damage(storage: Storage, *samples: int) -> None:
    """Overwrites videos inside their shard, which itself stays as long as it was."""
    index = Index.load(storage, REF)
    tar = bytearray(storage.read(index.source(0).tar))
    for sample in samples:
        source = index.source(sample)
        tar[source.media_offset : source.media_offset + source.media_size] = bytes(
            source.media_size
        )
    storage.write(index.source(0).tar, bytes(tar))


def replaced_by_step(storage: Storage, run_name: str) -> dict[int, float]:
    entries, _ = read_entries(storage, run_name)
    return {
        entry.fields["step"]: entry.fields["values"]["train/replaced_samples"]
        for entry in entries
        if entry.kind == "metrics"
    }


def test_a_bad_sample_is_replaced_counted_and_named_and_the_run_goes_on_from_there(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(storage, 4, 11)
    run_train(replace(make_request(), run_name="undisturbed"))
    at_step(monkeypatch, 2, wish_to_stop)
    run_train(make_request())
    finished = run_train(make_request())

    counts = replaced_by_step(storage, "tiny")
    assert finished["state"] == "finished"
    assert counts == replaced_by_step(storage, "undisturbed")
    assert list(counts.values()) == sorted(counts.values())
    assert counts[6] >= 4  # two in each of three epochs, but for those in the tails
    assert newest_commit(storage, "tiny").replaced_samples == counts[6]
    assert read_json(storage, manifest_key("tiny"))["replaced_samples"] == counts[6]
    entries, _ = read_entries(storage, "tiny")
    shown = [entry.fields for entry in entries if entry.kind == "artifact"]
    lines = [json.loads(line) for f in shown for line in storage.read(f["key"]).splitlines()]
    assert all(fields["name"].startswith("train/replaced_samples/") for fields in shown)
    assert sorted(line["source"] for line in lines) == ["11.mp4", "4.mp4"]
    assert {line["tar"] for line in lines} == {"datasets/noise/train/v1/shard-000000.a.tar"}


def test_too_many_bad_samples_end_the_run_and_name_the_shard_and_the_repair(
    storage: Storage, make_request: MakeRequest
) -> None:
    damage(storage, *range(6))

    with pytest.raises(StageError) as caught:
        run_train(make_request(epochs=9))

    assert caught.value.exit_status == 1
    assert "datasets/noise/train/v1/shard-000000.a.tar (6)" in str(caught.value)
    assert "sigma-pipeline shards repair" in str(caught.value)
    assert max(replaced_by_step(storage, "tiny").values()) > 16
