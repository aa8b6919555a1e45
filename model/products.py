"""Matrix products, on processors by the faster of the two libraries that PyTorch brings along.

There PyTorch gives bfloat16 to oneDNN and float32 to MKL, and MKL leaves half of the vector units
of AMD processors idle. Measured on one core: 85 GFLOP/s, and 185 by oneDNN, of the same precision.
On other devices, in other precisions, and where oneDNN is not there, these are PyTorch's own.
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
    if not _is_for_onednn(left, right):
        return left @ right.T
    if not left.is_contiguous() and left.numel() > right.numel():
        # oneDNN takes its right factor as it lies, but copies the left one: the smaller one then.
        return _onednn(right, left, None).T
    return _onednn(left, right, None)


def is_fast(tensor: Tensor) -> bool:
    """Whether ``product`` of such tensors is oneDNN's: float32 and bfloat16 on processors."""
    is_known = tensor.dtype is torch.bfloat16 or (tensor.dtype is torch.float32 and _HAS_ONEDNN)
    return tensor.is_cpu and is_known


def linear(
    inputs: Float[Tensor, "*batch inner"],
    weight: Float[Tensor, "columns inner"],
    bias: Float[Tensor, " columns"] | None = None,
    *,
    after_gelu: bool = False,
) -> Float[Tensor, "*batch columns"]:
    """``inputs @ weight.T + bias``, as ``torch.nn.functional.linear``, with gradients.

    Args:
        inputs: of any number of axes.
        weight: a row for each output.
        bias: added to each output.
        after_gelu: takes ``gelu(inputs)`` for ``inputs``, and keeps the latter alone for gradients:
            the wide layers of a transformer then take half the memory.
    """
    if torch.compiler.is_compiling():
        return F.linear(F.gelu(inputs) if after_gelu else inputs, weight, bias)
    device = inputs.device.type
    if torch.is_autocast_enabled(device):
        if not after_gelu:
            return F.linear(inputs, weight, bias)
        dtype = torch.get_autocast_dtype(device)
        inputs, weight = _autocast(inputs, dtype), _autocast(weight, dtype)
        bias = None if bias is None else _autocast(bias, dtype)
    elif not after_gelu and not _is_for_onednn(inputs, weight):
        return F.linear(inputs, weight, bias)
    result: Tensor = _Linear.apply(inputs, weight, bias, after_gelu)  # type: ignore[no-untyped-call]
    return result


def _autocast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor if tensor.dtype is torch.float64 else tensor.to(dtype)


class Linear(nn.Linear):
    """Linear layer by ``linear``; parameters and their names are those of PyTorch's."""

    def forward(self, input: Tensor, *, after_gelu: bool = False) -> Tensor:
        """Applies the layer to the last axis, or to its GELU."""
        return linear(input, self.weight, self.bias, after_gelu=after_gelu)


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
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, after_gelu: bool
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.after_gelu = after_gelu
        factor = F.gelu(inputs) if after_gelu else inputs
        if _is_for_onednn(factor, weight):
            return _onednn(factor, weight, bias)
        return F.linear(factor, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        (gradient,) = gradients
        wants_inputs, wants_weight, wants_bias, _ = ctx.needs_input_grad
        rows = gradient.reshape(-1, gradient.shape[-1])
        to_inputs = to_weight = None
        if wants_inputs:
            to_inputs = product(rows, weight.T).view_as(inputs)
            if ctx.after_gelu:
                to_inputs = torch.ops.aten.gelu_backward(to_inputs, inputs)
        if wants_weight:
            factor = F.gelu(inputs) if ctx.after_gelu else inputs
            to_weight = product(rows.T, factor.reshape(-1, factor.shape[-1]).T)
        return to_inputs, to_weight, rows.sum(dim=0) if wants_bias else None, None
