"""VideoMAE folders of Hugging Face ``transformers``: ``config.json`` and ``model.safetensors``.

The architecture is the same as ours; names differ, and queries, keys and values are three matrices
there. Written are the names of the published VideoMAE folders (``q_bias``), which version 5 of
``transformers`` renames as it reads; its own names (``query.bias``) are read, too. The library is
not needed here.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.transformer import LAYER_NORM_EPS
from sigma_pipeline.model.weights import (
    CLASSIFIER_PREFIX,
    ENCODER_PREFIX,
    encoder_weights,
    load_weights,
)

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
_MODEL_PREFIX = "videomae."
_OUTSIDE_BLOCKS = {
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
_IN_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
_HEAD = {"fc_norm": "fc_norm", "head": "classifier"}
_ATTENTION = "attention.attention"
_PROJECTIONS = ("query", "key", "value")
_BIASES = {"q_bias": "query.bias", "v_bias": "value.bias"}
_THEIR_BLOCK = re.compile(r"encoder\.layer\.(\d+)\.(.+)")
_OUR_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")


def write_huggingface(
    folder: Path, state: Mapping[str, Tensor], config: ModelConfig, classes: Sequence[str] = ()
) -> None:
    """Writes the two files into ``folder``.

    The encoder becomes a ``VideoMAEModel`` with its final norm, whose features are those of
    ``Encoder.encode``. A state with a classifier becomes a ``VideoMAEForVideoClassification``.

    Args:
        folder: exists.
        state: all weights of a commit; what serves pre-training only is left out.
        config: of its model.
        classes: names of those of a classifier, if they are known.
    """
    head = {
        name.removeprefix(CLASSIFIER_PREFIX): tensor
        for name, tensor in state.items()
        if name.startswith(CLASSIFIER_PREFIX)
    }
    tensors = _their_encoder(encoder_weights(state))
    if head:  # features are averaged there before they are normalized
        tensors = {
            f"{_MODEL_PREFIX}{name}": tensor
            for name, tensor in tensors.items()
            if not name.startswith("layernorm.")
        }
        tensors |= {_renamed(name, _HEAD): tensor for name, tensor in head.items()}
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    safetensors.torch.save_file(whole, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    labels = classes or [f"LABEL_{number}" for number in range(len(head.get("head.bias", ())))]
    text = json.dumps(_their_config(config, labels), indent=2)
    (folder / CONFIG_FILE).write_text(f"{text}\n", encoding="utf-8")


def read_huggingface(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state in a VideoMAE folder under our names, and the settings that its shapes don't show.

    The decoder of a ``VideoMAEForPreTraining`` is left behind.

    Raises:
        ValueError: it is not a VideoMAE folder, or of a variant that is not ours.
        OSError: a file cannot be read.
    """
    try:
        theirs = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        kind = theirs["model_type"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"its {CONFIG_FILE} is not that of a model ({error})") from error
    if kind != "videomae":
        raise ValueError(f"its {CONFIG_FILE} says model_type {kind!r}; only 'videomae' is read")
    if theirs.get("hidden_act", "gelu") != "gelu":
        raise ValueError(f"its activation is {theirs['hidden_act']!r}; ours is 'gelu'")
    sizes = theirs.get("image_size", 224)
    sizes = sizes if isinstance(sizes, list) else [sizes]
    if len({*sizes}) != 1:
        raise ValueError(f"its frames are {sizes}; ours are squares")
    # Defaults are those of transformers, which leaves them out of the file.
    found = {
        "num_frames": theirs.get("num_frames", 16),
        "frame_size_px": sizes[0],
        "encoder": {"num_heads": theirs.get("num_attention_heads", 12)},
    }
    return _our_state(load_weights((folder / WEIGHTS_FILE).read_bytes())), found


