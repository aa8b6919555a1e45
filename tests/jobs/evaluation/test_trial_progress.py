"""How far each trial is, as ``status`` tells it."""

from collections.abc import Callable

import pytest

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmarks.uvos import UnsupervisedVos
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.evaluation_progress import TrialProgress
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.scores import score_table
from sigma_pipeline.jobs.trial_progress import trial_progress

KNN = {"benchmark": "knn", "settings": {"k": 5}}
UVOS = {"benchmark": "uvos", "settings": {"restarts": 1}}
BY = "knn/squares/top1"

AddCommit = Callable[..., Commit]
MakeRequest = Callable[..., EvaluateRequest]
Evaluate = Callable[..., int]


def progress(storage: Storage, *, is_trained: bool = True) -> list[TrialProgress]:
    """Of the run, with its table as it is."""
    rows = score_table(storage, "r1")
    return trial_progress(storage, "r1", rows, is_trained=is_trained, best_by=BY)


def test_encoders_to_come_are_counted_by_the_recipes_stride_and_the_last_once_it_is_the_last(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit
) -> None:
    plan_grid(storage, make_request(KNN | {"every": 2}))
    for step in (0, 10, 20, 30):
        add_commit(step)

    counts = [progress(storage, is_trained=is_trained) for is_trained in (False, True)]

    assert [one.missing for (one,) in counts] == [2, 3]


def test_of_the_best_no_more_are_missing_than_have_a_rank_or_may_get_one(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate
) -> None:
    for step in (0, 10, 20, 30):
        add_commit(step)
    request = make_request(KNN | {"every": 3}, UVOS | {"best": 3}, best_by=BY)
    plan_grid(storage, request)
    assert [one.missing for one in progress(storage, is_trained=False)] == [2, 0]
    assert [one.missing for one in progress(storage)] == [2, 2]

    evaluate(request)

    assert [(one.done, one.missing) for one in progress(storage)] == [(2, 0), (2, 0)]


def test_a_commit_that_could_not_be_ranked_is_not_missing_among_the_best(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate
) -> None:
    add_commit(0, nan=True)
    add_commit(10)

    with pytest.raises(StageError, match="step-00000000"):
        evaluate(make_request(KNN, UVOS | {"best": 2}, best_by=BY))

    assert [(one.failed, one.missing) for one in progress(storage)] == [(1, 0), (0, 0)]


def test_what_is_done_on_commits_that_are_not_chosen_is_not_counted(
    storage: Storage,
    make_request: MakeRequest,
    add_commit: AddCommit,
    evaluate: Evaluate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(UnsupervisedVos, "cost", "dear")
    for step in (0, 10):
        add_commit(step)
    evaluate(make_request(KNN, UVOS | {"every": 1}))
    plan_grid(storage, make_request(KNN, UVOS))
    add_commit(20)

    counts = progress(storage)

    assert [(one.done, one.missing) for one in counts] == [(2, 1), (0, 1)]
