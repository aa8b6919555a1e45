"""Mixing of values by the similarity of queries and keys, by the fastest way at hand.

PyTorch's fused attention needs no matrix of all pairs of tokens, and is the best there is but for
one case: bfloat16 on processors. There it multiplies small blocks, at a fraction of the speed of a
large product. What stands here instead multiplies one head at a time, and keeps as little; for few
tokens, all heads at once.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_FEW_TOKENS = 256


def attention(
    query: Float[Tensor, "batch heads tokens dim"],
    key: Float[Tensor, "batch heads tokens dim"],
    value: Float[Tensor, "batch heads tokens dim"],
) -> Float[Tensor, "batch heads tokens dim"]:
    """``softmax(query @ key.T / sqrt(dim)) @ value`` of every head."""
    is_half_on_cpu = query.is_cpu and query.dtype is torch.bfloat16
    if torch.compiler.is_compiling() or not is_half_on_cpu:
        return F.scaled_dot_product_attention(query, key, value)
    query = query * query.shape[-1] ** -0.5
    if query.shape[2] <= _FEW_TOKENS:
        return (query @ key.mT).softmax(dim=-1) @ value
    mixed: Tensor = _HeadByHead.apply(query, key, value)  # type: ignore[no-untyped-call]
    return mixed


class _HeadByHead(torch.autograd.Function):
    """Attention of scaled queries; weights of a head are forgotten, and computed again."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(query, key, value)
        batch, heads, tokens, dim = query.shape
        # Laid out so that heads of a token lie together: what follows is a product over them.
        mixed = query.new_empty(batch, tokens, heads, dim).transpose(1, 2)
        for clip, head in _heads(query):
            mixed[clip, head] = _weights(query[clip, head], key[clip, head]) @ value[clip, head]
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        query, key, value = ctx.saved_tensors
        # Together as the three were made together, so that joining them copies nothing.
        batch, heads, tokens, dim = query.shape
        joint = query.new_empty(batch, tokens, 3, heads, dim).permute(2, 0, 3, 1, 4)
        for clip, head in _heads(query):
            weights = _weights(query[clip, head], key[clip, head])
            to_mixed = gradients[0][clip, head]
            joint[2, clip, head] = weights.T @ to_mixed
            to_weights = to_mixed @ value[clip, head].T
            to_scores = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype)
            joint[0, clip, head] = to_scores @ key[clip, head]
            joint[1, clip, head] = to_scores.T @ query[clip, head]
        return joint[0], joint[1], joint[2]


def _heads(query: Tensor) -> list[tuple[int, int]]:
    return [(clip, head) for clip in range(query.shape[0]) for head in range(query.shape[1])]


def _weights(query: Tensor, key: Tensor) -> Tensor:
    return torch.softmax(query @ key.T, dim=-1)
