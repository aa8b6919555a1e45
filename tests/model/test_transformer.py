"""Blocks: attention against its textbook form, and what the published names imply."""

import torch

from sigma_pipeline.model.config import TransformerConfig
from sigma_pipeline.model.transformer import Attention, Block


def test_attention_is_the_textbook_one_with_a_key_bias_of_zero() -> None:
    attention = Attention(dim=12, num_heads=3).double()
    torch.nn.init.normal_(attention.q_bias)
    torch.nn.init.normal_(attention.v_bias)
    tokens = torch.randn(2, 5, 12, dtype=torch.float64)

    mixed = attention(tokens)

    query, key, value = (tokens @ attention.qkv.weight.T).split(12, dim=-1)
    query, value = query + attention.q_bias, value + attention.v_bias
    heads = [slice(4 * head, 4 * head + 4) for head in range(3)]
    weights = [(query[..., h] @ key[..., h].mT / 2).softmax(dim=-1) for h in heads]
    parts = [weight @ value[..., h] for weight, h in zip(weights, heads, strict=True)]
    torch.testing.assert_close(mixed, attention.proj(torch.cat(parts, dim=-1)))


def test_a_block_has_the_published_parameter_names() -> None:
    block = Block(TransformerConfig(embed_dim=12, depth=1, num_heads=3))

    assert {name: tuple(value.shape) for name, value in block.state_dict().items()} == {
        "norm1.weight": (12,),
        "norm1.bias": (12,),
        "attn.q_bias": (12,),
        "attn.v_bias": (12,),
        "attn.qkv.weight": (36, 12),
        "attn.proj.weight": (12, 12),
        "attn.proj.bias": (12,),
        "norm2.weight": (12,),
        "norm2.bias": (12,),
        "mlp.fc1.weight": (48, 12),
        "mlp.fc1.bias": (48,),
        "mlp.fc2.weight": (12, 48),
        "mlp.fc2.bias": (12,),
    }


def test_linear_layers_start_xavier_uniform_without_bias() -> None:
    block = Block(TransformerConfig(embed_dim=64, depth=1, num_heads=4))

    assert not block.mlp.fc1.bias.any()
    bound = (6 / (64 + 256)) ** 0.5
    assert 0.95 * bound < block.mlp.fc1.weight.abs().max() <= bound


def test_layer_norms_use_the_published_epsilon() -> None:
    block = Block(TransformerConfig(embed_dim=12, depth=1, num_heads=3))

    assert {block.norm1.eps, block.norm2.eps} == {1e-6}
