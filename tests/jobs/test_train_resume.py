"""Training that was stopped: as if it had not been, or refused with the reason."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.infra.journal import read_entries
from sigma_pipeline.infra.storage import Storage, read_json, write_json
from sigma_pipeline.jobs.commits import list_commits, manifest_key, newest_commit
from sigma_pipeline.jobs.train import run_train
from sigma_pipeline.jobs.train_request import TrainRequest
from tests.jobs.conftest import REF
from tests.jobs.train_runs import at_step, curve, wish_to_stop

pytestmark = [
    pytest.mark.usefixtures("one_rank"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of DeepSpeed's, from torch 2.13
]

MakeRequest = Callable[..., TrainRequest]


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


def test_the_ledger_of_time_goes_on_over_attempts(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, 2, wish_to_stop)
    began_s = time.monotonic()
    run_train(make_request())
    run_train(make_request())
    whole_s = time.monotonic() - began_s

    ledgers = [commit.ledger for commit in list_commits(storage, "tiny")]

    assert all(set(each) >= {"start_s", "productive_s", "data_wait_s"} for each in ledgers[1:])
    assert ledgers[-1]["start_s"] == ledgers[0]["start_s"]
    assert "restart_s" not in ledgers[0]
    assert ledgers[-1]["restart_s"] > 0
    spent = read_json(storage, manifest_key("tiny"))["ledger"]
    assert 0.8 * whole_s < sum(spent.values()) < 1.01 * whole_s


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
