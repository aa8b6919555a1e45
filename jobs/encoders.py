"""Encoders under evaluation: those of commits, and the supervised reference."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sigma_pipeline.infra.errors import MissingInputError, StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commits import WEIGHTS_FILE, Commit
from sigma_pipeline.model.config import ModelConfig

if TYPE_CHECKING:
    from torch import Tensor

    from sigma_pipeline.model.encoder import Encoder

SUPERVISED = "supervised"


@dataclass(frozen=True)
class EncoderSource:
    """Where an encoder's weights lie, and under which name its scores are kept."""

    name: str
    """Folder of its cells: ``step-00001000`` or ``supervised``."""
    step: int
    """Where its scores stand on a curve; 0 for the supervised reference."""
    weights_key: str
    weights_sha256: str
    model: Mapping[str, Any]
    """ModelConfig as plain data."""

    @property
    def model_config(self) -> ModelConfig:
        """Shape of the network and of its clips."""
        return ModelConfig.model_validate(self.model)

    @property
    def shape(self) -> dict[str, Any]:
        """The part of the model's settings that features depend on, besides the weights."""
        names = ("num_frames", "frame_size_px", "tubelet_frames", "patch_size_px", "encoder")
        return self.model_config.model_dump(mode="json", include=set(names))


def committed_encoder(commit: Commit) -> EncoderSource:
    """The encoder of a commit."""
    return EncoderSource(
        name=f"step-{commit.step:08d}",
        step=commit.step,
        weights_key=f"{commit.prefix}/{WEIGHTS_FILE}",
        weights_sha256=commit.weights_sha256,
        model=commit.model,
    )


def load_state(storage: Storage, source: EncoderSource) -> "dict[str, Tensor]":
    """All weights in the file of ``source``, on the CPU.

    Raises:
        MissingInputError: the file was deleted.
        StageError: the file is not the one that was recorded.
    """
    from sigma_pipeline.model.weights import load_weights  # PyTorch, which tables have no use for

    try:
        data = storage.read(source.weights_key)
    except FileNotFoundError:
        raise MissingInputError(
            f"the weights of {source.name} are gone: somebody deleted "
            f"{storage.uri(source.weights_key)}"
        ) from None
    if hashlib.sha256(data).hexdigest() != source.weights_sha256:
        raise StageError(
            f"{storage.uri(source.weights_key)} is damaged: its bytes are not those that were "
            f"recorded for {source.name}"
        )
    return load_weights(data)


def load_encoder(storage: Storage, source: EncoderSource) -> "Encoder":
    """The encoder of ``source``, in evaluation mode, on the CPU."""
    from sigma_pipeline.model.weights import build_encoder

    return build_encoder(source.model_config, load_state(storage, source))
