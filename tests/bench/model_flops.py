"""How many operations a step needs at least."""

from itertools import pairwise

from sigma_pipeline.model.config import ModelConfig, TransformerConfig


def step_flops(config: ModelConfig, batch: int) -> int:
    """Floating-point operations in the matrix products of one step with an ``mlp`` target.

    Forward, and twice as much for gradients, but for those of pixels, which nobody asks for.
    Nothing is counted that is computed a second time, nor what is not a product.
    """
    hidden = config.num_masked_patches * config.num_slices
    visible = config.num_tokens - hidden
    embedding = visible * config.tubelet_dim * config.encoder.embed_dim
    widths = (config.tubelet_dim, *config.target.hidden_dims, config.target.dim)
    layers = [hidden * one * other for one, other in pairwise(widths)]
    decoder_dim = config.decoder.embed_dim
    products = (
        embedding
        + _blocks(config.encoder, visible)
        + visible * config.encoder.embed_dim * decoder_dim
        + _blocks(config.decoder, config.num_tokens)
        + hidden * decoder_dim * config.target.dim
        + sum(layers)
    )
    scores = hidden * config.target.dim * config.prototypes
    without_input = embedding + layers[0]
    # Prototypes get no gradient from the prediction branch.
    total = 3 * products - without_input + 3 * scores + 2 * scores
    return 2 * batch * total


def _blocks(stack: TransformerConfig, tokens: int) -> int:
    """Multiplications of the forward pass."""
    dim = stack.embed_dim
    linear = int((4 + 2 * stack.mlp_ratio) * dim * dim)
    return stack.depth * tokens * (linear + 2 * tokens * dim)
