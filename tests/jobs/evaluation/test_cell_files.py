"""What a cell keeps beside its scores: whose files, under which names, and none of killed ones."""

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs import scoring
from sigma_pipeline.jobs.backlog import TaskLimits
from sigma_pipeline.jobs.cells import CellRecord
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.config import EvaluateLaunchConfig
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.scoring import CellRequest, run_cell

NOTED = """
from typing import ClassVar

from pydantic import BaseModel

from sigma_pipeline.jobs.benchmarks.benchmark import Needs, Result, Score
from sigma_pipeline.jobs.benchmarks.figures import Confusion


class Noted(BaseModel, frozen=True, extra="forbid"):
    name: ClassVar[str] = "noted"
    version: ClassVar[int] = 1
    cost: ClassVar[str] = "dear"
    summary: ClassVar[str] = "Writes down what it was given"

    path: str = "notes/seen.txt"

    @property
    def needs(self):
        return Needs(encoder=True, train=True, labels=True)

    def scores_of(self, subject, seed):
        keys = [row.key for row in subject.test.rows]
        seen = f"{len(subject.train)} {subject.encoder.training} {subject.view.frame_stride} {seed}"
        return Result(
            (Score("share", 0.5, "fraction", True, 0.4, 0.6, len(keys)),),
            {"key": keys},
            files={self.path: seen.encode()},
            figures=(Confusion([0, 1], [0, 2]),),
        )


BENCHMARK = Noted
"""

Prepare = Callable[..., list[CellRequest]]


@pytest.fixture
def prepare(
    storage: Storage,
    make_request: Callable[..., EvaluateRequest],
    add_commit: Callable[..., Commit],
    add_benchmark: Callable[[str, str], None],
) -> Prepare:
    """The cells of ``noted``; settings are the benchmark's, keywords those of evaluation."""
    add_benchmark("noted", NOTED)

    def make(settings: dict[str, Any] | None = None, **evaluate: Any) -> list[CellRequest]:
        cell = {"benchmark": "noted", "seeds": [3, 4], "settings": settings or {}, "gpus": 0.25}
        grid = plan_grid(storage, make_request(cell, **evaluate))
        (planned,) = grid.trials
        cells = planned.cells("r1", committed_encoder(add_commit(0)))
        return [grid.cell_request(planned, one) for one in cells]

    return make


def _record(storage: Storage, request: CellRequest) -> CellRecord:
    record = CellRecord.read(storage, request.cell)
    assert record is not None
    return record


def _there(storage: Storage, request: CellRequest) -> set[str]:
    """Keys of all files of the cell but its record."""
    folder = request.cell.key.rpartition("/")[0]
    keys = (key for key in storage.list(folder) if key.startswith(request.cell.stem))
    return set(keys) - {request.cell.key}


def test_a_benchmark_of_encoders_gets_one_that_is_frozen_both_splits_and_the_view(
    storage: Storage, prepare: Prepare
) -> None:
    request = prepare()[0]

    run_cell(storage, request)

    record = _record(storage, request)
    (key,) = record.files
    assert key == f"{request.cell.stem}.{record.attempt}/notes/seen.txt"
    assert storage.read(key) == b"24 False 2 3"
    assert (record.cost, record.gpus) == ("dear", 0.25)
    assert request.features == ()


def test_figures_are_drawn_for_the_first_seed_alone_and_named_in_the_record(
    storage: Storage, prepare: Prepare
) -> None:
    first, second = prepare(pictures=True)

    for request in (first, second):
        run_cell(storage, request)

    names = {key.partition(_record(storage, first).attempt)[2] for key in _there(storage, first)}
    assert names == {".outcomes.parquet", "/notes/seen.txt", "/figures/confusion.png"}
    picture = next(key for key in _record(storage, first).files if key.endswith(".png"))
    assert Image.open(io.BytesIO(storage.read(picture))).width > 50
    assert len(_record(storage, second).files) == 1


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (StageError("sample 3 cannot be read"), "no figures: sample 3 cannot be read"),
        (KeyError("clip-3"), "no figures: KeyError('clip-3')"),
    ],
)
def test_scores_are_kept_where_figures_cannot_be_drawn(
    storage: Storage,
    prepare: Prepare,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    error: Exception,
    note: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(scoring, "draw_figures", fail)
    request = prepare(pictures=True)[0]

    run_cell(storage, request)

    record = _record(storage, request)
    assert record.notes == (note,)
    assert len(record.files) == 1
    assert "in fail" in caplog.text  # the traceback


@pytest.mark.parametrize("path", ["../../step-00000001/x", "/etc/x", "a//b", ".hidden", "a\\b"])
def test_a_file_that_would_lie_elsewhere_is_refused_before_anything_is_written(
    storage: Storage, prepare: Prepare, path: str
) -> None:
    request = prepare({"path": path})[0]

    with pytest.raises(StageError, match=r"noted on squares, step-00000000, seed 3: .*no relative"):
        run_cell(storage, request)

    assert _there(storage, request) == set()
    assert not storage.exists(request.cell.key)


def test_the_loser_of_a_race_removes_its_own_files_and_only_these(
    storage: Storage, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = prepare(pictures=True)[0]
    run_cell(storage, request)
    record, first = _record(storage, request), _there(storage, request)
    monkeypatch.setattr(type(storage), "exists", lambda self, key: False)

    run_cell(storage, request)

    assert _there(storage, request) == first
    assert set(record.files) < first
    assert _record(storage, request) == record


def test_files_of_killed_attempts_go_when_the_cell_is_done_and_a_noted_failure_stays(
    storage: Storage, prepare: Prepare
) -> None:
    first, other = prepare()
    left = [
        f"{first.cell.folder('earlier')}/notes/seen.txt",
        f"{first.cell.stem}.x.outcomes.parquet",
    ]
    theirs = f"{other.cell.folder('running')}/notes/seen.txt"
    for key in (*left, theirs, first.cell.failure_key):
        storage.write(key, b"{}")

    run_cell(storage, first)

    record = _record(storage, first)
    assert _there(storage, first) == {record.outcomes, *record.files, first.cell.failure_key}
    assert storage.exists(theirs)


def test_tasks_ask_for_what_their_cell_says_and_else_for_what_the_recipe_gives_all(
    storage: Storage,
    make_request: Callable[..., EvaluateRequest],
    add_commit: Callable[..., Commit],
) -> None:
    knn = {"benchmark": "knn"}
    own = {"benchmark": "linear", "cpus": 3, "gpus": 0.5, "memory_gib": 2, "deadline_min": 3}
    request = make_request(knn, own, {"benchmark": "uvos", "every": 2}, deadline_min=60)
    launch = EvaluateLaunchConfig(cpus_per_task=2, gpus_per_task=0.25)
    grid = plan_grid(storage, replace(request, launch=launch))

    limits = [planned.limits for planned in grid.trials]

    assert limits[0] == limits[2] == TaskLimits(2, 0.25, None, 3600)
    assert limits[1] == TaskLimits(3, 0.5, 2, 180)
    assert [(one.cost, one.every, one.best) for one in grid.trials] == [
        ("cheap", None, None),
        ("cheap", None, None),
        ("cheap", 2, None),
    ]
    source = committed_encoder(add_commit(0))
    train, test = grid.features(grid.trials[0].trial, source)
    assert grid.feature_limits(train) == grid.feature_limits(test) == TaskLimits(3, 0.5, 2, 3600)
    assert (train.decoders, test.decoders) == (2, 2)
