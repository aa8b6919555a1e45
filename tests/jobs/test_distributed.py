"""Exchanges between ranks, with one rank; those of two are in test_train_processes."""

import importlib
import sys

import pytest
import torch
import torch.distributed as dist

from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.jobs.distributed import RankContext, init_ranks, modules_hidden
from sigma_pipeline.jobs.train_request import RankPlace


def test_the_only_rank_is_the_first(one_rank: RankContext) -> None:
    assert one_rank.is_first
    assert one_rank.gather("part") == ["part"]
    assert one_rank.all_gather(3) == [3]
    assert one_rank.from_first(lambda: "made") == "made"


def test_an_error_of_the_first_rank_is_raised_as_it_is(one_rank: RankContext) -> None:
    def fail() -> None:
        raise ConfigError("train.epochs is wrong")

    with pytest.raises(ConfigError, match=r"train\.epochs is wrong"):
        one_rank.from_first(fail)


def test_a_reduced_tensor_is_a_new_one(one_rank: RankContext) -> None:
    values = torch.tensor([1.0, 2.0], dtype=torch.float64)

    reduced = one_rank.reduce(values, dist.ReduceOp.SUM)

    assert reduced.tolist() == [1, 2]
    assert reduced is not values


def test_a_process_group_that_is_there_is_used_and_left_alone(one_rank: RankContext) -> None:
    threads = torch.get_num_threads()

    with init_ranks(RankPlace(), threads + 1) as context:
        assert torch.get_num_threads() == threads + 1
        assert context.device == one_rank.device

    assert dist.is_initialized()
    assert torch.get_num_threads() == threads


def test_hidden_modules_cannot_be_imported_and_come_back() -> None:
    sys.modules.pop("wave", None)

    with modules_hidden("wave", "json"), pytest.raises(ImportError):
        importlib.import_module("wave")

    assert importlib.import_module("wave").open
    assert importlib.import_module("json").loads
