"""The order of tasks."""

from sigma_pipeline.jobs.backlog import Backlog, Task


def _task(name: str, *needs: str, rank: int = 0) -> Task:
    return Task(name, name, print, (), needs=needs, rank=rank)


def _names(backlog: Backlog) -> list[str]:
    names = []
    while (task := backlog.take(lambda task: True)) is not None:
        names.append(task.name)
        backlog.succeeded(task)
    return names


def test_tasks_come_after_what_they_need_and_by_rank() -> None:
    backlog = Backlog()
    for task in (_task("slow", rank=1), _task("b", "a"), _task("a"), _task("c")):
        backlog.add(task)

    assert _names(backlog) == ["a", "b", "c", "slow"]


def test_a_task_is_taken_once_however_often_it_is_added() -> None:
    backlog = Backlog()
    backlog.add(_task("a"))

    assert _names(backlog) == ["a"]
    backlog.add(_task("a"))
    assert _names(backlog) == []
    assert "a" in backlog


def test_a_failure_withdraws_all_that_waited_for_it() -> None:
    backlog = Backlog()
    for task in (_task("a"), _task("b", "a"), _task("c", "b"), _task("d")):
        backlog.add(task)
    taken = backlog.take(lambda task: True)
    assert taken is not None

    lost = backlog.failed(taken)

    assert [task.name for task in lost] == ["b", "c"]
    assert _names(backlog) == ["d"]


def test_a_task_that_needs_a_failed_one_is_never_taken_and_can_be_withdrawn() -> None:
    backlog = Backlog()
    backlog.add(_task("a"))
    taken = backlog.take(lambda task: True)
    assert taken is not None
    backlog.failed(taken)

    backlog.add(_task("late", "a"))

    assert backlog.take(lambda task: True) is None
    assert [task.name for task in backlog.withdraw_lost()] == ["late"]
    assert backlog.withdraw_lost() == []
