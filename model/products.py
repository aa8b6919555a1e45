"""Matrix products on processors, by the faster of the two libraries that PyTorch brings along.

PyTorch gives bfloat16 to oneDNN and float32 to MKL, and MKL leaves half of the vector units of AMD
processors idle. Measured on one core: 85 GFLOP/s, and 185 by oneDNN, of the same precision. On
other devices, in other precisions, and where oneDNN is not there, these are PyTorch's own products.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_SMALLEST_WORK = 2**20
"""Multiplications below which calling oneDNN costs more than it saves."""


def product(
    left: Float[Tensor, "rows inner"], right: Float[Tensor, "columns inner"]
) -> Float[Tensor, "rows columns"]:
    """``left @ right.T``, without a gradient."""
    if _is_for_onednn(left, right):
        return _onednn(left, right, None)
    return left @ right.T


def linear(
    inputs: Float[Tensor, "*batch inner"],
    weight: Float[Tensor, "columns inner"],
    bias: Float[Tensor, " columns"] | None = None,
) -> Float[Tensor, "*batch columns"]:
    """``inputs @ weight.T + bias``, as ``torch.nn.functional.linear``, with gradients."""
    is_plain = torch.compiler.is_compiling() or torch.is_autocast_enabled(inputs.device.type)
    if is_plain or not _is_for_onednn(inputs, weight):
        return F.linear(inputs, weight, bias)
    result: Tensor = _Linear.apply(inputs, weight, bias)  # type: ignore[no-untyped-call]
    return result


class Linear(nn.Linear):
    """Linear layer by ``linear``; parameters and their names are those of PyTorch's."""

    def forward(self, input: Tensor) -> Tensor:
        """Applies the layer to the last axis."""
        return linear(input, self.weight, self.bias)


def _is_for_onednn(left: Tensor, right: Tensor) -> bool:
    is_float32 = left.dtype is right.dtype is torch.float32
    return (
        left.is_cpu and is_float32 and _HAS_ONEDNN and left.numel() * len(right) >= _SMALLEST_WORK
    )


_HAS_ONEDNN = hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _onednn(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    # The operator that compiled models run; there is no public name for it. Rows that lie apart in
    # memory would take it hundreds of times as long.
    result: Tensor = torch.ops.mkldnn._linear_pointwise(
        _dense(left), _dense(right), bias, "none", [], ""
    )
    return result


def _dense(matrix: Tensor) -> Tensor:
    is_transposed = matrix.ndim == 2 and matrix.T.is_contiguous()
    return matrix if is_transposed else matrix.contiguous()


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return _onednn(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        (gradient,) = gradients
        wants_inputs, wants_weight, wants_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, gradient.shape[-1])
        to_inputs = to_weight = None
        if wants_inputs:
            to_inputs = product(rows, weight.T).view_as(inputs)
        if wants_weight:
            to_weight = product(rows.T, inputs.reshape(-1, inputs.shape[-1]).T)
        return to_inputs, to_weight, rows.sum(dim=0) if wants_bias else None
