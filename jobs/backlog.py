"""Tasks, the order in which they may be done, and what is asked of those who do them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

GIB = 1 << 30


@dataclass(frozen=True)
class TaskLimits:
    """What a task takes and may take."""

    cpus: float = 1.0
    gpus: float = 0.0
    """A share of one, or whole ones."""
    memory_gib: float | None = None
    deadline_s: float = 7200.0
    """Longest that it may run, its retries included."""
    processes: int | None = None
    """Of the gang that it works with, each of which takes all of the above; None: it has none."""
    gpu_memory_share: float | None = None
    """Of its GPU's memory, the most that a process may take; None: all there is."""

    @property
    def num_processes(self) -> int:
        """Of its gang; one, if it has none."""
        return self.processes or 1

    @property
    def total_cpus(self) -> float:
        """Of all its processes."""
        return self.cpus * self.num_processes

    @property
    def total_gpus(self) -> float:
        """Of all its processes."""
        return self.gpus * self.num_processes

    @property
    def memory_bytes(self) -> int:
        """Whole ones, as Ray counts them: a share of a node's GiB is seldom a number of these."""
        return int((self.memory_gib or 0.0) * GIB)

    def __str__(self) -> str:
        """What a task takes, for people."""
        parts = [f"{self.cpus:g} CPUs", f"{self.gpus:g} GPUs"]
        parts += [f"{self.memory_gib:g} GiB of memory"] if self.memory_gib else []
        takes = ", ".join(parts)
        return takes if self.processes is None else f"{self.processes} processes of {takes} each"


@dataclass(frozen=True)
class Task:
    """A function to be called on some worker, once what it needs has been done.

    The function stores its result and must bear being called again after having been killed. With
    ``limits.processes`` it gets one argument more: the ``Gang`` of so many.
    """

    name: str
    """Unique: the key of what it makes."""
    title: str
    """For people."""
    function: Callable[..., None]
    arguments: tuple[Any, ...]
    needs: tuple[str, ...] = ()
    """Names of tasks."""
    rank: int = 0
    """Lower ones are taken first; equal ones in the order they were added."""
    failure_key: str | None = None
    """Where in the store an error is recorded."""
    limits: TaskLimits = TaskLimits()


@dataclass(frozen=True)
class Outcome:
    """How a task ended."""

    task: Task
    error: str | None = None
    """One line; None: it succeeded."""
    traceback: str = ""


class Workers(Protocol):
    """Whoever runs tasks."""

    def start(self) -> None:
        """Makes ready, so that the first task need not wait; ``submit`` does it otherwise."""
        ...

    def has_room(self, task: Task) -> bool:
        """Whether ``task`` would run at once if it were submitted now."""
        ...

    def refusal(self, task: Task) -> str | None:
        """Why ``task`` can never run any more, in words; None if it can, or may once."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether no submitted task is unfinished."""
        ...

    def submit(self, task: Task) -> None:
        """Runs a task."""
        ...

    def finished(self, timeout_s: float) -> list[Outcome]:
        """Tasks that have ended since the last call; waits for one at most so long."""
        ...


class Backlog:
    """Tasks that wait. Each is known by its name, and taken at most once."""

    def __init__(self) -> None:
        self._waiting: list[Task] = []
        self._known: set[str] = set()
        self._done: set[str] = set()
        self._failed: set[str] = set()

    def __contains__(self, name: str) -> bool:
        """Whether a task of this name was ever added."""
        return name in self._known

    @property
    def ready(self) -> tuple[Task, ...]:
        """Tasks that wait, and whose needs are done."""
        return tuple(task for task in self._waiting if self._done.issuperset(task.needs))

    def add(self, task: Task) -> None:
        """Takes a task in, unless one of its name is known."""
        if task.name not in self._known:
            self._known.add(task.name)
            self._waiting.append(task)

    def take(self, has_room: Callable[[Task], bool]) -> Task | None:
        """The next task whose needs are done and for which there is room, or None."""
        ready = [task for task in self.ready if has_room(task)]
        if not ready:
            return None
        task = min(ready, key=lambda task: task.rank)
        self._waiting.remove(task)
        return task

    def withdraw(self, task: Task) -> None:
        """Takes a task away that waits; it is not to be done."""
        self._waiting.remove(task)

    def succeeded(self, task: Task) -> None:
        """Marks a taken task as done."""
        self._done.add(task.name)

    def failed(self, task: Task) -> list[Task]:
        """Withdraws all tasks that wait for ``task``, and returns them."""
        self._failed.add(task.name)
        lost = self.withdraw_lost()
        return lost + [further for one in lost for further in self.failed(one)]

    def withdraw_lost(self) -> list[Task]:
        """Withdraws the tasks that wait for one that has failed, and returns them.

        Such are there, too, if they were added after it had failed.
        """
        lost = [task for task in self._waiting if not self._failed.isdisjoint(task.needs)]
        self._waiting = [task for task in self._waiting if task not in lost]
        return lost
