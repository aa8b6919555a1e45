"""What cells say together: files beside them, and their way to MLflow."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.journal import Journal, read_entries
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.evaluation_record import EvaluationRecord
from sigma_pipeline.jobs.planned_trials import PlannedTrial, read_absent, read_grid, record_grid
from sigma_pipeline.jobs.run_summaries import write_summaries
from tests.jobs.severe_cells import (
    SIGMA_DINO,
    finish,
    plan_column,
    put_official,
    scored,
)

AddCommit = Callable[..., Commit]
MakeRequest = Callable[..., EvaluateRequest]
FEW: Mapping[str, Any] = {"benchmark": "knn", "settings": {"k": 3}, "examples": [3, 9]}


def told(storage: Storage, journal: Journal) -> dict[str, str]:
    """Key of each file that MLflow is to show, by its name there."""
    journal.flush()
    entries = read_entries(storage, "r1")[0]
    return {e.fields["name"]: e.fields["key"] for e in entries if e.kind == "artifact"}


@pytest.fixture
def severe(storage: Storage, add_commit: AddCommit) -> list[PlannedTrial]:
    """All eight columns of one commit, with the numbers of SIGMA-DINO."""
    put_official(storage, SIGMA_DINO)
    trials = [plan_column(name) for name in SIGMA_DINO]
    record_grid(storage, "r1", trials)
    source = committed_encoder(add_commit(7))
    for planned, (name, shown) in zip(trials, SIGMA_DINO.items(), strict=True):
        (cell,) = planned.cells("r1", source)
        finish(storage, cell, *scored(name, shown).scores)
    return trials


@pytest.mark.usefixtures("severe")
def test_the_table_and_the_radar_lie_beside_the_cells(storage: Storage, journal: Journal) -> None:
    write_summaries(storage, journal, "r1")

    text = storage.read("runs/r1/evaluate/severe/severe.md").decode()
    own = "| r1, step 7 | 70.9 | 89.7 | 84.1 | 28.0 | 55.1 | 79.9 | 0.169 | 23.3 | 64.3 |"
    assert own in text.splitlines()
    assert storage.read("runs/r1/evaluate/severe/severe.png").startswith(b"\x89PNG")
    names = [f"evaluate/severe/severe.{kind}" for kind in ("csv", "md", "png")]
    assert told(storage, journal) == {name: f"runs/r1/{name}" for name in names}


@pytest.mark.usefixtures("severe")
def test_files_that_stay_the_same_are_not_told_again(storage: Storage, journal: Journal) -> None:
    write_summaries(storage, journal, "r1")
    journal.flush()
    before = len(read_entries(storage, "r1")[0])

    write_summaries(storage, journal, "r1")
    journal.flush()

    assert len(read_entries(storage, "r1")[0]) == before


def test_files_of_an_earlier_recipe_are_taken_away(
    storage: Storage, journal: Journal, severe: list[PlannedTrial]
) -> None:
    write_summaries(storage, journal, "r1")
    record_grid(storage, "r1", [replace(one, column=None) for one in severe])

    write_summaries(storage, journal, "r1")

    assert storage.list("runs/r1/evaluate/severe") == []


def test_a_summary_that_fails_does_not_hide_which_tasks_failed(
    storage: Storage, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*of: object) -> None:
        raise ValueError("no picture")

    monkeypatch.setattr("sigma_pipeline.jobs.evaluation_record.write_summaries", fails)
    record = EvaluationRecord(storage, journal, "r1")
    record.problem("knn on demo: out of memory")

    with pytest.raises(StageError, match=r"1 evaluations failed.*out of memory"):
        record.end(None)
    with pytest.raises(ValueError, match="no picture"):
        EvaluationRecord(storage, journal, "r1").end(None)


@pytest.mark.parametrize(("examples", "said"), [([], "at least 1 item"), ([10, 10], "twice")])
def test_no_size_and_a_size_twice_are_refused(
    make_request: MakeRequest, examples: list[int], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        make_request(dict(FEW) | {"examples": examples})


def test_a_run_without_columns_and_sizes_has_none(
    storage: Storage,
    journal: Journal,
    evaluate: Callable[..., int],
    make_request: MakeRequest,
    add_commit: AddCommit,
) -> None:
    add_commit(0)

    evaluate(make_request({"benchmark": "knn", "settings": {"k": 3}}))

    assert told(storage, journal) == {}


def test_an_evaluation_ends_with_the_curve_of_what_was_learned_from_few(
    storage: Storage,
    journal: Journal,
    evaluate: Callable[..., int],
    make_request: MakeRequest,
    add_commit: AddCommit,
) -> None:
    add_commit(0)
    whole = {name: value for name, value in FEW.items() if name != "examples"}

    evaluate(make_request(dict(FEW) | {"seeds": [0, 1, 2]}, whole))

    lines = storage.read("runs/r1/evaluate/few/few.csv").decode().splitlines()
    sizes = [line.split(",")[4:6] for line in lines[1:]]
    assert sizes == [["3", "3"], ["9", "3"], ["all", "1"]]
    assert storage.read("runs/r1/evaluate/few/knn-squares.png").startswith(b"\x89PNG")
    assert set(told(storage, journal)) == {"evaluate/few/few.csv", "evaluate/few/knn-squares.png"}
    assert [one.label for one in read_grid(storage, "r1")] == ["knn-of-3", "knn-of-9", "knn"]


def test_columns_that_were_left_out_are_kept_with_their_reasons(
    storage: Storage,
    make_request: MakeRequest,
    add_commit: AddCommit,
    evaluate: Callable[..., int],
) -> None:
    add_commit(0)
    request = make_request({"benchmark": "knn", "settings": {"k": 3}})

    evaluate(EvaluateRequest(**{**vars(request), "absent": {"ssv2": "not sharded"}}))
    assert read_absent(storage, "r1") == {"ssv2": "not sharded"}

    evaluate(request)
    assert read_absent(storage, "r1") == {}


def test_two_cells_of_one_column_are_refused_with_the_recipe(make_request: MakeRequest) -> None:
    cell = {"benchmark": "finetune", "column": "ssv2"}

    with pytest.raises(ValueError, match=r"cells\.1\.column=ssv2: cells\.0 fills it already"):
        make_request(cell, cell)
