"""SLURM's way of naming nodes, and which of them are avoided."""

import pytest

from sigma_pipeline.jobs.node_names import blamed, expand_nodes, nodes_by_rank, shown_ranks


@pytest.mark.parametrize(
    ("nodes", "names"),
    [
        ("n1", ["n1"]),
        ("n[1-3,7],login", ["n1", "n2", "n3", "n7", "login"]),
        ("gpu-[008-010]", ["gpu-008", "gpu-009", "gpu-010"]),
        ("r[1-2]n[1,3]", ["r1n1", "r1n3", "r2n1", "r2n3"]),
        ("", []),
    ],
)
def test_a_list_of_nodes_is_written_out(nodes: str, names: list[str]) -> None:
    assert expand_nodes(nodes) == names


def test_ranks_fill_node_after_node() -> None:
    slurm = {"SLURM_JOB_NODELIST": "n[1-3]", "SLURM_TASKS_PER_NODE": "2(x2),1"}

    assert nodes_by_rank(5, slurm) == ("n1", "n1", "n2", "n2", "n3")


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_JOB_NODELIST": "n[1-3]", "SLURM_TASKS_PER_NODE": "1(x3)"},
        {"SLURM_JOB_NODELIST": "n[1-2]"},
    ],
)
def test_no_node_is_guessed(environment: dict[str, str]) -> None:
    assert nodes_by_rank(4, environment) == ()


def test_a_minority_of_nodes_is_blamed_and_no_majority() -> None:
    every = ["n1", "n1", "n2", "n2", "n3", "n3"]

    assert blamed({"n2"}, every) == ("n2",)
    assert blamed({"n2", "n1"}, every) == ()
    assert blamed(["n1", "n1"], ["n1", "n1"]) == ()


def test_of_many_ranks_the_first_are_shown() -> None:
    hosts = dict(enumerate(["n1", "n2", "n3"] * 4))

    assert shown_ranks([2, 0], hosts) == "rank 0 on n1, rank 2 on n3"
    assert shown_ranks(range(12), hosts).endswith("rank 7 on n2 and 4 more")
