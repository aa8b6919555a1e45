"""Exchanges between ranks, with one rank; those of two are in test_train_processes."""

import importlib
import json
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.jobs import distributed
from sigma_pipeline.jobs.distributed import (
    RankContext,
    collectives_trace,
    init_ranks,
    modules_hidden,
    trace_collectives,
)
from sigma_pipeline.jobs.train_request import ProcessIdentity, RankPlace


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


@pytest.mark.parametrize("fails", [False, True])
def test_the_process_group_is_taken_apart_unless_an_error_leaves_it(
    one_rank: RankContext, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    done = list[str]()
    monkeypatch.setattr(dist, "is_initialized", lambda: False)
    monkeypatch.setattr(distributed, "_join", lambda *_: done.append("join"))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: done.append("destroy"))
    monkeypatch.setattr(distributed, "_prepare_deepspeed", lambda *_: None)

    with suppress(ZeroDivisionError), init_ranks(RankPlace(), torch.get_num_threads()):
        if fails:
            raise ZeroDivisionError

    assert done == (["join"] if fails else ["join", "destroy"])


def test_hidden_modules_cannot_be_imported_and_come_back() -> None:
    sys.modules.pop("wave", None)

    with modules_hidden("wave", "json"), pytest.raises(ImportError):
        importlib.import_module("wave")

    assert importlib.import_module("wave").open
    assert importlib.import_module("json").loads


def test_every_rank_knows_nodes_and_processes_of_all(one_rank: RankContext) -> None:
    assert one_rank.hosts == (socket.gethostname(),)
    assert one_rank.processes == (ProcessIdentity.current(),)


def test_nccl_keeps_its_collectives_and_writes_them_beside_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {"TORCH_FR_BUFFER_SIZE": "10"})

    trace_collectives(torch.device("cpu"), tmp_path)
    on_cpu = dict(os.environ)
    trace_collectives(torch.device("cuda", 0), tmp_path / "logs")

    assert on_cpu == {"TORCH_FR_BUFFER_SIZE": "10"}
    assert os.environ == {
        "TORCH_FR_BUFFER_SIZE": "10",
        "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
        "TORCH_FR_DUMP_TEMP_FILE": str(tmp_path / "logs" / "collectives-rank"),
    }
    assert (tmp_path / "logs").is_dir()


def test_the_newest_collectives_can_be_looked_at(one_rank: RankContext) -> None:
    one_rank.reduce(torch.ones(7), dist.ReduceOp.SUM)

    entries = json.loads(collectives_trace())["entries"]

    assert entries[-1]["profiling_name"] == "gloo:all_reduce"
    assert entries[-1]["input_sizes"] == [[7]]
