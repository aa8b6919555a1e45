"""SIGMA, the network and its objective, in plain PyTorch; what notebooks need stands here.

    from sigma_pipeline.model import load_encoder

    encoder = load_encoder("checkpoint.pth")
    tokens = encoder.encode(clip)

PyTorch is loaded when one of the names is first used: settings of a model are read without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sigma_pipeline.model.checkpoint_files import load_encoder, untrained_encoder
    from sigma_pipeline.model.config import ModelConfig
    from sigma_pipeline.model.encoder import Encoder
    from sigma_pipeline.model.sigma import Sigma, build_sigma

__all__ = [
    "Encoder",
    "ModelConfig",
    "Sigma",
    "build_sigma",
    "load_encoder",
    "untrained_encoder",
]

_MODULES = {
    "Encoder": "encoder",
    "ModelConfig": "config",
    "Sigma": "sigma",
    "build_sigma": "sigma",
    "load_encoder": "checkpoint_files",
    "untrained_encoder": "checkpoint_files",
}


def __getattr__(name: str) -> Any:
    """One of the public names, from the module that has it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """The public names too, before they are first used."""
    return sorted({*globals(), *__all__})
