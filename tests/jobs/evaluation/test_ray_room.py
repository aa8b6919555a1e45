"""Which task fits where: shares of GPUs, memory, nodes that are lost, what others use."""

import re
from dataclasses import replace

import pytest

from sigma_pipeline.jobs.backlog import TaskLimits
from sigma_pipeline.jobs.ray_room import Amounts, Room
from sigma_pipeline.jobs.ray_shortage import NodeShape, shortage


def node(name: str, cpus: float = 4, gpus: float = 0, memory_gib: float = 8) -> NodeShape:
    return NodeShape(node_id=name, name=name, cpus=cpus, gpus=gpus, memory_gib=memory_gib)


def room_of(*nodes: NodeShape) -> Room[str]:
    room: Room[str] = Room()
    room.set_nodes(nodes, {})
    return room


def placed(room: Room[str], key: str, limits: TaskLimits) -> str | None:
    """Takes what ``limits`` say where there is room; says where."""
    node_ids = room.nodes_for(limits)
    if node_ids:
        room.take(key, limits, node_ids)
    return "+".join(node_ids) or None


def test_two_halves_fit_one_gpu_and_two_larger_shares_do_not() -> None:
    halves, larger = TaskLimits(gpus=0.5), TaskLimits(gpus=0.6)
    room = room_of(node("a", gpus=1))

    assert [placed(room, f"{number}", halves) for number in range(3)] == ["a", "a", None]
    room.release("0")
    assert placed(room, "3", larger) is None
    room.release("1")
    assert [placed(room, "4", larger), placed(room, "5", larger)] == ["a", None]


def test_shares_are_of_one_gpu_each_and_whole_gpus_must_be_free() -> None:
    room = room_of(node("a", gpus=2))

    assert placed(room, "0", TaskLimits(gpus=0.6))
    assert placed(room, "1", TaskLimits(gpus=0.6))
    assert placed(room, "half", TaskLimits(gpus=0.5)) is None  # 0.8 is free, in two parts
    assert placed(room, "whole", TaskLimits(gpus=1)) is None
    assert placed(room, "2", TaskLimits(gpus=0.4))
    room.release("1")
    assert placed(room, "whole", TaskLimits(gpus=1))


def test_tenths_of_a_processor_add_up_to_a_whole_one() -> None:
    room = room_of(node("a", cpus=1))

    assert all(placed(room, f"{number}", TaskLimits(cpus=0.1)) for number in range(10))
    assert placed(room, "last", TaskLimits(cpus=0.1)) is None


def test_a_task_takes_all_that_it_needs_of_one_node() -> None:
    room = room_of(node("a", cpus=2, memory_gib=8), node("b", cpus=2, memory_gib=8))

    assert placed(room, "0", TaskLimits(memory_gib=6)) == "a"
    assert placed(room, "1", TaskLimits(memory_gib=6)) == "b"
    assert placed(room, "2", TaskLimits(memory_gib=4)) is None
    assert placed(room, "3", TaskLimits(cpus=2)) is None
    assert placed(room, "4", TaskLimits(memory_gib=2)) is not None


def test_a_task_may_have_all_of_the_memory_and_two_may_share_it() -> None:
    as_ray_counts = int(4.7 * 2**30) / 2**30
    whole, half = TaskLimits(memory_gib=4.7), TaskLimits(memory_gib=2.35)
    for memory_gib in (4.7, as_ray_counts):
        room = room_of(node("a", memory_gib=memory_gib))

        assert shortage("knn", whole, room.nodes) is None
        assert placed(room, "0", whole) == "a"
        room.release("0")
        assert [placed(room, f"{number}", half) for number in range(3)] == ["a", "a", None]


def test_nodes_with_gpus_are_left_to_those_who_need_them() -> None:
    room = room_of(node("gpus", cpus=8, gpus=1), node("plain", cpus=1))

    assert placed(room, "0", TaskLimits()) == "plain"
    assert placed(room, "1", TaskLimits()) == "gpus"
    assert placed(room, "2", TaskLimits(gpus=1)) == "gpus"


def test_tasks_of_a_lost_node_are_told_and_count_on_another() -> None:
    a, b = node("a", cpus=1), node("b", cpus=1)
    room = room_of(a, b)
    placed(room, "0", TaskLimits())
    placed(room, "1", TaskLimits())

    assert room.set_nodes([b], {}) == ["0"]

    assert placed(room, "2", TaskLimits()) is None
    room.release("1")
    assert placed(room, "2", TaskLimits()) is None  # the lost one runs there now
    room.release("0")
    assert placed(room, "2", TaskLimits()) == "b"


