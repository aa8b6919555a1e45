"""Evaluations that take turns with training on one GPU."""

from collections.abc import Callable
from dataclasses import replace

from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.backlog import Outcome, Task
from sigma_pipeline.jobs.config import EvaluateLaunchConfig
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.evaluation import Evaluation
from sigma_pipeline.jobs.gpu_sharing import TrainingTurns
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.scores import score_table
from tests.jobs.evaluation.in_process import InProcess

KNN = {"benchmark": "knn", "settings": {"k": 5}, "gpus": 1}
UVOS = {"benchmark": "uvos", "settings": {"restarts": 1}}

AddCommit = Callable[..., object]
MakeRequest = Callable[..., EvaluateRequest]
Evaluate = Callable[..., int]


def test_tasks_on_the_gpu_wait_for_the_step_of_training_and_no_longer(
    make_request: MakeRequest, add_commit: AddCommit, evaluate: Evaluate, workers: InProcess
) -> None:
    add_commit(0)
    launch = EvaluateLaunchConfig(gpu_sharing="pause")
    request = replace(make_request(KNN, UVOS), launch=launch)
    calls, before = iter(range(100)), []
    with TrainingTurns(request.scratch_dir, "r1") as training:
        assert training.take()

        def follow() -> bool:
            if (number := next(calls)) == 20:
                before.extend(workers.titles)
                training.give()
            return number < 21

        evaluate(request, follow)

        assert not any("knn" in title for title in before)
        assert "knn on squares, step-00000000, seed 0" in workers.titles
        assert training.take()


class Lasting(InProcess):
    """Has room for any number; segmentation of the first commit goes on until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.is_let_go = False

    def has_room(self, task: Task) -> bool:
        """Always."""
        return True

    def finished(self, timeout_s: float) -> list[Outcome]:
        """Runs all but that."""
        lasting = [] if self.is_let_go else [one for one in self._submitted if _lasts(one)]
        self._submitted = [one for one in self._submitted if one not in lasting]
        outcomes = super().finished(timeout_s)
        self._submitted = lasting
        return outcomes


def _lasts(task: Task) -> bool:
    return task.title.startswith("uvos on squares, step-00000000")


def test_training_is_not_paused_for_features_that_wait_for_space(
    storage: Storage, journal: Journal, make_request: MakeRequest, add_commit: AddCommit
) -> None:
    for step in (0, 10):
        add_commit(step)
    launch = EvaluateLaunchConfig(gpu_sharing="pause")
    request = make_request(KNN, UVOS, features_gib=1.4e-5)  # those of one commit
    request = replace(request, launch=launch)
    calls, workers = iter(range(100)), Lasting()
    with TrainingTurns(request.scratch_dir, "r1") as training:

        def follow() -> bool:
            if (number := next(calls)) == 20:
                assert "features of squares/val, step-00000010" not in workers.titles
                assert training.take()
                training.give()
                workers.is_let_go = True
            return number < 20

        Evaluation(storage, journal, plan_grid(storage, request), workers).run(follow)

    states = [cell.state for row in score_table(storage, "r1") for cell in row.cells]
    assert states == ["done"] * 4
