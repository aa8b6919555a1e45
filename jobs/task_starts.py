"""Which tasks begin when: what is ready, has room, may be paid for, and is not training's turn."""

from sigma_pipeline.jobs.backlog import Backlog, Outcome, Task, Workers
from sigma_pipeline.jobs.evaluation_trials import PlannedCells
from sigma_pipeline.jobs.feature_space import FeatureSpace
from sigma_pipeline.jobs.gpu_budget import GpuBudget
from sigma_pipeline.jobs.gpu_sharing import EvaluationTurns


class TaskStarts:
    """Hands tasks of a backlog to workers."""

    def __init__(
        self,
        backlog: Backlog,
        workers: Workers,
        cells: PlannedCells,
        space: FeatureSpace,
        budget: GpuBudget,
    ) -> None:
        """Begins nothing yet.

        Args:
            backlog: tasks that wait.
            workers: who runs them.
            cells: which of the tasks are cells, and of what.
            space: for the features that tasks extract.
            budget: of the dear cells.
        """
        self.turns: EvaluationTurns | None = None
        """Those with a training on the same GPU; None where none are taken."""
        self._backlog = backlog
        self._workers = workers
        self._cells = cells
        self._space = space
        self._budget = budget
        self._running: dict[str, Task] = {}

    def begin(self) -> list[tuple[Task, str]]:
        """Hands out what can begin now.

        Returns:
            Tasks that the budget forbids, which are not begun; each with the reason.
        """
        if self.turns is not None:
            tasks = (*self._running.values(), *self._startable())
            self.turns.ask(is_wanting=any(task.limits.gpus for task in tasks))
        refused = []
        while (task := self._next_task()) is not None:
            known = self._cells.find(task.name)
            if known and (reason := self._budget.refusal(known[1])):
                self._space.end(task.name)
                refused.append((task, reason))
                continue
            self._running[task.name] = task
            self._space.begin(task.name)
            self._workers.submit(task)
            if known:
                self._budget.begin(task.name, known[1])
        return refused

    def hopeless(self) -> list[Outcome]:
        """Tasks that no worker will ever have room for, which wait no longer."""
        outcomes = [
            Outcome(task, reason)
            for task in self._backlog.ready
            if (reason := self._workers.refusal(task))
        ]
        for outcome in outcomes:
            self._backlog.withdraw(outcome.task)
        return outcomes

    def end(self, task: Task, *, has_succeeded: bool) -> None:
        """Notes that a task has ended that was begun."""
        self._running.pop(task.name, None)
        self._budget.end(task.name, has_succeeded=has_succeeded)

    @property
    def are_over(self) -> bool:
        """Whether nothing runs, and nothing waits for room or for training to leave the GPU."""
        return self._workers.is_idle and not self._backlog.ready

    def describe_wait(self) -> str | None:
        """Why nothing runs though tasks are ready, in words; None where that is not so."""
        if not self._workers.is_idle or not (ready := self._backlog.ready):
            return None
        task = ready[0]
        if self._may_begin(task):
            reason = "training has not left the GPU yet"
        else:
            reason = "no node has so much left: others hold it, or a node is lost"
        return f"{len(ready)} tasks wait, first of them {task.title} ({task.limits}): {reason}"

    def _next_task(self) -> Task | None:
        names = {task.name for task in self._startable()}
        return self._backlog.take(lambda task: task.name in names and self._is_our_turn(task))

    def _startable(self) -> list[Task]:
        """Tasks that nothing but training could be in the way of."""
        startable = [task for task in self._backlog.ready if self._may_begin(task)]
        fitting = [task for task in startable if self._space.has_room(task.name)]
        # What does not fit beside features that are needed is begun when nothing else is left.
        return fitting if fitting or not self._workers.is_idle else startable

    def _may_begin(self, task: Task) -> bool:
        known = self._cells.find(task.name)
        is_payable = known is None or self._budget.has_room(known[1])
        return is_payable and self._workers.has_room(task)

    def _is_our_turn(self, task: Task) -> bool:
        return self.turns is None or not task.limits.gpus or self.turns.is_ours()
