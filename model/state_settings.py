"""Which settings of a model its weights show, and whether they are those of a recipe.

Shapes show widths, depths, patches, prototypes and the projection network. They do not show heads,
which are taken from the published sizes where the width is one of theirs; nor the length and size
of the clips, for positions are computed.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.sigma import Sigma
from sigma_pipeline.model.weights import (
    CLASSIFIER_PREFIX,
    ENCODER_PREFIX,
    Shape,
    shape_problems,
    shapes,
)

HEADS_BY_WIDTH = {192: 3, 384: 6, 512: 8, 640: 8, 768: 12, 1024: 16, 1280: 16}
"""Of the published encoders and decoders, and of ViT-Ti (protocols 1.1)."""
_RATIO_TOLERANCE = 1 / 16
_PATCHES = f"{ENCODER_PREFIX}patch_embed.proj.weight"


def shown_settings(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The part of a ``ModelConfig`` that a state shows, nested as in a recipe.

    Raises:
        ValueError: it is not the state of a video encoder of this kind.
    """
    given = shapes(state)
    if _PATCHES not in given or len(given[_PATCHES]) != 5:
        raise ValueError(
            f"none of its {len(given)} tensors is the embedding of tubelets "
            f"({_PATCHES.removeprefix(ENCODER_PREFIX)})"
        )
    _, channels, tubelet_frames, height, width = given[_PATCHES]
    if channels != 3 or height != width:
        raise ValueError(f"its patches are {channels} x {height} x {width}, not 3 x P x P")
    settings: dict[str, Any] = {"tubelet_frames": tubelet_frames, "patch_size_px": height}
    settings["encoder"] = _stack(given, "encoder")
    if "mask_token" in given:
        settings["decoder"] = _stack(given, "decoder")
        settings["objective"] = "sigma" if "prototypes" in given else "l2"
    if "prototypes" in given:
        settings["prototypes"] = given["prototypes"][0]
    if widths := _projection_widths(given):
        settings["target"] = {"kind": "mlp", "hidden_dims": widths[:-1], "dim": widths[-1]}
    return settings


def encoder_config(settings: Mapping[str, Any]) -> ModelConfig:
    """A model around the encoder that ``settings`` describe; the rest of it has its defaults.

    Raises:
        ValueError: the number of heads is not known, or sizes do not fit.
    """
    if "num_heads" not in settings["encoder"]:
        raise ValueError(
            f"its encoder is {settings['encoder']['embed_dim']} wide, which is none of the "
            "published widths, so how many heads it has is not known; give the model's config"
        )
    names = ("num_frames", "frame_size_px", "tubelet_frames", "patch_size_px", "encoder")
    return ModelConfig.model_validate({name: settings[name] for name in names if name in settings})


def differences(
    config: ModelConfig, state: Mapping[str, Tensor], shown: Mapping[str, Any]
) -> list[str]:
    """Where a recipe's model and a file are not the same; empty when weights fit.

    Args:
        config: the recipe's.
        state: the file's, under our names.
        shown: its settings.
    """
    wanted = _flat(config.model_dump())
    lines = [
        f"model.{key}: recipe {wanted.get(key)}, file {value}"
        for key, value in _flat(shown).items()
        if not _agree(wanted.get(key), value)
    ]
    if "mask_token" in state:
        lines += _target_differences(config, state)
    if lines:
        return lines
    given = {name: shape for name, shape in shapes(state).items() if not _is_classifier(name)}
    return shape_problems(_expected_shapes(config, is_whole="mask_token" in state), given)


def _agree(wanted: object, given: object) -> bool:
    """Ratios only nearly: widths are whole numbers, and are compared as shapes later."""
    if isinstance(wanted, float) and isinstance(given, float):
        return abs(wanted - given) < _RATIO_TOLERANCE
    return wanted == given


def _target_differences(config: ModelConfig, state: Mapping[str, Tensor]) -> list[str]:
    """Of the kind and width of what is predicted; those of an ``mlp`` are shown settings."""
    target, has_projection = config.target, "head.0.weight" in state
    if target.kind == "mlp" and not has_projection:
        return ["model.target.kind: recipe mlp, file has no projection network (head.*)"]
    wanted = _expected_shapes(config, is_whole=True)["decoder.head.bias"]
    given = shapes(state).get("decoder.head.bias", wanted)
    if wanted == given or has_projection:
        return []
    name = target.kind if target.teacher is None else target.teacher
    return [f"model.target: recipe {name}, {wanted[0]} wide, file predicts {given[0]} numbers"]


def _expected_shapes(config: ModelConfig, *, is_whole: bool) -> dict[str, Shape]:
    """Of an encoder, or of all that is trained; teachers are not stored."""
    with torch.device("meta"):
        whole = shapes(Sigma(config).state_dict())
    return {name: s for name, s in whole.items() if is_whole or name.startswith(ENCODER_PREFIX)}


def _stack(given: Mapping[str, Shape], part: str) -> dict[str, Any]:
    """Width and depth of the encoder's or the decoder's blocks."""
    prefix = f"{part}.blocks."
    numbers = {name.split(".")[2] for name in given if name.startswith(prefix)}
    try:
        hidden_dim, dim = given[f"{prefix}0.mlp.fc1.weight"]
    except (KeyError, ValueError) as error:
        raise ValueError(f"its {part} has no blocks of the kind used here") from error
    known = {"num_heads": HEADS_BY_WIDTH[dim]} if dim in HEADS_BY_WIDTH else {}
    ratio = hidden_dim / dim
    if int(dim * ratio) < hidden_dim:  # rounded down, it would make one column less
        ratio = math.nextafter(ratio, math.inf)
    return {"embed_dim": dim, "depth": len(numbers), "mlp_ratio": ratio, **known}


def _projection_widths(given: Mapping[str, Shape]) -> tuple[int, ...]:
    """Outputs of the projection network's layers, which are numbered 0, 2, 4, ..."""
    widths: list[int] = []
    while shape := given.get(f"head.{2 * len(widths)}.weight"):
        widths.append(shape[0])
    return tuple(widths)


def _is_classifier(name: str) -> bool:
    return name.startswith(CLASSIFIER_PREFIX)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            leaves |= _flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves
