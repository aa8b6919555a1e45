"""Workers that are this process: what an evaluation plans is done in its order, one by one."""

from threadpoolctl import threadpool_limits

from sigma_pipeline.infra.errors import PipelineError
from sigma_pipeline.infra.storage import write_json
from sigma_pipeline.jobs.backlog import Outcome, Task
from sigma_pipeline.jobs.benchmarks.benchmark import Score
from sigma_pipeline.jobs.cells import CellRecord
from sigma_pipeline.jobs.scoring import CellRequest


class InProcess:
    """Runs each task when asked what has finished."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self._submitted: list[Task] = []

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be run."""
        return not self._submitted

    def start(self) -> None:
        """Always ready."""

    def has_room(self, task: Task) -> bool:
        """For one task at a time."""
        return self.is_idle

    def refusal(self, task: Task) -> str | None:
        """Whatever comes is run."""
        del task
        return None

    def submit(self, task: Task) -> None:
        """Puts the task aside."""
        self.titles.append(task.title)
        self._submitted.append(task)

    def finished(self, timeout_s: float) -> list[Outcome]:
        """Runs what was put aside."""
        outcomes = [self._outcome(task) for task in self._submitted]
        self._submitted.clear()
        return outcomes

    def _outcome(self, task: Task) -> Outcome:
        try:
            with threadpool_limits(limits=1):  # as Ray does for a task of one processor
                self._do(task)
        except PipelineError as error:
            return Outcome(task, f"{type(error).__name__}: {error}", "where")
        return Outcome(task)

    def _do(self, task: Task) -> None:
        task.function(*task.arguments)


class Pretending(InProcess):
    """Runs nothing: features and pictures are not made, and all cells have the same score."""

    def _do(self, task: Task) -> None:
        storage, request, *_ = task.arguments
        if not isinstance(request, CellRequest):
            return
        cell = request.cell
        record = CellRecord(
            fingerprint=cell.fingerprint,
            encoder=cell.source.name,
            step=cell.source.step,
            weights_sha256=cell.source.weights_sha256,
            trial=cell.trial,
            seed=cell.seed,
            scores=(Score("top1", 0.5, "fraction", True, 0.4, 0.6, 12),),
            notes=(),
            cost="cheap",
            seconds=1.0,
            gpus=request.gpus,
            outcomes="",
            files=(),
            attempt="a",
        )
        write_json(storage, cell.key, record.to_plain())
