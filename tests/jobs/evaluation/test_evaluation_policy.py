"""Whole evaluations under a recipe's rules: dear cells, the best commits, budgets, deletions."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.journal import read_entries
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmarks.knn import Knn
from sigma_pipeline.jobs.benchmarks.uvos import UnsupervisedVos
from sigma_pipeline.jobs.best_commit import read_best
from sigma_pipeline.jobs.checkpoint_export import find_commit
from sigma_pipeline.jobs.commits import COMMIT_FILE, Commit, drop_old_optimizer_states
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.scores import TableRow, score_table
from sigma_pipeline.jobs.trial_progress import trial_progress
from tests.jobs.evaluation.in_process import InProcess

KNN = {"benchmark": "knn", "settings": {"k": 5}}
UVOS = {"benchmark": "uvos", "settings": {"restarts": 1}}
BY = "knn/squares/top1"

AddCommit = Callable[..., Commit]
MakeRequest = Callable[..., EvaluateRequest]
Evaluate = Callable[..., int]


@pytest.fixture
def dear_uvos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segmentation as if it trained through the encoder."""
    monkeypatch.setattr(UnsupervisedVos, "cost", "dear")


def uvos_states(storage: Storage) -> dict[int, str]:
    """State of the second cell by step."""
    return {row.step: row.cells[1].state for row in score_table(storage, "r1")}


def by_rank(rows: list[TableRow]) -> list[int]:
    """Steps by the first score of the first cell, worked out from the table."""
    return [
        row.step for row in sorted(rows, key=lambda row: (-row.cells[0].scores[0].value, row.step))
    ]


def best_tags(storage: Storage) -> list[dict[str, str]]:
    """What the journal was told of the best commit."""
    entries = read_entries(storage, "r1")[0]
    return [dict(entry.fields["values"]) for entry in entries if entry.kind == "tags"]


@pytest.mark.usefixtures("dear_uvos")
def test_a_dear_cell_waits_for_the_last_commit(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate
) -> None:
    add_commit(0)
    calls = iter(range(100))
    seen = []

    def follow() -> bool:
        if (number := next(calls)) == 2:
            add_commit(40)
        if is_training := number < 10:
            seen.append(uvos_states(storage))
        return is_training

    evaluate(make_request(KNN, UVOS), follow)

    assert seen[-1] == {0: "missing", 40: "missing"}
    assert uvos_states(storage) == {0: "missing", 40: "done"}
    progress = trial_progress(storage, "r1", score_table(storage, "r1"), is_trained=True)
    assert [(one.done, one.missing) for one in progress] == [(2, 0), (1, 0)]


@pytest.mark.usefixtures("dear_uvos")
def test_the_best_commits_are_taken_once_all_have_a_rank(
    storage: Storage,
    make_request: MakeRequest,
    add_commit: AddCommit,
    evaluate: Evaluate,
    workers: InProcess,
) -> None:
    for step in (0, 10, 20, 30):
        add_commit(step)
    request = make_request(UVOS | {"best": 2}, KNN, best_by=BY)

    evaluate(request)

    rows = score_table(storage, "r1")
    ranked = by_rank([TableRow(row.encoder, row.step, row.cells[1:]) for row in rows])
    taken = [row.step for row in rows if row.cells[0].state == "done"]
    assert taken == sorted(ranked[:2])
    assert [title.startswith("uvos") for title in workers.titles[-2:]] == [True, True]
    assert evaluate(request) == 0


def test_the_best_commit_is_taken_when_the_last_rank_takes_no_longer_than_a_look(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate
) -> None:
    commits = [add_commit(step) for step in (0, 10)]
    request = make_request(KNN, UVOS | {"best": 1}, best_by=BY)
    evaluate(request, is_trained=False)
    (cell,) = plan_grid(storage, request).trials[0].cells("r1", committed_encoder(commits[-1]))
    storage.delete(cell.key)

    assert evaluate(request) == 2  # that cell, whose features are there, and the best commit's

    first = by_rank(score_table(storage, "r1"))[0]
    assert [step for step, state in uvos_states(storage).items() if state == "done"] == [first]


def test_commits_that_are_refused_a_rank_are_not_waited_for(
    storage: Storage,
    make_request: MakeRequest,
    add_commit: AddCommit,
    evaluate: Evaluate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Knn, "cost", "dear")
    dear = KNN | {"every": 1, "gpus": 1}
    for step in (0, 10):
        add_commit(step)

    evaluate(make_request(dear, UVOS | {"best": 1}, best_by=BY, gpu_hours=1e-9))

    assert uvos_states(storage) == {0: "done"}


def test_a_commit_that_can_have_no_rank_as_its_features_failed_is_not_waited_for(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate
) -> None:
    add_commit(0)
    add_commit(10, nan=True)
    calls = iter(range(100))
    linear = {"benchmark": "linear"}
    request = make_request(linear, UVOS | {"best": 1}, KNN | {"every": 2}, best_by=BY)

    with pytest.raises(StageError, match="step-00000010"):
        evaluate(request, lambda: next(calls) < 20)  # k-NN takes the second commit as the last

    assert uvos_states(storage) == {0: "done", 10: "missing"}


