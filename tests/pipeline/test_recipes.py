"""What recipes of the paper say about clusters, against what training accepts."""

import re

import pytest

from sigma_pipeline.data_prep.order import accumulation_steps
from sigma_pipeline.jobs.benchmarks.table import build_benchmark
from sigma_pipeline.jobs.obstacles import view_note
from sigma_pipeline.pipeline.config import load_config
from sigma_pipeline.pipeline.recipe_files import read_recipe, recipe_names

PAPER = [name for name in recipe_names() if name.startswith(("k400_", "ssv2_"))]
ROW = re.compile(r"^#   (\d+) x (\d+) +(\d+) x (\d+)( .*)?$", re.MULTILINE)
"""Nodes, GPUs per node, clips per GPU and pass, passes; then a remark."""


def documented_sizes(name: str) -> list[tuple[list[int], str]]:
    rows = ROW.findall(read_recipe(name).text)
    return [([int(number) for number in numbers], remark) for *numbers, remark in rows]


@pytest.mark.parametrize("name", PAPER)
def test_every_documented_cluster_size_shares_the_global_batch(name: str) -> None:
    batch = load_config(name).train.global_batch_clips

    sizes = documented_sizes(name)

    assert len(sizes) == 4
    for (nodes, gpus, clips, passes), _ in sizes:
        assert accumulation_steps(batch, clips, nodes * gpus) == passes


@pytest.mark.parametrize("name", PAPER)
def test_the_size_that_the_recipe_has_is_one_of_them(name: str) -> None:
    config = load_config(name)
    own = [config.launch.train.nodes, config.launch.train.gpus_per_node]
    own += [config.train.micro_batch_clips, 1]

    assert [numbers for numbers, remark in documented_sizes(name) if "as here" in remark] == [own]


@pytest.mark.parametrize("name", PAPER)
def test_the_change_that_is_spelled_out_leads_to_a_documented_size(name: str) -> None:
    [words] = re.findall(r"^# For example: (.*)$", read_recipe(name).text, re.MULTILINE)
    own = load_config(name)

    config = load_config(name, [word for word in words.split() if word != "--set"])

    train = config.launch.train
    size = [train.nodes, train.gpus_per_node, config.train.micro_batch_clips]
    assert size in [numbers[:3] for numbers, _ in documented_sizes(name)]
    assert train != own.launch.train


@pytest.mark.parametrize("name", recipe_names())
def test_no_protocol_loses_its_own_view_to_the_one_of_all(name: str) -> None:
    evaluate = load_config(name).evaluate

    for number, cell in enumerate(evaluate.cells):
        benchmark = build_benchmark(cell.benchmark, cell.settings)
        assert view_note(evaluate, number, benchmark) is None


@pytest.mark.parametrize("name", PAPER)
def test_commits_follow_the_clock_and_kept_ones_are_regular_ones(name: str) -> None:
    train = load_config(name).train

    assert train.commit_every_min is not None
    assert train.keep_every_steps is not None
    assert train.keep_every_steps % train.commit_every_steps == 0
