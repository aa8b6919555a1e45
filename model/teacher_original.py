"""DINO v1's own weight files, under the names of its published Hugging Face folders."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from sigma_pipeline.model.official import read_official
from sigma_pipeline.model.teacher_shapes import TEACHERS, TeacherName
from sigma_pipeline.model.teacher_source import refusal, require_tensors
from sigma_pipeline.model.weights import load_weights

_STEM = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}
# One tensor of a block becomes one, or equal parts along its first axis.
_BLOCK = {
    "norm1": ("layernorm_before",),
    "attn.qkv": tuple(f"attention.attention.{part}" for part in ("query", "key", "value")),
    "attn.proj": ("attention.output.dense",),
    "norm2": ("layernorm_after",),
    "mlp.fc1": ("intermediate.dense",),
    "mlp.fc2": ("output.dense",),
}


def read_original(teacher: TeacherName, path: Path) -> dict[str, Tensor]:
    """The state dict in a DINO v1 file, renamed; no pickled code is run.

    Raises:
        ValueError: it cannot be read, or its tensors are not those of this teacher.
    """
    shape = TEACHERS[teacher]
    state = _read(teacher, path)
    parts = dict(_renames(shape.depth))
    require_tensors(
        teacher, path, missing=parts.keys() - state.keys(), unknown=state.keys() - parts.keys()
    )
    width = state["pos_embed"].shape[-1]
    if width != shape.embed_dim:
        raise refusal(teacher, path, f"is {width} wide, where {teacher} is {shape.embed_dim} wide")
    return {
        new_name: part
        for name, new_names in parts.items()
        for new_name, part in zip(new_names, state[name].chunk(len(new_names)), strict=True)
    }


def _renames(depth: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every name in the file, with what it is called elsewhere."""
    for name, new_name in _STEM.items():
        yield name, (new_name,)
    for block in range(depth):
        for name, new_names in _BLOCK.items():
            for kind in ("weight", "bias"):
                yield (
                    f"blocks.{block}.{name}.{kind}",
                    tuple(f"encoder.layer.{block}.{new_name}.{kind}" for new_name in new_names),
                )


def _read(teacher: TeacherName, path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_weights(path.read_bytes())
        state, _ = read_official(path)
    except ValueError as error:
        raise refusal(teacher, path, f"cannot be read: {error}") from error
    if not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise refusal(teacher, path, "holds something else than named tensors")
    return state