def test_the_best_commit_is_marked_and_told_once(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate
) -> None:
    request = make_request(
        KNN, best_by=BY, supervised={"dataset": "squares", "steps": 2, "batch_clips": 8}
    )
    for step in (0, 10, 20):
        add_commit(step)
        evaluate(request)
    evaluate(request)

    rows = score_table(storage, "r1")
    first = by_rank([row for row in rows if row.encoder != "supervised"])[0]
    best = read_best(storage, "r1")
    assert best is not None
    assert (best.by, best.step) == (BY, first)
    assert [row.step for row in rows if row.is_best] == [first]
    assert find_commit(storage, "r1", "best").weights_sha256 == best.weights_sha256
    tags = best_tags(storage)
    assert tags[-1] == {
        "best_by": BY,
        "best_step": str(first),
        "best_score": f"{best.value:.6g}",
    }
    assert len({str(one) for one in tags}) == len(tags)

    evaluate(make_request(KNN))  # without a score to rank by

    assert not any(row.is_best for row in score_table(storage, "r1"))


def test_a_score_that_the_benchmark_does_not_have_fails_after_all_else_is_done(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate
) -> None:
    add_commit(0)

    with pytest.raises(StageError, match=r"has no score 'top9'; .* knn/squares/top1"):
        evaluate(make_request(KNN, UVOS | {"best": 1}, best_by="knn/squares/top9"))

    (row,) = score_table(storage, "r1")
    assert [cell.state for cell in row.cells] == ["done", "missing"]


@pytest.mark.usefixtures("dear_uvos")
def test_a_dear_cell_beyond_the_budget_is_skipped_until_it_is_raised(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate
) -> None:
    cells: list[dict[str, Any]] = [KNN, UVOS | {"every": 1, "gpus": 1}]
    for step in (0, 10):
        add_commit(step)

    evaluate(make_request(*cells, gpu_hours=1e-9))  # the first cell may begin, and uses all of it

    rows = score_table(storage, "r1")
    assert [cell.state for cell in rows[0].cells] == ["done", "done"]
    assert [cell.state for cell in rows[1].cells] == ["done", "skipped"]
    assert "raise evaluate.gpu_hours" in rows[1].cells[1].reason
    progress = trial_progress(storage, "r1", rows, is_trained=True)
    assert [(one.done, one.skipped, one.missing) for one in progress] == [(2, 0, 0), (1, 1, 0)]

    assert evaluate(make_request(*cells, gpu_hours=1)) == 1

    assert uvos_states(storage) == {0: "done", 10: "done"}


def test_a_commit_that_vanishes_is_a_failed_row_and_the_others_go_on(
    storage: Storage,
    make_request: MakeRequest,
    add_commit: AddCommit,
    evaluate: Evaluate,
) -> None:
    add_commit(0)
    doomed = add_commit(10)
    add_commit(20)
    calls = iter(range(100))

    def follow() -> bool:
        if next(calls) == 0:
            return True
        shutil.rmtree(
            Path(storage.root_uri, doomed.prefix), ignore_errors=True
        )  # its tasks are planned by now
        return False

    request = make_request(KNN)
    with pytest.raises(StageError, match=r"the weights of step-00000010 are gone"):
        evaluate(request, follow)

    shown = {row.encoder: row.cells[0].state for row in score_table(storage, "r1")}
    assert shown == {"untrained": "done", "step 10, deleted": "failed", "step 20": "done"}
    assert evaluate(request) == 0
    rows = score_table(storage, "r1")
    (progress,) = trial_progress(storage, "r1", rows, is_trained=True)
    assert (progress.done, progress.failed, progress.missing) == (2, 0, 0)


@pytest.mark.usefixtures("dear_uvos")
def test_one_of_two_commits_is_the_same_one_when_others_are_deleted_or_damaged(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate
) -> None:
    commits = [add_commit(step) for step in (0, 10, 20, 30, 40)]
    request = make_request(UVOS | {"every": 2})
    evaluate(request)

    shutil.rmtree(Path(storage.root_uri, commits[0].prefix))
    assert evaluate(request) == 0
    storage.write(f"{commits[1].prefix}/{COMMIT_FILE}", b"{")
    assert evaluate(request) == 0

    taken = [row.step for row in score_table(storage, "r1")]
    assert taken == [20, 40]


def test_optimizer_state_that_goes_meanwhile_is_nothing_to_an_evaluation(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate
) -> None:
    add_commit(0)
    newest = add_commit(10, has_optimizer=True)
    calls = iter(range(100))

    def follow() -> bool:
        if next(calls) == 2:
            drop_old_optimizer_states(storage, newest, keep_last=0)
        return next(calls) < 4

    evaluate(make_request(KNN), follow)

    assert [row.cells[0].state for row in score_table(storage, "r1")] == ["done", "done"]
    assert not find_commit(storage, "r1", 10).has_optimizer