def _their_encoder(encoder: Mapping[str, Tensor]) -> dict[str, Tensor]:
    theirs = {}
    for name, tensor in encoder.items():
        block = _OUR_BLOCK.fullmatch(name)
        if block is None:
            theirs[_renamed(name, _OUTSIDE_BLOCKS)] = tensor
            continue
        prefix, rest = f"encoder.layer.{block[1]}", block[2]
        if rest == "attn.qkv.weight":
            for projection, part in zip(_PROJECTIONS, tensor.chunk(3), strict=True):
                theirs[f"{prefix}.{_ATTENTION}.{projection}.weight"] = part
        elif rest.removeprefix("attn.") in _BIASES:
            theirs[f"{prefix}.{_ATTENTION}.{rest.removeprefix('attn.')}"] = tensor
        else:
            theirs[f"{prefix}.{_renamed(rest, _IN_BLOCK)}"] = tensor
    return theirs


def _our_state(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    ours, parts = {}, dict[str, dict[str, Tensor]]()
    for name, tensor in theirs.items():
        if name.partition(".")[0] in _HEAD.values():
            ours[f"{CLASSIFIER_PREFIX}{_renamed(name, _reversed(_HEAD))}"] = tensor
            continue
        name = name.removeprefix(_MODEL_PREFIX)
        block = _THEIR_BLOCK.fullmatch(name)
        if block is not None:
            prefix, rest = f"{ENCODER_PREFIX}blocks.{block[1]}", block[2]
            inner = rest.removeprefix(f"{_ATTENTION}.")
            if inner in (f"{projection}.weight" for projection in _PROJECTIONS):
                parts.setdefault(prefix, {})[inner.removesuffix(".weight")] = tensor
            elif inner != rest:
                ours[f"{prefix}.attn.{_reversed(_BIASES).get(inner, inner)}"] = tensor
            else:
                ours[f"{prefix}.{_renamed(rest, _reversed(_IN_BLOCK))}"] = tensor
        elif name.startswith(tuple(_OUTSIDE_BLOCKS.values())):
            ours[f"{ENCODER_PREFIX}{_renamed(name, _reversed(_OUTSIDE_BLOCKS))}"] = tensor
    for prefix, found in parts.items():
        if len(found) == len(_PROJECTIONS):
            stacked = torch.cat([found[projection] for projection in _PROJECTIONS])
            ours[f"{prefix}.attn.qkv.weight"] = stacked
    return ours


def _their_config(config: ModelConfig, labels: Sequence[str]) -> dict[str, Any]:
    """``labels`` are those of a classifier; none: it is an encoder."""
    encoder = config.encoder
    theirs: dict[str, Any] = {
        "architectures": ["VideoMAEModel"],
        "model_type": "videomae",
        "image_size": config.frame_size_px,
        "patch_size": config.patch_size_px,
        "num_channels": 3,
        "num_frames": config.num_frames,
        "tubelet_size": config.tubelet_frames,
        "hidden_size": encoder.embed_dim,
        "num_hidden_layers": encoder.depth,
        "num_attention_heads": encoder.num_heads,
        "intermediate_size": int(encoder.embed_dim * encoder.mlp_ratio),
        "hidden_act": "gelu",
        "layer_norm_eps": LAYER_NORM_EPS,
        "qkv_bias": True,
        "use_mean_pooling": bool(labels),
    }
    if labels:
        theirs["architectures"] = ["VideoMAEForVideoClassification"]
        theirs["id2label"] = {str(number): label for number, label in enumerate(labels)}
        theirs["label2id"] = {label: number for number, label in enumerate(labels)}
    return theirs


def _renamed(name: str, names: Mapping[str, str]) -> str:
    """``name`` with its module, which is all before the last dot, under its other name."""
    module, _, parameter = name.rpartition(".")
    return f"{names.get(module, module)}.{parameter}"


def _reversed(names: Mapping[str, str]) -> dict[str, str]:
    return {theirs: ours for ours, theirs in names.items()}
