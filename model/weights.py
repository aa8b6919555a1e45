"""Weights in and out, as safetensors: nothing is ever unpickled.

Names are those of the published pre-training checkpoints (protocols 9), which are the names of
``Sigma``'s own parameters; position tables are computed and never stored.
"""

from collections.abc import Mapping

import safetensors.torch
from torch import Tensor, nn

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.encoder import Encoder

ENCODER_PREFIX = "encoder."


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


def restore_weights(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copies a complete state into a module.

    Raises:
        ValueError: names or shapes differ; all differences are named, nothing is copied.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    problems = [f"{name} is missing" for name in sorted(wanted.keys() - given.keys())]
    problems += [f"{name} is unknown" for name in sorted(given.keys() - wanted.keys())]
    problems += [
        f"{name} is {given[name]}, not {wanted[name]}"
        for name in sorted(wanted.keys() & given.keys())
        if wanted[name] != given[name]
    ]
    if problems:
        raise ValueError(f"weights do not fit the model: {'; '.join(problems)}")
    module.load_state_dict(dict(state))
