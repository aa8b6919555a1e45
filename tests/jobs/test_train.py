"""Training in one process: what a run leaves behind, and what ends it early."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.journal import read_entries
from sigma_pipeline.infra.storage import Storage, read_json
from sigma_pipeline.jobs import train, train_loop
from sigma_pipeline.jobs.attempts import register_attempt
from sigma_pipeline.jobs.commits import list_commits, manifest_key, newest_commit
from sigma_pipeline.jobs.train import run_train
from sigma_pipeline.jobs.train_request import TrainRequest
from tests.jobs.attempt_records import record
from tests.jobs.conftest import REF
from tests.jobs.train_runs import at_step, curve, wish_to_stop

pytestmark = [
    pytest.mark.usefixtures("one_rank"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of DeepSpeed's, from torch 2.13
]

MakeRequest = Callable[..., TrainRequest]


def test_a_finished_run_has_commits_numbers_and_a_manifest(
    storage: Storage, make_request: MakeRequest
) -> None:
    result = run_train(make_request())

    commits = list_commits(storage, "tiny")
    assert [commit.step for commit in commits] == [0, 4, 6]
    assert [(commit.epoch, commit.batch) for commit in commits] == [(0, 0), (2, 0), (3, 0)]
    assert [commit.has_optimizer for commit in commits] == [False, True, True]
    assert result == {
        "state": "finished",
        "run_name": "tiny",
        "step": 6,
        "commit": commits[-1].prefix,
        "reason": "",
    }
    assert list(curve(storage)) == [1, 2, 3, 4, 5, 6]
    assert read_json(storage, manifest_key("tiny"))["fingerprint"] == "f" * 16


def test_a_finished_run_is_not_trained_again(storage: Storage, make_request: MakeRequest) -> None:
    first = run_train(make_request())
    keys = storage.list("runs")

    assert run_train(make_request()) == first
    assert storage.list("runs") == keys


def test_slurms_time_limit_is_followed_while_the_nodes_are_tried(
    make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    class Followed(train.TimeLimit):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            begun.append("limit")
            super().__init__(*arguments, **settings)

    monkeypatch.setattr(train, "TimeLimit", Followed)
    monkeypatch.setattr(train, "check_nodes", lambda *_: begun.append("nodes"))

    run_train(replace(make_request(), preflight=True))

    assert begun == ["limit", "nodes"]


def test_an_overtaken_attempt_may_not_commit(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, 2, lambda: register_attempt(storage, "tiny", record()))

    with pytest.raises(StageError, match="is overtaken by attempt"):
        run_train(make_request())

    assert [commit.step for commit in list_commits(storage, "tiny")] == [0]


def test_numbers_that_are_not_finite_end_the_run_and_are_never_applied(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An infinite rate ruins the weights at step 2; from then on no loss is finite.
    monkeypatch.setattr(
        train_loop, "learning_rate", lambda step, *_: float("inf") if step == 1 else 1e-3
    )

    with pytest.raises(
        StageError, match=r"step 5: the loss on rank 0 \(host .*was not finite.*3 times in a row"
    ):
        run_train(make_request(commit_every_steps=10))

    assert [commit.step for commit in list_commits(storage, "tiny")] == [0]
    assert [loss == loss for loss, _ in curve(storage).values()] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_the_log_of_a_rank_lies_in_the_work_folder(
    storage: Storage, make_request: MakeRequest
) -> None:
    request = make_request()

    run_train(request)

    (log,) = Path(request.work_dir, "logs", "tiny").iterdir()
    attempt = newest_commit(storage, "tiny").attempt
    assert log.name == f"{attempt}-rank0.jsonl"
    assert "Finished after step 6" in log.read_text()


def test_a_mixture_is_trained_on_and_every_dataset_of_it_recorded(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = DatasetRef("murmur", "train", "v7")
    for key in storage.list(REF.prefix):
        storage.write(key.replace(REF.prefix, other.prefix), storage.read(key))
    mixed = make_request(dataset={"noise": 1, "murmur": 0.5}, clip={"clips_per_decode": 2})
    request = replace(mixed, datasets=(other, REF))
    at_step(monkeypatch, 2, wish_to_stop)
    run_train(request)

    result = run_train(request)

    assert result["step"] == 3 * 6  # an epoch is 27 samples, two clips of each
    commit = newest_commit(storage, "tiny")
    assert [each["name"] for each in commit.datasets] == ["murmur", "noise"]
    entries, _ = read_entries(storage, "tiny")
    read = {(e.fields["name"], e.fields["version"]) for e in entries if e.kind == "dataset"}
    assert read == {("murmur", "v7"), ("noise", "v1")}
