"""Ranks of several nodes within one process: what they say to each other goes through one store."""

from typing import Any, cast

import torch
import torch.distributed as dist

from sigma_pipeline.jobs.distributed import RankContext


def fake_ranks(*hosts: str) -> list[RankContext]:
    """One context per host, in rank order; without process groups."""
    store = dist.HashStore()
    nobody = cast("Any", None)
    return [
        RankContext(
            rank=rank,
            world_size=len(hosts),
            local_rank=0,
            device=torch.device("cpu"),
            control_group=nobody,
            store=store,
            hosts=hosts,
            processes=(None,) * len(hosts),
        )
        for rank in range(len(hosts))
    ]
