"""Training in one process: what a run leaves behind, how it resumes, and how it stops."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.infra.journal import read_entries
from sigma_pipeline.infra.storage import Storage, read_json, write_json
from sigma_pipeline.jobs import train
from sigma_pipeline.jobs.attempts import register_attempt
from sigma_pipeline.jobs.commits import list_commits, newest_commit
from sigma_pipeline.jobs.optimizer import learning_rate
from sigma_pipeline.jobs.train import manifest_key, run_train
from sigma_pipeline.jobs.train_request import TrainRequest

pytestmark = [
    pytest.mark.usefixtures("one_rank"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of DeepSpeed's, from torch 2.13
]

MakeRequest = Callable[..., TrainRequest]
REF = DatasetRef("noise", "train", "v1")


def curve(storage: Storage) -> dict[int, tuple[float, float]]:
    """Loss and gradient norm by step; of a step taken twice, the later one."""
    entries, _ = read_entries(storage, "tiny")
    values = {
        entry.fields["step"]: entry.fields["values"] for entry in entries if entry.kind == "metrics"
    }
    return {step: (v["train/loss"], v["train/gradient_norm"]) for step, v in sorted(values.items())}


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], object]) -> None:
    """Calls ``act`` once, just before step number ``step`` (from 0) is taken."""
    pending = [act]

    def rate(number: int, *settings: object) -> float:
        if number == step and pending:
            pending.pop()()
        return learning_rate(number, *settings)

    monkeypatch.setattr(train, "learning_rate", rate)


def wish_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


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


@pytest.mark.parametrize(
    ("assignment", "precision", "stages"),
    [("hard", "fp32", (1, 1)), ("soft", "bf16_autocast", (2, 3)), ("hard", "bf16", (3, 2))],
)
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    storage: Storage,
    make_request: MakeRequest,
    monkeypatch: pytest.MonkeyPatch,
    assignment: str,
    precision: str,
    stages: tuple[int, int],
) -> None:
    first, second = (
        make_request(model={"assignment": assignment}, precision=precision, zero_stage=stage)
        for stage in stages
    )
    run_train(replace(second, run_name="undisturbed"))
    at_step(monkeypatch, 2, wish_to_stop)

    stopped = run_train(first)
    finished = run_train(second)

    assert (stopped["state"], stopped["reason"]) == ("stopped", "signal SIGTERM")
    assert stopped["step"] == 4  # the wish of step 2 is known to all ranks after step 3
    assert finished["state"] == "finished"
    undisturbed, _ = read_entries(storage, "undisturbed")
    expected = {
        entry.fields["step"]: entry.fields["values"]["train/loss"]
        for entry in undisturbed
        if entry.kind == "metrics"
    }
    assert {step: loss for step, (loss, _) in curve(storage).items()} == expected
    assert (
        newest_commit(storage, "tiny").weights_sha256
        == newest_commit(storage, "undisturbed").weights_sha256
    )


def test_the_stop_is_committed_wherever_it_falls(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, 0, wish_to_stop)

    result = run_train(make_request())

    assert result["step"] == 2
    assert newest_commit(storage, "tiny").prefix == result["commit"]
    assert not storage.exists(manifest_key("tiny"))


def test_an_overtaken_attempt_may_not_commit(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, 2, lambda: register_attempt(storage, "tiny", {}))

    with pytest.raises(StageError, match="is overtaken by attempt"):
        run_train(make_request())

    assert [commit.step for commit in list_commits(storage, "tiny")] == [0]


def test_other_settings_are_refused_at_resuming(
    make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, 2, wish_to_stop)
    run_train(make_request())

    with pytest.raises(ConfigError, match="choose a new run_name"):
        run_train(replace(make_request(), config_fingerprint="0" * 16))


def test_weights_that_are_not_those_of_the_commit_stop_the_resumed_run(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, 2, wish_to_stop)
    key = f"{run_train(make_request())['commit']}/commit.json"
    record = read_json(storage, key)
    write_json(storage, key, {**record, "canary_loss": record["canary_loss"] * 1.01})

    with pytest.raises(StageError, match="give a canary loss of"):
        run_train(make_request())


def test_a_commit_without_optimizer_state_is_not_resumed_as_if_it_had_one(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, 2, wish_to_stop)
    key = f"{run_train(make_request())['commit']}/commit.json"
    write_json(storage, key, {**read_json(storage, key), "has_optimizer": False, "optimizer": []})

    with pytest.raises(StageError, match="has no optimizer state"):
        run_train(make_request())


def test_numbers_that_are_not_finite_end_the_run_and_are_never_applied(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An infinite rate ruins the weights at step 2; from then on no loss is finite.
    monkeypatch.setattr(
        train, "learning_rate", lambda step, *_: float("inf") if step == 1 else 1e-3
    )

    with pytest.raises(
        StageError, match=r"step 5: the loss on rank 0 was not finite.*3 times in a row"
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


def test_the_ledger_of_time_goes_on_over_attempts(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, 2, wish_to_stop)
    run_train(make_request())
    run_train(make_request())

    ledgers = [commit.ledger for commit in list_commits(storage, "tiny")]

    assert all(set(ledger) >= {"start_s", "step_s", "data_wait_s"} for ledger in ledgers[1:])
    assert ledgers[-1]["start_s"] > ledgers[0]["start_s"]


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


def test_a_mixture_with_another_dataset_is_refused_at_resuming(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, 2, wish_to_stop)
    run_train(make_request())
    other = replace(REF, version="v2")
    for key in storage.list(REF.prefix):
        storage.write(key.replace(REF.prefix, other.prefix), storage.read(key))

    with pytest.raises(ConfigError, match=r"data noise/train v1 .*, now noise/train v2 "):
        run_train(replace(make_request(), datasets=(other,)))


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
