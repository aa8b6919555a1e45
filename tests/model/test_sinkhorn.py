"""Balanced assignment: what holds for any input, then the failures it exists to prevent."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import TypeCheckError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.sinkhorn import assignments, balanced_assignment


def cosines(tokens: int, prototypes: int, seed: int = 0, collapse: float = 0.0) -> Tensor:
    """Scores of random features; with ``collapse`` all of them lean the same way."""
    draws = torch.Generator().manual_seed(seed)
    features = torch.randn(tokens, 16, generator=draws) + collapse
    centres = torch.randn(prototypes, 16, generator=draws)
    return F.normalize(features, dim=1) @ F.normalize(centres, dim=1).T


def as_released(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """The same in the form of protocols 1.3: a matrix, scaled by prototypes, then by tokens."""
    plan = (scores.double() / epsilon).exp().T
    plan /= plan.sum()
    for _ in range(iterations):
        plan /= plan.sum(dim=1, keepdim=True) * plan.shape[0]
        plan /= plan.sum(dim=0, keepdim=True) * plan.shape[1]
    return (plan / plan.sum(dim=0)).T


@pytest.mark.parametrize(("tokens", "prototypes"), [(64, 8), (8, 64), (1, 1), (1, 5), (5, 1)])
def test_rows_sum_to_one_and_columns_are_balanced(tokens: int, prototypes: int) -> None:
    plan = balanced_assignment(cosines(tokens, prototypes), epsilon=0.05, iterations=300)

    torch.testing.assert_close(plan.sum(dim=1), torch.ones(tokens))
    torch.testing.assert_close(
        plan.sum(dim=0), torch.full((prototypes,), tokens / prototypes), rtol=1e-2, atol=1e-3
    )


def test_tokens_that_all_prefer_one_prototype_are_spread() -> None:
    scores = torch.zeros(16, 4)
    scores[:, 0] = 1.0

    plan = balanced_assignment(scores, epsilon=0.05, iterations=10)

    torch.testing.assert_close(plan.sum(dim=0), torch.full((4,), 4.0))


def test_a_better_score_than_other_tokens_have_wins_the_prototype() -> None:
    scores = torch.tensor([[0.9, 0.1], [0.9, 0.5], [0.9, 0.2], [0.9, 0.6]])

    plan = balanced_assignment(scores, epsilon=0.03, iterations=50)

    assert plan.argmax(dim=1).tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("epsilon", [0.03, 0.05])
@pytest.mark.parametrize("collapse", [0.0, 2.0])
def test_the_plan_is_the_one_of_the_released_algorithm(epsilon: float, collapse: float) -> None:
    scores = cosines(2000, 100, collapse=collapse)

    plan = balanced_assignment(scores, epsilon, iterations=100)

    expected = as_released(scores, epsilon, iterations=100)
    assert (plan.argmax(dim=1) == expected.argmax(dim=1)).float().mean() > 0.999
    torch.testing.assert_close(plan.double(), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("iterations", [1, 10, 500])
def test_extreme_scores_stay_finite_at_the_lowest_temperature(iterations: int) -> None:
    scores = torch.full((512, 8), -1.0)
    scores[:511, 0] = 1.0  # one token against a crowd, and prototypes nobody wants
    scores[511, 1] = 1.0

    plan = balanced_assignment(scores, epsilon=0.01, iterations=iterations)

    assert plan.isfinite().all()
    torch.testing.assert_close(plan.sum(dim=1), torch.ones(512))


@pytest.mark.parametrize("seed", range(5))
def test_random_signs_at_the_lowest_temperature_stay_finite(seed: int) -> None:
    scores = torch.randint(0, 2, (300, 7), generator=torch.Generator().manual_seed(seed)) * 2.0 - 1

    plan = balanced_assignment(scores, epsilon=0.01, iterations=100)

    assert plan.isfinite().all()
    torch.testing.assert_close(plan.sum(dim=1), torch.ones(300))


def test_a_prototype_opposite_to_all_tokens_gets_its_share() -> None:
    scores = cosines(64, 4)
    scores[:, 3] = -1.0

    plan = balanced_assignment(scores, epsilon=0.01, iterations=200)

    assert plan.isfinite().all()
    torch.testing.assert_close(plan.sum(dim=0)[3], torch.tensor(16.0), rtol=0.05, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_does_not_overflow(dtype: torch.dtype) -> None:
    scores = cosines(64, 8).to(dtype)

    plan = balanced_assignment(scores, epsilon=0.01, iterations=10)

    assert plan.dtype is torch.float32
    torch.testing.assert_close(plan, balanced_assignment(scores.float(), 0.01, 10))


def test_autocast_does_not_lower_the_precision() -> None:
    scores = cosines(64, 8)

    with torch.autocast("cpu", torch.bfloat16):
        plan = balanced_assignment(scores, epsilon=0.05, iterations=10)

    assert torch.equal(plan, balanced_assignment(scores, 0.05, 10))


def test_scores_are_left_as_they_were() -> None:
    scores = cosines(8, 4)
    before = scores.clone()

    balanced_assignment(scores, epsilon=0.05, iterations=3)

    assert torch.equal(scores, before)


def test_batched_input_is_refused() -> None:
    with pytest.raises(TypeCheckError, match="scores"):
        balanced_assignment(torch.zeros(2, 4, 4), epsilon=0.05, iterations=10)


def test_hard_assignments_are_the_largest_of_the_soft_ones(
    config: ModelConfig, soft_config: ModelConfig
) -> None:
    scores = cosines(32, 6)

    labels, plan = assignments(scores, config), assignments(scores, soft_config)

    assert labels.dtype is torch.int64
    assert torch.equal(labels, plan.argmax(dim=1))


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


@pytest.mark.slow
def test_two_gloo_processes_agree_with_one(tmp_path: Path) -> None:
    scores = cosines(60, 8, collapse=0.5)
    save_file({"scores": scores}, tmp_path / "scores.safetensors")
    program = [sys.executable, "-P", str(Path(__file__).with_name("gloo_rank.py"))]

    ranks = [subprocess.Popen([*program, str(rank), str(tmp_path)]) for rank in range(2)]
    try:
        statuses = [rank.wait(timeout=120) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()

    assert statuses == [0, 0]
    parts = [load_file(tmp_path / f"plan-{rank}.safetensors")["plan"] for rank in range(2)]
    torch.testing.assert_close(torch.cat(parts), balanced_assignment(scores, 0.05, 10))
