"""What an evaluation begins when, and what it asks the store for in between."""

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage, write_json
from sigma_pipeline.jobs import evaluation
from sigma_pipeline.jobs.backlog import Outcome, Task
from sigma_pipeline.jobs.benchmarks.uvos import UnsupervisedVos
from sigma_pipeline.jobs.commits import Commit, manifest_key
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.evaluation import Evaluation
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.scores import score_table
from tests.jobs.evaluation.in_process import Pretending

KNN = {"benchmark": "knn", "settings": {"k": 5}}
LINEAR = {"benchmark": "linear"}
UVOS = {"benchmark": "uvos", "settings": {"restarts": 1}}
BY = "knn/squares/top1"

AddCommit = Callable[..., Commit]
MakeRequest = Callable[..., EvaluateRequest]
Evaluate = Callable[..., int]


@pytest.fixture
def workers() -> Pretending:
    """These tests are about the order alone."""
    return Pretending()


class Crowded(Pretending):
    """Workers whose nodes others hold for a while."""

    def __init__(self, full_polls: int) -> None:
        super().__init__()
        self._full_polls = full_polls

    def has_room(self, task: Task) -> bool:
        """Not before ``full_polls`` have passed."""
        return self._full_polls <= 0 and super().has_room(task)

    def finished(self, timeout_s: float) -> list[Outcome]:
        """See ``Pretending``."""
        self._full_polls -= 1
        return super().finished(timeout_s)


class Lost(Pretending):
    """Workers whose only node for k-NN does not come back."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = 0

    def has_room(self, task: Task) -> bool:
        """Not for k-NN."""
        return not task.title.startswith("knn") and super().has_room(task)

    def refusal(self, task: Task) -> str | None:
        """Gives up in the end, as ``RayWorkers`` do."""
        self._asked += task.title.startswith("knn")
        return "lost" if task.title.startswith("knn") and self._asked > 5 else None


def test_tasks_wait_for_workers_that_others_hold_and_the_log_says_so(
    storage: Storage,
    journal: Journal,
    make_request: MakeRequest,
    add_commit: AddCommit,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(evaluation, "_PROGRESS_INTERVAL_S", 0.0)
    add_commit(0)
    grid = plan_grid(storage, make_request(KNN))

    with caplog.at_level(logging.WARNING):
        assert Evaluation(storage, journal, grid, Crowded(4)).run(follow=None) == 3

    assert "Nothing runs, but 2 tasks wait, first of them features of squares" in caplog.text
    assert "no node has so much left" in caplog.text
    assert [row.cells[0].state for row in score_table(storage, "r1")] == ["done"]


def test_a_cell_whose_node_is_lost_for_good_fails_and_the_others_are_done(
    storage: Storage, journal: Journal, make_request: MakeRequest, add_commit: AddCommit
) -> None:
    for step in (0, 10):
        add_commit(step)
    grid = plan_grid(storage, make_request(KNN, LINEAR))

    with pytest.raises(StageError, match=r"2 evaluations failed.* step-00000010, seed 0: lost"):
        Evaluation(storage, journal, grid, Lost()).run(follow=None)

    states = [[cell.state for cell in row.cells] for row in score_table(storage, "r1")]
    assert states == [["failed", "done"]] * 2


def test_all_cells_of_a_commit_come_before_the_next_and_dear_ones_without_features_last(
    make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate, workers: Pretending
) -> None:
    for step in (0, 10):
        add_commit(step)
    dear = {"benchmark": "linear_augmented", "every": 1, "settings": {"epochs": 1}}

    evaluate(make_request(dear, KNN, LINEAR))

    cells = [title for title in workers.titles if not title.startswith("features")]
    assert [title.partition(" on squares, step-000000")[::2] for title in cells] == [
        ("knn", "00, seed 0"),
        ("linear", "00, seed 0"),
        ("knn", "10, seed 0"),
        ("linear", "10, seed 0"),
        ("linear_augmented", "00, seed 0"),
        ("linear_augmented", "10, seed 0"),
    ]


@pytest.mark.parametrize(
    "wish", [{}, {"best": 1}, {"every": 2}], ids=["dear", "best", "one of two"]
)
def test_what_waits_for_the_end_of_training_is_not_made_where_that_has_only_stopped(
    make_request: MakeRequest,
    add_commit: AddCommit,
    evaluate: Evaluate,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    workers: Pretending,
    wish: dict[str, Any],
) -> None:
    monkeypatch.setattr(UnsupervisedVos, "cost", "dear")
    for step in (0, 10):
        add_commit(step)
    request = make_request(KNN, UVOS | wish | {"seeds": [0, 1]}, best_by=BY)

    evaluate(request, is_trained=False)

    assert caplog.text.count("2 cells wait for the end of training") == 1
    assert not any(title.startswith("uvos on squares, step-00000010") for title in workers.titles)
    caplog.clear()
    workers.titles.clear()
    evaluate(request, is_trained=True)
    assert sum(title.startswith("uvos") for title in workers.titles) == 2
    assert "wait for the end" not in caplog.text


class Counting:
    """A store that counts what the driver asks it for, by operation."""

    def __init__(self, storage: Storage) -> None:
        self.counts: Counter[str] = Counter()
        self.is_counting = True
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        """The operation of the store; counted, unless it is the glance of each poll."""
        operation = getattr(self._storage, name)
        if name not in ("read", "exists", "list"):
            return operation

        def counted(key: str, *arguments: Any, **options: Any) -> Any:
            is_glance = key.endswith(("/latest.json", "/train/manifest.json"))
            self.counts[name] += self.is_counting and not is_glance
            return operation(key, *arguments, **options)

        return counted


class Uncounted(Pretending):
    """Workers whose own reads are not the driver's."""

    def __init__(self, storage: Counting) -> None:
        super().__init__()
        self._storage = storage

    def finished(self, timeout_s: float) -> list[Outcome]:
        """See ``Pretending``."""
        self._storage.is_counting = False
        try:
            return super().finished(timeout_s)
        finally:
            self._storage.is_counting = True


def test_one_more_commit_asks_the_store_no_more_the_more_there_were(
    storage: Storage, journal: Journal, make_request: MakeRequest, add_commit: AddCommit
) -> None:
    counting = Counting(storage)
    workers = Uncounted(counting)
    trials = ({"benchmark": "knn", "settings": {"k": k}} for k in range(1, 6))
    request = make_request(*trials, best_by="knn/squares/top1", pictures=True)
    write_json(storage, manifest_key("r1"), {})
    found: list[Counter[str]] = []
    quiet = [0, 0]

    def follow() -> bool:
        """Adds a commit whenever all that were there are done."""
        quiet[:] = [len(workers.titles), quiet[1] + 1 if quiet[0] == len(workers.titles) else 0]
        if quiet[1] == 3:
            quiet[1] = 0
            found.append(counting.counts.copy())
            counting.counts.clear()
            add_commit(10 * len(found))
        return len(found) < 8

    grid = plan_grid(counting, request)
    Evaluation(counting, journal, grid, workers).run(follow)

    costs = [(one["read"], one["exists"]) for one in found]
    assert costs[7] == costs[3], costs
    assert sum(costs[7]) < 25
