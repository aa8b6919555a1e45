"""Mixing of values by the similarity of queries and keys, by the fastest way at hand.

PyTorch's fused attention needs no matrix of all pairs of tokens, and is the best there is on GPUs.
On processors it multiplies small blocks, at a fraction of the speed of large products. What stands
here instead takes a head at a time, and as many of its queries as keep their weights in the cache;
it keeps as little.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sigma_pipeline.model.products import is_fast, product

_FEW_TOKENS = 256
_PART_BYTES = 5 * 2**18
"""Of the weights of some queries: about as much as a core's own cache holds."""


def attention(
    query: Float[Tensor, "batch heads tokens dim"],
    key: Float[Tensor, "batch heads tokens dim"],
    value: Float[Tensor, "batch heads tokens dim"],
) -> Float[Tensor, "batch heads tokens dim"]:
    """``softmax(query @ key.T / sqrt(dim)) @ value`` of every head."""
    if torch.compiler.is_compiling() or not is_fast(query):
        return F.scaled_dot_product_attention(query, key, value)
    if query.shape[2] > _FEW_TOKENS:
        mixed: Tensor = _HeadByHead.apply(query, key, value)  # type: ignore[no-untyped-call]
        return mixed
    if query.dtype is torch.bfloat16:
        return (_scaled(query) @ key.mT).softmax(dim=-1) @ value
    return F.scaled_dot_product_attention(query, key, value)


class _HeadByHead(torch.autograd.Function):
    """Attention whose weights are forgotten, and computed again."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(query, key, value)
        batch, heads, tokens, dim = query.shape
        # Laid out so that heads of a token lie together: what follows is a product over them.
        mixed = query.new_empty(batch, tokens, heads, dim).transpose(1, 2)
        for head in _heads(query):
            keys, values = key[head].contiguous(), value[head].contiguous()
            for rows in _query_parts(query):
                weights = _weights(_scaled(query[head][rows]), keys)
                mixed[head][rows] = product(weights, values.T)
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        query, key, value = ctx.saved_tensors
        # Together as the three were made together, so that joining them copies nothing.
        batch, heads, tokens, dim = query.shape
        joint = query.new_empty(batch, tokens, 3, heads, dim).permute(2, 0, 3, 1, 4)
        for head in _heads(query):
            keys, values = key[head].contiguous(), value[head].contiguous()
            # Sums over the parts, in float32 whatever is summed.
            to_key, to_value = torch.zeros(2, tokens, dim, dtype=torch.float32)
            for rows in _query_parts(query):
                queries = _scaled(query[head][rows])
                weights = _weights(queries, keys)
                to_mixed = gradients[0][head][rows].contiguous()
                to_value += product(weights.T, to_mixed.T)
                to_weights = product(to_mixed, values)
                to_scores = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype)
                joint[0][head][rows] = _scaled(product(to_scores, keys.T))
                to_key += product(to_scores.T, queries.T)
            joint[1][head], joint[2][head] = to_key, to_value
        return joint[0], joint[1], joint[2]


def _heads(query: Tensor) -> Iterator[tuple[int, int]]:
    return ((clip, head) for clip in range(query.shape[0]) for head in range(query.shape[1]))


def _query_parts(query: Tensor) -> Iterator[slice]:
    tokens = query.shape[2]
    size = max(1, _PART_BYTES // (tokens * query.itemsize))
    return (slice(start, start + size) for start in range(0, tokens, size))


def _scaled(queries: Tensor) -> Tensor:
    return queries.mul(queries.shape[-1] ** -0.5)


def _weights(queries: Tensor, keys: Tensor) -> Tensor:
    return torch.softmax(product(queries, keys), dim=-1)
