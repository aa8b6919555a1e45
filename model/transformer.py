"""Pre-norm transformer blocks, named as in the published checkpoints (protocols 9)."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sigma_pipeline.model.attention import attention
from sigma_pipeline.model.config import TransformerConfig
from sigma_pipeline.model.products import Linear, linear

LAYER_NORM_EPS = 1e-6


def layer_norm(dim: int) -> nn.LayerNorm:
    """Layer normalization with the epsilon of the published weights."""
    return nn.LayerNorm(dim, eps=LAYER_NORM_EPS)


def xavier_linear(inputs: int, outputs: int, *, bias: bool = True) -> Linear:
    """Linear layer as encoder and decoder draw it: Xavier-uniform weight, zero bias."""
    layer = Linear(inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class Attention(nn.Module):
    """Self-attention over all tokens of a clip.

    Queries and values have a learned bias. Keys have none: it would add the same number to all
    scores of a query, which softmax ignores.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = xavier_linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = xavier_linear(dim, dim)

    def forward(
        self, tokens: Float[Tensor, "batch tokens dim"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """Mixes the tokens of each clip."""
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        stacked = linear(tokens, self.qkv.weight, bias)
        # batch tokens 3 heads head_dim -> 3 batch heads tokens head_dim
        split = stacked.view(*tokens.shape[:2], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = attention(split[0], split[1], split[2])
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected


class Mlp(nn.Module):
    """Two linear layers around a GELU, applied to each token."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = xavier_linear(dim, hidden_dim)
        self.fc2 = xavier_linear(hidden_dim, dim)

    def forward(
        self, tokens: Float[Tensor, "batch tokens dim"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """Changes each token by itself."""
        changed: Tensor = self.fc2(self.fc1(tokens), after_gelu=True)
        return changed


class Block(nn.Module):
    """Attention, then MLP, each normalized before and added to its input."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.norm1 = layer_norm(dim)
        self.attn = Attention(dim, config.num_heads)
        self.norm2 = layer_norm(dim)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))

    def forward(
        self,
        tokens: Float[Tensor, "batch tokens dim"],
        scales: Float[Tensor, "batch halves"] | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Applies both halves; with ``scales``, multiplied by those of their clip."""
        if scales is None:
            tokens = tokens + self.attn(self.norm1(tokens))
            tokens = tokens + self.mlp(self.norm2(tokens))
        else:
            tokens = tokens + scales[:, :1, None] * self.attn(self.norm1(tokens))
            tokens = tokens + scales[:, 1:, None] * self.mlp(self.norm2(tokens))
        return tokens


def run_blocks(
    blocks: Iterable[nn.Module],
    tokens: Float[Tensor, "batch tokens dim"],
    *,
    scales: Float[Tensor, "batch blocks halves"] | None = None,
    is_checkpointed: bool = False,
) -> Float[Tensor, "batch tokens dim"]:
    """Tokens after all blocks.

    Args:
        blocks: one after the other.
        tokens: of each clip.
        scales: of the halves of each block, as ``branch_scales`` draws them.
        is_checkpointed: what happens in a block is forgotten, and computed again for gradients.
    """
    for number, block in enumerate(blocks):
        own = None if scales is None else scales[:, number].to(tokens.dtype)
        if is_checkpointed and torch.is_grad_enabled():
            tokens = checkpoint(block, tokens, own, use_reentrant=False, preserve_rng_state=False)
        else:
            tokens = block(tokens, own)
    return tokens
