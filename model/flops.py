"""Floating-point operations of a training step, from the shapes of the model alone.

Counted are products, by far most of the work, as PyTorch's own counter counts them: a product of
matrices ``[m, k]`` and ``[k, n]`` is ``m * k * n`` multiplications and as many additions. A token
in a block of width ``d`` with an MLP ``r`` times as wide meets ``(4 + 2 r) d^2`` weights (queries,
keys, values, projection, MLP), and ``2 t d`` numbers of the ``t`` tokens it attends to (scores,
mixture).

A gradient costs as much as the product itself, once for each factor that has one. Nothing is
counted that is computed a second time (activation checkpointing; clips that are scored before they
are trained on), nor normalization, GELU, softmax, Sinkhorn and the optimizer. So over the peak of
the device this is model FLOPs utilization (MFU) as in Chowdhery et al., "PaLM", 2022, appendix B.
"""

from itertools import pairwise

from sigma_pipeline.model.config import ModelConfig, TransformerConfig
from sigma_pipeline.model.teacher_shapes import TEACHERS

_TEACHER_MLP_RATIO = 4


def forward_flops(config: ModelConfig, batch: int) -> dict[str, int]:
    """Of the forward pass over ``batch`` clips, by part of the model."""
    hidden = _num_hidden(config)
    visible = config.num_tokens - hidden
    dim, decoder_dim, out_dim = config.encoder.embed_dim, config.decoder.embed_dim, _out_dim(config)
    multiplications = {
        "embedding": visible * config.tubelet_dim * dim,
        "encoder": _blocks(config.encoder, visible),
        "decoder": visible * dim * decoder_dim
        + _blocks(config.decoder, config.num_tokens)
        + hidden * decoder_dim * out_dim,
        "target": _target(config),
        "scores": 2 * hidden * out_dim * config.prototypes if config.objective == "sigma" else 0,
    }
    return {part: 2 * batch * number for part, number in multiplications.items()}


def backward_flops(config: ModelConfig, batch: int) -> dict[str, int]:
    """The same for gradients.

    Nobody asks for those of pixels and of a frozen teacher. Of the scores of the target branch both
    factors have one if the branch is learned; of those of the prediction branch prototypes have
    none.
    """
    forward = forward_flops(config, batch)
    is_learned = config.target.kind == "mlp"
    of_target = 0
    if is_learned:
        pixels = batch * _num_hidden(config) * config.tubelet_dim
        of_target = 2 * forward["target"] - 2 * pixels * _target_widths(config)[1]
    return {
        **{part: 2 * number for part, number in forward.items()},
        "embedding": forward["embedding"],
        "target": of_target,
        "scores": forward["scores"] * (3 if is_learned else 2) // 2,
    }


def step_flops(config: ModelConfig, batch: int) -> int:
    """Of a whole step over ``batch`` clips."""
    return sum(forward_flops(config, batch).values()) + sum(backward_flops(config, batch).values())


def encoder_step_flops(config: ModelConfig, num_frames: int) -> int:
    """Of training the encoder on one whole clip of ``num_frames`` frames, as fine-tuning does."""
    tokens = num_frames // config.tubelet_frames * config.num_patches
    embedding = tokens * config.tubelet_dim * config.encoder.embed_dim
    return 2 * (2 * embedding + 3 * _blocks(config.encoder, tokens))


def _target(config: ModelConfig) -> int:
    """Multiplications of the target branch."""
    if config.target.teacher is not None:
        return _teacher(config)
    if config.target.kind == "pixels":
        return 0
    widths = _target_widths(config)
    return _num_hidden(config) * sum(one * other for one, other in pairwise(widths))


def _teacher(config: ModelConfig) -> int:
    """Multiplications of a frozen teacher, which looks at one whole frame of each slice."""
    assert config.target.teacher is not None  # checked by the caller
    shape = TEACHERS[config.target.teacher]
    patches = (config.frame_size_px // shape.patch_size_px) ** 2
    stack = TransformerConfig(
        embed_dim=shape.embed_dim,
        depth=shape.depth,
        num_heads=shape.num_heads,
        mlp_ratio=_TEACHER_MLP_RATIO,
    )
    embedding = patches * 3 * shape.patch_size_px**2 * shape.embed_dim
    of_frame = embedding + _blocks(stack, patches + 1 + shape.num_registers)
    return config.num_slices * of_frame


def _num_hidden(config: ModelConfig) -> int:
    return config.num_masked_patches * config.num_slices


def _target_widths(config: ModelConfig) -> tuple[int, ...]:
    return (config.tubelet_dim, *config.target.hidden_dims, config.target.dim)


def _out_dim(config: ModelConfig) -> int:
    """Width of what is predicted."""
    if config.target.teacher is not None:
        return TEACHERS[config.target.teacher].embed_dim
    return config.target.dim if config.target.kind == "mlp" else config.tubelet_dim


def _blocks(stack: TransformerConfig, tokens: int) -> int:
    """Multiplications of the forward pass."""
    dim = stack.embed_dim
    linear = int((4 + 2 * stack.mlp_ratio) * dim * dim)
    return stack.depth * tokens * (linear + 2 * tokens * dim)
