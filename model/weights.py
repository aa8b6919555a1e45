"""Weights in and out, as safetensors, and into modules.

Names are those of the published pre-training checkpoints (protocols 9), which are the names of
``Sigma``'s own parameters; position tables are computed and never stored. A fine-tuned model has
the encoder's names and, behind a prefix that nothing else has, those of its classifier.
"""

from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.encoder import Encoder

ENCODER_PREFIX = "encoder."
CLASSIFIER_PREFIX = "classifier."
"""Before ``fc_norm.*`` and ``head.*`` of a fine-tuned model: the published names of a classifier's
head are those of the projection network's, too."""
_READABLE = (torch.float32, torch.float16, torch.bfloat16)


def save_weights(state: Mapping[str, Tensor]) -> bytes:
    """A state dict as the content of one safetensors file; equal states give equal bytes."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    return safetensors.torch.save(plain)


def load_weights(data: bytes) -> dict[str, Tensor]:
    """The state dict in the content of a safetensors file, on the CPU.

    Raises:
        ValueError: it is not a safetensors file, or a truncated one.
    """
    try:
        return safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{len(data)} bytes are not a safetensors file: {error}") from error


def checked_state(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """``state`` itself, if it is one of names and ordinary floating-point tensors.

    Raises:
        ValueError: names the first entry that is not.
    """
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError(f"its entry {name!r} is a {type(tensor).__name__}, not a tensor")
        if tensor.dtype not in _READABLE or tensor.layout != torch.strided:
            raise ValueError(f"its {name} is a {tensor.dtype} tensor, which weights never are")
    return dict(state)


def encoder_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's part of a model's state, named as ``Encoder`` names it.

    Decoder, prototypes and target branch are left behind: they serve pre-training only. The
    target's ``head.*`` in particular must not meet the classifier of a fine-tuned model.

    Raises:
        ValueError: there is no encoder in ``state``.
    """
    found = {
        name.removeprefix(ENCODER_PREFIX): tensor
        for name, tensor in state.items()
        if name.startswith(ENCODER_PREFIX)
    }
    if not found:
        raise ValueError(f"none of {len(state)} tensors is named '{ENCODER_PREFIX}*'")
    return found


def build_encoder(config: ModelConfig, state: Mapping[str, Tensor]) -> Encoder:
    """Encoder in evaluation mode with the weights of a model's state.

    Raises:
        ValueError: names or shapes are not those of ``config``.
    """
    encoder = Encoder(config)
    restore_weights(encoder, encoder_weights(state))
    return encoder.eval()


def restore_weights(
    module: nn.Module, state: Mapping[str, Tensor], *, assign: bool = False
) -> None:
    """Copies a complete state into a module; with ``assign`` the tensors become the module's own.

    Raises:
        ValueError: names or shapes differ; all differences are named, nothing is copied.
    """
    problems = shape_problems(shapes(module.state_dict()), shapes(state))
    if problems:
        raise ValueError(f"weights do not fit the model: {'; '.join(problems)}")
    module.load_state_dict(dict(state), assign=assign)


def shared_settings(config: ModelConfig) -> dict[str, Any]:
    """What a file for others says of its model; where a teacher lies here is not their concern."""
    return config.model_dump(mode="json", exclude={"target": {"teacher_weights"}})


Shape = tuple[int, ...]


def shapes(state: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Shape of each tensor of a state."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def shape_problems(wanted: Mapping[str, Shape], given: Mapping[str, Shape]) -> list[str]:
    """What is missing, unknown, or of another shape; nothing when both are equal."""
    problems = [f"{name} is missing" for name in sorted(wanted.keys() - given.keys())]
    problems += [f"{name} is unknown" for name in sorted(given.keys() - wanted.keys())]
    problems += [
        f"{name} is {given[name]}, not {wanted[name]}"
        for name in sorted(wanted.keys() & given.keys())
        if wanted[name] != given[name]
    ]
    return problems
