"""Balanced assignment: what holds for any input, then the failures it exists to prevent."""

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import TypeCheckError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sigma_pipeline.model import kernel
from sigma_pipeline.model import scores as scores_module
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.scores import CosineScores
from sigma_pipeline.model.sinkhorn import (
    assignments,
    balance,
    balanced_assignment,
    measured_assignments,
)


class Storages(TorchDispatchMode):
    """Sees how large the memory is that tensors are made in, or are views of."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes_by_address: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Of each operation of PyTorch."""
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            storage = result.untyped_storage()
            self.bytes_by_address[storage.data_ptr()] = storage.nbytes()
        return result


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


def in_logarithms(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """The same rounds on logarithms in float64, where nothing can overflow or vanish."""
    exponents = scores.double() / epsilon
    rows = -exponents.amax(dim=1, keepdim=True)
    for _ in range(iterations):
        columns = -(exponents + rows).logsumexp(dim=0)
        rows = -(exponents + columns).logsumexp(dim=1, keepdim=True)
    return (exponents + rows + columns).exp()


def out_of_reach(tokens: int = 200, prototypes: int = 12) -> Tensor:
    """Scores of tokens near the first prototype and far from all others, not equally far."""
    scores = cosines(tokens, prototypes) * 0.2 - 0.75
    scores[:, 0] += 1.6
    return scores


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


@pytest.mark.parametrize("epsilon", [0.01, 0.02, 0.03, 0.05])
@pytest.mark.parametrize("iterations", [1, 2, 10, 100])
def test_the_plan_is_the_exact_one_where_exponentials_leave_the_range_of_floats(
    epsilon: float, iterations: int
) -> None:
    scores = out_of_reach()

    plan = balanced_assignment(scores, epsilon, iterations)

    exact = in_logarithms(scores, epsilon, iterations)
    torch.testing.assert_close(plan.double(), exact, rtol=2e-3, atol=1e-5)
    assert (plan.argmax(dim=1) == exact.argmax(dim=1)).float().mean() > 0.99


@pytest.mark.parametrize("epsilon", [0.01, 0.05])
def test_a_kernel_that_is_not_kept_gives_the_same(
    epsilon: float, monkeypatch: pytest.MonkeyPatch, config: ModelConfig
) -> None:
    scores = out_of_reach()
    kept = balanced_assignment(scores, epsilon, 10)
    labels = measured_assignments(scores, config)

    monkeypatch.setattr(kernel, "MOST_KEPT_BYTES", 0)
    monkeypatch.setattr(scores_module, "CPU_PART_BYTES", 7 * 12 * 4)
    anew = balanced_assignment(scores, epsilon, 10)

    torch.testing.assert_close(anew, kept)
    assert torch.equal(measured_assignments(scores, config)[0], labels[0])


def test_scores_may_be_given_as_features_and_prototypes() -> None:
    draws = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(50, 6, generator=draws), dim=1)
    scores = CosineScores(features, F.normalize(torch.randn(9, 6, generator=draws), dim=1))

    plan = balanced_assignment(scores, 0.05, 10)

    torch.testing.assert_close(plan, balanced_assignment(scores.matrix(), 0.05, 10))


def test_memory_is_that_of_one_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = CosineScores(torch.eye(8).repeat(80, 1), torch.eye(8).repeat(8, 1))
    monkeypatch.setattr(scores_module, "CPU_PART_BYTES", 64 * 4)

    with Storages() as made:
        plan = balance(scores, 0.05, 10)
        plan.kernel.labels(plan.column_scale)

    kernel_bytes, *others = sorted(made.bytes_by_address.values(), reverse=True)
    assert kernel_bytes == 640 * 64 * 4
    assert max(others) < kernel_bytes / 5


def test_the_marginal_error_is_what_the_last_round_finds() -> None:
    scores = cosines(200, 12, collapse=2.0)

    errors = [float(balance(scores, 0.05, rounds).marginal_error) for rounds in (1, 3, 30)]

    before_the_third = in_logarithms(scores, 0.05, 2).sum(dim=0) / 200
    assert errors[0] > errors[1] > errors[2] > 0
    assert errors[1] == pytest.approx(float((before_the_third - 1 / 12).abs().sum() / 2), rel=1e-4)


def test_the_plan_entropy_tells_sharp_plans_from_flat_ones(config: ModelConfig) -> None:
    sharp = measured_assignments(torch.eye(24), config)[1]["plan_entropy"]
    flat = measured_assignments(torch.zeros(24, 24), config)[1]["plan_entropy"]

    assert sharp < 1e-4
    torch.testing.assert_close(flat, torch.tensor(1.0))


def test_the_plan_entropy_is_that_of_the_rows(config: ModelConfig) -> None:
    scores = cosines(100, 24)

    entropy = measured_assignments(scores, config)[1]["plan_entropy"]

    plan = in_logarithms(scores, 0.05, 10)
    exact = torch.special.entr(plan).sum(dim=1).mean() / math.log(24)
    torch.testing.assert_close(entropy.double(), exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize("epsilon", [0.01, 0.05])
def test_prototypes_without_a_single_token_do_not_make_nan(epsilon: float) -> None:
    scores = torch.full((100, 30), -1.0)
    scores[:, 0] = 1.0

    plan = balanced_assignment(scores, epsilon, 10)

    torch.testing.assert_close(plan, torch.full((100, 30), 1 / 30), rtol=1e-4, atol=0)


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
