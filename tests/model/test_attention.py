"""Attention against its textbook form in float64, in every precision, for few and many tokens."""

import pytest
import torch
from torch import Tensor

from sigma_pipeline.model import attention as attention_module
from sigma_pipeline.model.attention import attention


def textbook(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.mT * query.shape[-1] ** -0.5).softmax(dim=-1) @ value


@pytest.mark.parametrize(("few", "part_bytes"), [(256, 1), (0, 1), (0, 7 * 50 * 4), (0, 2**20)])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.02)]
)
def test_values_are_mixed_and_learned_as_in_the_textbook(
    few: int,
    part_bytes: int,
    dtype: torch.dtype,
    tolerance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attention_module, "_FEW_TOKENS", few)
    monkeypatch.setattr(attention_module, "_PART_BYTES", part_bytes)
    draws = torch.Generator().manual_seed(0)
    stacked = torch.randn(2, 50, 3, 4, 8, generator=draws, dtype=torch.float64)
    direction = torch.randn(2, 4, 50, 8, generator=draws, dtype=torch.float64)
    exact = stacked.clone().requires_grad_()
    rounded = stacked.to(dtype).requires_grad_()

    mixed = attention(*rounded.permute(2, 0, 3, 1, 4))
    (mixed * direction.to(dtype)).sum().backward()

    expected = textbook(*exact.permute(2, 0, 3, 1, 4))
    (expected * direction).sum().backward()
    assert mixed.dtype is dtype
    assert exact.grad is not None
    assert rounded.grad is not None
    assert (mixed.double() - expected).norm() <= tolerance * expected.norm()
    assert (rounded.grad.double() - exact.grad).norm() <= tolerance * exact.grad.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_matrix_of_all_pairs_is_kept_for_many_tokens(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_module, "_FEW_TOKENS", 0)
    stacked = torch.randn(3, 1, 2, 64, 4).to(dtype).requires_grad_()
    saved: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, note):
        attention(*stacked)

    assert max(saved) < 64 * 64
