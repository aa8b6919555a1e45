"""Blocks: attention against its textbook form, and what the published names imply."""

import torch

from sigma_pipeline.model.config import TransformerConfig
from sigma_pipeline.model.transformer import Attention, Block, run_blocks


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


def blocks(depth: int = 3) -> torch.nn.ModuleList:
    torch.manual_seed(0)
    config = TransformerConfig(embed_dim=12, depth=depth, num_heads=3)
    return torch.nn.ModuleList(Block(config) for _ in range(depth)).double()


def test_checkpointed_blocks_give_the_same_features_and_gradients_and_keep_less() -> None:
    stack, tokens = blocks(), torch.randn(2, 7, 12, dtype=torch.float64)
    scales = torch.rand(2, 3, 2, dtype=torch.float64)
    features, gradients, kept = [], [], []

    for is_checkpointed in (False, True):
        saved: list[int] = []
        count = torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, saved=saved: saved.append(tensor.nbytes) or tensor, lambda tensor: tensor
        )
        with count:
            features.append(
                run_blocks(stack, tokens, scales=scales, is_checkpointed=is_checkpointed)
            )
        kept.append(sum(saved))
        gradients.append(torch.autograd.grad(features[-1].square().sum(), list(stack.parameters())))

    assert torch.equal(features[0], features[1])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))
    assert kept[1] < kept[0] / 5


def test_a_half_with_a_scale_of_zero_is_left_out_for_its_clip_alone() -> None:
    stack, tokens = blocks(1), torch.randn(2, 7, 12, dtype=torch.float64)
    scales = torch.tensor([[[0.0, 0.0]], [[1.0, 1.0]]])

    some = run_blocks(stack, tokens, scales=scales)

    assert torch.equal(some[0], tokens[0])
    torch.testing.assert_close(some[1], run_blocks(stack, tokens)[1])


def test_scales_belong_to_their_half() -> None:
    stack, tokens = blocks(1), torch.randn(1, 7, 12, dtype=torch.float64)
    block = stack[0]

    only_mlp = run_blocks(stack, tokens, scales=torch.tensor([[[0.0, 2.0]]]))

    torch.testing.assert_close(only_mlp, tokens + 2 * block.mlp(block.norm2(tokens)))
