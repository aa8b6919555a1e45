"""What the dear cells of a run may spend, whoever begins them and however they end."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import LocalStorage, Storage
from sigma_pipeline.jobs.backlog import Outcome, Task, TaskLimits
from sigma_pipeline.jobs.benchmarks.uvos import UnsupervisedVos
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.evaluation import Evaluation
from sigma_pipeline.jobs.gpu_budget import GpuBudget
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.planned_trials import PlannedTrial
from sigma_pipeline.jobs.scores import score_table
from tests.jobs.evaluation.in_process import InProcess

AddCommit = Callable[..., object]
Evaluate = Callable[..., int]
MakeRequest = Callable[..., EvaluateRequest]
UVOS: dict[str, Any] = {"benchmark": "uvos", "settings": {"restarts": 1}, "every": 1, "gpus": 1}
HOUR_S = 3600.0
LIMITS = TaskLimits(gpus=1, processes=2, deadline_s=10 * HOUR_S)


class Clock:
    """Goes on by hand."""

    def __init__(self) -> None:
        self.hours = 0.0

    def __call__(self) -> float:
        """In seconds."""
        return self.hours * HOUR_S


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def dear(storage: Storage, make_request: MakeRequest) -> PlannedTrial:
    """Takes two GPUs with its two processes, for ten hours at most."""
    planned = plan_grid(storage, make_request({"benchmark": "knn"})).trials[0]
    return replace(planned, cost="dear", limits=LIMITS)


@pytest.fixture
def budget(storage: Storage, clock: Clock) -> Callable[[float | None], GpuBudget]:
    """Of another process each time."""
    return lambda hours: GpuBudget(storage, "r1", hours, clock)


def test_hours_count_for_all_jobs_whatever_became_of_the_cells(
    budget: Callable[[float | None], GpuBudget], dear: PlannedTrial, clock: Clock
) -> None:
    ended, killed = budget(None), budget(None)
    ended.begin("good", dear)
    ended.begin("bad", dear)
    clock.hours = 1
    ended.end("good", has_succeeded=True)
    ended.end("bad", has_succeeded=False)
    ended.begin("given up", dear)
    killed.begin("lost", dear)
    clock.hours = 1.5
    ended.close()
    killed.note()
    clock.hours = 7  # since then nobody has heard of it

    refusal = budget(6).refusal(dear)

    assert refusal is not None
    assert "gpu_hours=6 is used up (6.00 spent); raise evaluate.gpu_hours" in refusal
    assert budget(6.01).refusal(dear) is None
    assert budget(6).refusal(replace(dear, cost="cheap")) is None


def test_cells_that_run_are_counted_as_long_as_they_may_last(
    budget: Callable[[float | None], GpuBudget], dear: PlannedTrial, clock: Clock
) -> None:
    mine = budget(50)
    for name in ("1", "2"):
        assert mine.has_room(dear)
        mine.begin(name, dear)  # 20 GPU-hours until its deadline
    mine.begin("3", dear)

    assert not mine.has_room(dear)
    assert mine.refusal(dear) is None  # it waits, and is not skipped
    assert mine.has_room(replace(dear, cost="cheap"))

    clock.hours = 4
    mine.end("1", has_succeeded=True)  # 8 GPU-hours: 24 are spent
    assert mine.has_room(dear)

    clock.hours = 9
    assert mine.has_room(dear)  # 8 + 2 * 18, and both are later than expected
    clock.hours = 10.5
    assert mine.has_room(dear)  # as it would be refused
    assert mine.refusal(dear) is not None


def test_what_other_jobs_have_finished_says_how_long_a_cell_lasts(
    budget: Callable[[float | None], GpuBudget], dear: PlannedTrial, clock: Clock
) -> None:
    other = budget(None)
    other.begin("1", dear)
    clock.hours = 1
    other.end("1", has_succeeded=True)

    mine = budget(6.5)
    mine.begin("2", dear)
    assert not mine.has_room(dear)  # 20 hours, for all that it knows
    assert mine.refusal(dear) is None
    assert mine.has_room(dear)  # 2 spent, and 2 to come
    mine.begin("3", dear)
    assert mine.has_room(dear)
    mine.begin("4", dear)
    assert not mine.has_room(dear)


def test_an_account_that_is_closed_is_read_once(
    budget: Callable[[float | None], GpuBudget],
    dear: PlannedTrial,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _ in range(3):
        other = budget(None)
        other.begin("1", dear)
        other.close()
    reads: list[str] = []
    read = LocalStorage.read

    def watched(
        storage: LocalStorage, key: str, start: int = 0, length: int | None = None
    ) -> bytes:
        reads.append(key)
        return read(storage, key, start, length)

    monkeypatch.setattr(LocalStorage, "read", watched)
    mine = budget(8)

    for name in "abcdefgh":
        assert mine.refusal(dear) is None
        mine.begin(name, dear)

    assert len(reads) == 3


class Wide(InProcess):
    """Has room for any number; remembers how many were begun together."""

    def __init__(self) -> None:
        super().__init__()
        self.together: list[int] = []

    def has_room(self, task: Task) -> bool:
        """Always."""
        return True

    def finished(self, timeout_s: float) -> list[Outcome]:
        """Runs what was put aside."""
        outcomes = super().finished(timeout_s)
        self.together.append(sum("uvos" in outcome.task.title for outcome in outcomes))
        return outcomes


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> Wide:
    """Segmentation is dear, and room for all of it."""
    monkeypatch.setattr(UnsupervisedVos, "cost", "dear")
    return Wide()


def test_dear_cells_do_not_begin_together_beyond_the_budget(
    storage: Storage, journal: Journal, make_request: MakeRequest, add_commit: AddCommit, wide: Wide
) -> None:
    for step in range(5):
        add_commit(step)
    request = make_request(UVOS | {"deadline_min": 60}, gpu_hours=1.5)

    Evaluation(storage, journal, plan_grid(storage, request), wide).run(None)

    # Each may take an hour, for all that is known at first; then they are known to take seconds.
    assert [count for count in wide.together if count] == [2, 3]
    assert [row.cells[0].state for row in score_table(storage, "r1")] == ["done"] * 5


@pytest.mark.usefixtures("wide")
def test_a_dear_cell_that_fails_uses_up_the_budget(
    storage: Storage,
    make_request: MakeRequest,
    add_commit: AddCommit,
    evaluate: Evaluate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise StageError("no memory")

    monkeypatch.setattr(UnsupervisedVos, "scores", fail)
    for step in (0, 10):
        add_commit(step)

    with pytest.raises(StageError, match="1 evaluations failed"):
        evaluate(make_request(UVOS, gpu_hours=1e-9))

    states = [row.cells[0].state for row in score_table(storage, "r1")]
    assert states == ["failed", "skipped"]
