"""Balanced assignment of scores that lie on several ranks."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import torch
from torch import Tensor

from sigma_pipeline.model.sinkhorn import balanced_assignment
from tests.model.plans import cosines


def test_ranks_with_a_part_each_agree_with_one_process_that_has_all() -> None:
    scores, plans = cosines(60, 8, collapse=0.5), [torch.zeros(0)] * 3
    sent: list[list[Tensor]] = [[], [], []]
    barrier = Barrier(3, timeout=20)

    def add(vector: Tensor, rank: int) -> Tensor:
        sent[rank].append(vector)
        barrier.wait()
        return torch.stack([vectors[len(sent[rank]) - 1] for vectors in sent]).sum(dim=0)

    def plan_part(rank: int) -> None:
        part = scores.chunk(3)[rank]
        plans[rank] = balanced_assignment(part, 0.05, 10, partial(add, rank=rank))

    with ThreadPoolExecutor(3) as ranks:
        list(ranks.map(plan_part, range(3)))

    torch.testing.assert_close(torch.cat(plans), balanced_assignment(scores, 0.05, 10))
    assert [[len(vector) for vector in vectors] for vectors in sent] == [[8] * 10] * 3
