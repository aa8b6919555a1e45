"""Whole evaluations, their tasks run in this process."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sigma_pipeline.infra.errors import MissingInputError, StageError
from sigma_pipeline.infra.journal import read_entries
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.evaluation_record import PICTURE_NAME
from sigma_pipeline.jobs.planned_trials import read_grid
from sigma_pipeline.jobs.scores import score_table
from tests.jobs.evaluation.in_process import InProcess

KNN = {"benchmark": "knn", "settings": {"k": 5}}
UVOS = {"benchmark": "uvos", "settings": {"restarts": 1}}

AddCommit = Callable[..., Commit]
MakeRequest = Callable[..., EvaluateRequest]
Evaluate = Callable[..., int]


def _points(storage: Storage) -> Counter[tuple[str, int]]:
    """How often each (metric, step) of a benchmark was brought to the journal."""
    return Counter(
        (name, entry.fields["step"])
        for entry in read_entries(storage, "r1")[0]
        for name in entry.fields.get("values", ())
        if name.startswith("evaluate/")
    )


def _names(storage: Storage) -> dict[str, list[int]]:
    """Steps of each metric in the journal."""
    names: dict[str, list[int]] = {}
    for name, step in sorted(_points(storage)):
        names.setdefault(name, []).append(step)
    return names


def test_every_commit_is_scored_and_its_splits_encoded_once(
    storage: Storage,
    make_request: MakeRequest,
    add_commit: AddCommit,
    evaluate: Evaluate,
    workers: InProcess,
) -> None:
    add_commit(0)
    add_commit(40)

    assert evaluate(make_request(KNN, UVOS)) == 8

    assert sum(title.startswith("features of squares/val") for title in workers.titles) == 2
    assert _names(storage) == {
        "evaluate/knn/squares/top1": [0, 40],
        "evaluate/uvos/squares/miou": [0, 40],
        "evaluate/uvos/squares/miou_over": [0, 40],
    }


def test_a_second_run_does_nothing_and_journals_nothing_twice(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate
) -> None:
    add_commit(0)
    request = make_request(KNN)
    evaluate(request)

    assert evaluate(request) == 0
    assert set(_points(storage).values()) == {1}


def test_a_score_that_missed_the_journal_is_brought_there_by_the_next_run(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate
) -> None:
    add_commit(0)
    evaluate(make_request(KNN))
    for key in storage.list("runs/r1/journal"):
        storage.delete(key)  # killed between the cell and the flush

    assert evaluate(make_request(KNN)) == 0
    assert _names(storage) == {"evaluate/knn/squares/top1": [0]}


def test_only_what_is_missing_is_done(
    storage: Storage,
    make_request: MakeRequest,
    add_commit: AddCommit,
    evaluate: Evaluate,
    workers: InProcess,
) -> None:
    add_commit(0)
    evaluate(make_request(KNN))
    workers.titles.clear()

    evaluate(make_request(KNN, {"benchmark": "linear"}))

    assert workers.titles == ["linear on squares, step-00000000, seed 0"]


def test_following_takes_commits_as_they_come_and_the_last_one_at_the_end(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate
) -> None:
    seen: list[dict[str, list[int]]] = []

    def follow() -> bool:
        seen.append(_names(storage))
        if len(seen) <= 10 and len(seen) % 2:
            add_commit(10 * len(seen))  # steps 10, 30, 50, 70, 90
        return len(seen) <= 20

    evaluate(make_request(KNN | {"every": 3}), follow)

    top1 = [names.get("evaluate/knn/squares/top1", []) for names in seen]
    assert [] in top1
    assert [10] in top1
    assert top1[20] == [10, 70]  # asked for the last time while training runs
    assert _names(storage)["evaluate/knn/squares/top1"] == [10, 70, 90]


def test_seeds_are_averaged_once_all_are_there(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate
) -> None:
    add_commit(0)

    evaluate(make_request({"benchmark": "linear", "seeds": [0, 1, 2]}))

    assert _points(storage) == {("evaluate/linear/squares/top1", 0): 1}
    *_, end = read_entries(storage, "r1")[0]
    assert end.fields["values"]["time/evaluation_s"] > 0
    (row,) = score_table(storage, "r1")
    assert row.cells[0].seeds == 3


def test_one_failing_commit_stops_no_other_and_is_tried_again(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate
) -> None:
    add_commit(0, nan=True)
    good = add_commit(40)

    with pytest.raises(StageError, match="knn on squares, step-00000000, seed 0"):
        evaluate(make_request(KNN))

    broken, fine = score_table(storage, "r1")
    assert (broken.cells[0].state, fine.cells[0].state) == ("failed", "done")
    assert "are not finite" in broken.cells[0].reason
    healed = add_commit(0, attempt="a2")
    assert healed.step < good.step
    assert evaluate(make_request(KNN)) == 3
    assert [row.cells[0].state for row in score_table(storage, "r1")] == ["done", "done"]


def test_a_cell_whose_features_failed_before_it_was_planned_is_not_lost(
    storage: Storage,
    make_request: MakeRequest,
    add_commit: AddCommit,
    evaluate: Evaluate,
) -> None:
    add_commit(0)
    calls = iter(range(100))

    def follow() -> bool:
        if next(calls) == 2:
            add_commit(40, nan=True)
        return next(calls) < 20

    # uvos takes the last commit only when training has ended; its features failed long before.
    with pytest.raises(StageError, match=r"uvos on squares, step-00000040, seed 0: not started"):
        evaluate(make_request(KNN, UVOS | {"every": 9}), follow)


def test_an_evaluation_without_commits_names_the_command(
    make_request: MakeRequest, evaluate: Evaluate
) -> None:
    with pytest.raises(MissingInputError, match="--stage train"):
        evaluate(make_request(KNN))


def test_the_supervised_reference_goes_through_the_same_cells_under_its_own_name(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate
) -> None:
    add_commit(0)
    supervised = {"dataset": "squares", "steps": 4, "batch_clips": 8}

    evaluate(make_request(KNN, UVOS | {"every": 5}, supervised=supervised))

    names = _names(storage)
    assert names["evaluate/supervised/knn/squares/top1"] == [0]
    assert names["evaluate/supervised/uvos/squares/miou"] == [0]
    assert [row.encoder for row in score_table(storage, "r1")] == ["untrained", "supervised"]
    assert evaluate(make_request(KNN, UVOS | {"every": 5}, supervised=supervised)) == 0


def test_each_commit_gets_one_picture(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate
) -> None:
    add_commit(0)
    add_commit(40)
    request = make_request(KNN, pictures=True)

    evaluate(request)
    evaluate(request)

    pictures: list[dict[str, Any]] = [
        dict(entry.fields)
        for entry in read_entries(storage, "r1")[0]
        if entry.kind == "picture" and entry.fields["name"] == PICTURE_NAME
    ]
    assert [one["step"] for one in pictures] == [0, 40]
    assert all(storage.read(one["key"]).startswith(b"\x89PNG") for one in pictures)


def test_a_job_for_single_steps_does_its_own_among_those_chosen_from_all(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate
) -> None:
    for step in (0, 10, 20, 30):
        add_commit(step)
    request = make_request(KNN | {"every": 2}, pictures=True)

    counts = [evaluate(replace(request, steps=(step,))) for step in (20, 10, 30)]

    # Commits 0 and 20 are chosen; 30 is the last one only for the job that knows it is.
    assert counts == [4, 1, 1]
    assert _names(storage)["evaluate/knn/squares/top1"] == [20]
    evaluate(request)
    assert _names(storage)["evaluate/knn/squares/top1"] == [0, 20, 30]


def test_what_concerns_the_whole_run_is_left_to_one_of_the_jobs(
    storage: Storage, make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate
) -> None:
    add_commit(0)
    add_commit(10)
    supervised = {"dataset": "squares", "steps": 4, "batch_clips": 8}
    request = make_request(KNN, supervised=supervised)

    evaluate(replace(request, steps=(10,)))

    assert read_grid(storage, "r1") == ()
    assert "evaluate/supervised/knn/squares/top1" not in _names(storage)
    evaluate(replace(request, steps=(0,)))
    assert len(read_grid(storage, "r1")) == 1
    assert _names(storage)["evaluate/supervised/knn/squares/top1"] == [0]
