"""Tasks, the order in which they may be done, and what is asked of those who do them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Task:
    """A function to be called on some worker, once what it needs has been done.

    The function stores its result and must bear being called again after having been killed.
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

    @property
    def num_free(self) -> int:
        """Tasks that could be submitted now and would run at once."""
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

    def __contains__(self, name: str) -> bool:
        """Whether a task of this name was ever added."""
        return name in self._known

    @property
    def num_known(self) -> int:
        """Tasks ever added."""
        return len(self._known)

    @property
    def waiting(self) -> tuple[Task, ...]:
        """Tasks that were not taken."""
        return tuple(self._waiting)

    def add(self, task: Task) -> None:
        """Takes a task in, unless one of its name is known."""
        if task.name not in self._known:
            self._known.add(task.name)
            self._waiting.append(task)

    def take(self) -> Task | None:
        """The next task whose needs are done, or None."""
        ready = [task for task in self._waiting if self._done.issuperset(task.needs)]
        if not ready:
            return None
        task = min(ready, key=lambda task: task.rank)
        self._waiting.remove(task)
        return task

    def succeeded(self, task: Task) -> None:
        """Marks a taken task as done."""
        self._done.add(task.name)

    def failed(self, task: Task) -> list[Task]:
        """Withdraws all tasks that wait for ``task``, and returns them."""
        lost = [waiting for waiting in self._waiting if task.name in waiting.needs]
        self._waiting = [waiting for waiting in self._waiting if waiting not in lost]
        return lost + [further for one in lost for further in self.failed(one)]
