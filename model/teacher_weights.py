"""Weights of frozen teachers, as one of ``transformers``' networks.

A file holds a DINO v1 state dict under its original names. A folder is a Hugging Face model.
Nothing is downloaded. ``transformers`` takes seconds to import, so it is imported only where a
network is built.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import nn

from sigma_pipeline.model.config import TargetConfig
from sigma_pipeline.model.teacher_original import read_original
from sigma_pipeline.model.teacher_shapes import TEACHERS, TeacherName
from sigma_pipeline.model.teacher_source import refusal, require_tensors, teacher_source
from sigma_pipeline.model.transformer import LAYER_NORM_EPS

_CLASS_NAMES = {
    "dino": "ViTModel",
    "dinov2": "Dinov2WithRegistersModel",
    "dinov3": "DINOv3ViTModel",
}


def load_teacher(target: TargetConfig) -> nn.Module:
    """The teacher that ``target`` names: float32, on the CPU, evaluating, taking no gradients.

    It has the epsilon that its ``config.json`` states, and 1e-6 where there is none. The global
    random state is not changed.

    Raises:
        ValueError: the weights are not there, or not those of this teacher.
    """
    teacher, path = teacher_source(target)
    with _without_a_progress_bar(), torch.random.fork_rng(devices=[]), torch.device("cpu"):
        network = _load(teacher, path)
    return network.eval().requires_grad_(requires_grad=False)


def _load(teacher: TeacherName, path: Path) -> nn.Module:
    import transformers

    family = TEACHERS[teacher].family
    try:
        network, report = getattr(transformers, _CLASS_NAMES[family]).from_pretrained(
            **({"pretrained_model_name_or_path": path} if path.is_dir() else _given(teacher, path)),
            **({"add_pooling_layer": False} if family == "dino" else {}),
            dtype=torch.float32,
            attn_implementation="sdpa",  # whatever config.json says: it may name code to fetch
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # refused below, together with the rest
            output_loading_info=True,
        )
    except (OSError, safetensors.SafetensorError) as error:
        raise refusal(teacher, path, f"cannot be read: {error}") from error
    require_tensors(
        teacher,
        path,
        missing=report["missing_keys"],
        unknown=[name for name in report["unexpected_keys"] if not name.startswith("pooler.")],
        misshapen=[name for name, *_ in report["mismatched_keys"]],
    )
    loaded: nn.Module = network
    return loaded


def _given(teacher: TeacherName, path: Path) -> dict[str, Any]:
    """Configuration and weights out of a DINO v1 file, in place of a folder."""
    from transformers import ViTConfig

    shape, state = TEACHERS[teacher], read_original(teacher, path)
    num_patches = state["embeddings.position_embeddings"].shape[1] - 1
    config = ViTConfig(
        hidden_size=shape.embed_dim,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.num_heads,
        intermediate_size=4 * shape.embed_dim,
        layer_norm_eps=LAYER_NORM_EPS,
        patch_size=shape.patch_size_px,
        image_size=round(num_patches**0.5) * shape.patch_size_px,
    )
    return {"pretrained_model_name_or_path": None, "config": config, "state_dict": state}


@contextmanager
def _without_a_progress_bar() -> Iterator[None]:
    """Keeps the library's bar and its report out of the log: what is wrong is raised instead."""
    from transformers.utils import logging

    verbosity, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bar:
            logging.enable_progress_bar()
