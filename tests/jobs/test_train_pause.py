"""Training that waits while a commit is evaluated on its GPU; the rule knows no CUDA."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby
from threading import Thread
from typing import Any

import pytest

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs import train_loop
from sigma_pipeline.jobs.commits import list_commits
from sigma_pipeline.jobs.gpu_sharing import EvaluationTurns, TrainingShare
from sigma_pipeline.jobs.train import run_train
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.jobs.train_start import TrainStart, prepare_start
from sigma_pipeline.jobs.watchdog import Watchdog
from tests.jobs.train_runs import at_step, curve, wish_to_stop

pytestmark = [
    pytest.mark.usefixtures("one_rank"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of DeepSpeed's, from torch 2.13
]

MakeRequest = Callable[..., TrainRequest]


@pytest.fixture
def request_(make_request: MakeRequest) -> TrainRequest:
    """A training that shares its GPU by turns."""
    return replace(make_request(), gpu_share=TrainingShare("pause", 0.7))


@pytest.fixture
def evaluation(request_: TrainRequest) -> Iterator[EvaluationTurns]:
    """The other side."""
    with EvaluationTurns(request_.scratch_dir, request_.run_name) as turns:
        yield turns


def evaluated(turns: EvaluationTurns, act: Callable[[], object]) -> None:
    """Asks for the GPU, and calls ``act`` when it is there; in a thread of its own."""

    def wait() -> None:
        while not turns.is_ours():
            time.sleep(0.01)
        act()

    turns.ask(is_wanting=True)
    Thread(target=wait, daemon=True).start()


def test_a_pause_costs_time_and_changes_nothing(
    storage: Storage,
    request_: TrainRequest,
    evaluation: EvaluationTurns,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_train(request_)
    unpaused = curve(storage)
    for key in storage.list("runs"):
        storage.delete(key)
    steps_then: list[int] = []
    phases: list[str] = []
    see = Watchdog.at

    def note(self: Watchdog, phase: str, step: int) -> None:
        phases.append(phase)
        see(self, phase, step)

    def evaluate() -> None:
        time.sleep(0.5)
        steps_then.append(len(curve(storage)))
        evaluation.ask(is_wanting=False)

    monkeypatch.setattr(Watchdog, "at", note)
    at_step(monkeypatch, 2, lambda: evaluated(evaluation, evaluate))

    result = run_train(request_)

    assert result["state"] == "finished"
    assert curve(storage) == unpaused
    assert steps_then[0] < 6
    last = list_commits(storage, "tiny")[-1]
    assert 0.4 < last.ledger["paused_s"] < 30
    assert [phase for phase, _ in groupby(phases)].count("paused") == 1
    assert phases.count("paused") >= 4  # signs of life all the while, or it would be a stall


def in_third_pause(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Calls ``act`` when training has said three times that it waits."""
    see, seen = Watchdog.at, iter(range(3))

    def note(self: Watchdog, phase: str, step: int) -> None:
        see(self, phase, step)
        if phase == "paused" and next(seen, None) == 2:
            act()

    monkeypatch.setattr(Watchdog, "at", note)


def test_training_builds_nothing_on_the_gpu_while_a_commit_is_evaluated_there(
    storage: Storage,
    request_: TrainRequest,
    evaluation: EvaluationTurns,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluation.ask(is_wanting=True)
    assert evaluation.is_ours()
    seen: list[str] = []

    def start(*arguments: Any) -> TrainStart:
        evaluation.ask(is_wanting=True)
        seen.append("started" if not evaluation.is_ours() else "began beside evaluation")
        evaluation.ask(is_wanting=False)
        return prepare_start(*arguments)

    def leave() -> None:
        seen.append("evaluated")
        evaluation.ask(is_wanting=False)

    monkeypatch.setattr(train_loop, "prepare_start", start)
    in_third_pause(monkeypatch, leave)

    assert run_train(request_)["state"] == "finished"
    assert seen == ["evaluated", "started"]
    assert list_commits(storage, "tiny")[-1].ledger["paused_s"] > 0
    evaluation.ask(is_wanting=True)
    assert evaluation.is_ours()


def test_a_stop_is_heard_before_training_has_begun(
    storage: Storage,
    request_: TrainRequest,
    evaluation: EvaluationTurns,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluation.ask(is_wanting=True)
    assert evaluation.is_ours()
    in_third_pause(monkeypatch, wish_to_stop)

    result = run_train(request_)

    assert (result["state"], result["reason"]) == ("stopped", "signal SIGTERM")
    assert (result["step"], result["commit"]) == (0, None)
    assert list_commits(storage, "tiny") == []


def test_a_stop_is_heard_in_a_pause(
    storage: Storage,
    request_: TrainRequest,
    evaluation: EvaluationTurns,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_step(monkeypatch, 2, lambda: evaluated(evaluation, wish_to_stop))

    result = run_train(request_)

    assert (result["state"], result["reason"]) == ("stopped", "signal SIGTERM")
    assert 3 <= result["step"] <= 5
    assert list_commits(storage, "tiny")[-1].step == result["step"]
    assert evaluation.is_ours()