def test_a_task_that_no_node_can_hold_any_more_counts_on_the_next_that_can() -> None:
    a, plain, c = node("a", gpus=1), node("plain"), node("c", gpus=1)
    room = room_of(a, plain)
    placed(room, "0", TaskLimits(gpus=1))

    assert room.set_nodes([plain], {}) == []
    assert room.set_nodes([plain, c], {}) == ["0"]
    assert not room.nodes_for(TaskLimits(gpus=1))
    assert room.set_nodes([plain, c], {}) == []


def test_a_gang_takes_few_nodes_and_all_of_its_processes_or_none() -> None:
    gang = TaskLimits(cpus=2, gpus=1, processes=3)
    room = room_of(node("a", gpus=1), node("b", cpus=8, gpus=3), node("c", gpus=1))

    assert placed(room, "0", gang) == "b+b+b"
    assert placed(room, "1", gang) is None
    assert placed(room, "2", replace(gang, processes=2)) == "a+c"
    assert placed(room, "3", replace(gang, processes=1)) is None
    room.release("0")
    assert placed(room, "4", TaskLimits(gpus=1)) == "b"
    assert placed(room, "5", gang) is None
    room.release("2")
    assert placed(room, "6", gang) == "b+b+a"


def test_a_gang_that_lost_a_node_holds_the_rest_until_it_is_released() -> None:
    a, b = node("a", cpus=1), node("b", cpus=1)
    room = room_of(a, b)
    placed(room, "gang", TaskLimits(processes=2))

    assert room.set_nodes([b], {}) == []

    assert room.broken == ["gang"]
    assert placed(room, "1", TaskLimits()) is None
    room.release("gang")
    assert room.broken == []
    assert placed(room, "1", TaskLimits()) == "b"


def test_what_others_use_of_a_node_is_not_free() -> None:
    a = node("a", cpus=4, gpus=1)
    room = room_of(a)
    placed(room, "ours", TaskLimits(cpus=1))

    others = room.used_by_others(a, left=Amounts(cpus=1, gpus=0.5, memory_gib=8))
    room.set_nodes([a], {"a": others})

    assert others == Amounts(cpus=2, gpus=0.5, memory_gib=0)
    assert not room.nodes_for(TaskLimits(cpus=2))
    assert not room.nodes_for(TaskLimits(gpus=0.6))
    assert room.nodes_for(TaskLimits(cpus=1, gpus=0.5)) == ("a",)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (
            TaskLimits(cpus=8),
            r"8 CPUs, but no node has more than 4.*cpus_per_task",
        ),
        (
            TaskLimits(gpus=3),
            r"3 GPUs, but no node has more than 1.*gpus_per_task",
        ),
        (TaskLimits(memory_gib=9), r"9 GiB of memory, but no node has more than 8.* memory_gib"),
        (TaskLimits(gpus=1.5), r"1.5 GPUs: a share of one or whole ones"),
        (TaskLimits(cpus=4, gpus=1), r"no node has all that knn asks for: 4 CPUs, 1 GPUs; "),
        (
            TaskLimits(cpus=2, processes=4),
            r"4 processes of 2 CPUs, 0 GPUs each, but all 2 nodes can hold no more than 3 .*lower",
        ),
        (
            TaskLimits(cpus=2, gpus=1, memory_gib=1, processes=2),
            r"2 processes of 2 CPUs, 1 GPUs, 1 GiB of memory each, .* no more than 1 ",
        ),
        (TaskLimits(cpus=5, processes=2), r"5 CPUs for each of its processes, but no node has mo"),
        (TaskLimits(gpus=2, processes=2), r"2 GPUs for each of its processes.*set processes of"),
        (TaskLimits(gpus=0.5, processes=2), r"2 processes with 0.5 of a GPU each: .* cannot share"),
    ],
)
def test_what_no_node_has_is_said_with_the_setting_to_change(limits: TaskLimits, said: str) -> None:
    lack = shortage("knn", limits, [node("a", cpus=4), node("b", cpus=2, gpus=1)])

    assert lack is not None
    assert re.search(said, lack)


def test_what_fits_some_node_is_no_shortage() -> None:
    nodes = [node("a", cpus=4), node("b", cpus=2, gpus=1)]

    assert shortage("knn", TaskLimits(cpus=2, gpus=1, memory_gib=8), nodes) is None
    assert shortage("finetune", TaskLimits(cpus=2, processes=3), nodes) is None
    assert shortage("finetune", TaskLimits(gpus=0.5, processes=1), nodes) is None
    unknown = NodeShape(cpus=2, gpus=float("inf"), memory_gib=float("inf"))
    assert shortage("finetune", TaskLimits(gpus=1, memory_gib=9, processes=2), [unknown]) is None
