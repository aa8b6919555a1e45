"""Weights of any origin, from a file or a folder, under our names; and the encoder in them.

Read are: official pre-training and fine-tuned files (``.pth``), bare state dicts (``.pth`` or
safetensors), what this project exports, the folder of one of its commits, and VideoMAE folders of
Hugging Face. What a file is, its content says; nothing in it is run.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.encoder import Encoder
from sigma_pipeline.model.huggingface import CONFIG_FILE, WEIGHTS_FILE, read_huggingface
from sigma_pipeline.model.official import read_official
from sigma_pipeline.model.state_settings import differences, encoder_config, shown_settings
from sigma_pipeline.model.weights import (
    CLASSIFIER_PREFIX,
    ENCODER_PREFIX,
    build_encoder,
    checked_state,
    shared_settings,
)

COMMIT_FILE = "commit.json"
_SETTINGS_KEY = "sigma_pipeline.model"
_CLASSES_KEY = "sigma_pipeline.classes"
_NORM = f"{ENCODER_PREFIX}norm"
_CLASSIFIER = ("fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias")
_ONLY_FOR_PRE_TRAINING = ("decoder.", "encoder_to_decoder.", "head.", "mask_token", "prototypes")
_ENCODER_SETTINGS = ("tubelet_frames", "patch_size_px", "encoder")
_CLIP_SETTINGS = ("num_frames", "frame_size_px")


@dataclass(frozen=True)
class Checkpoint:
    """What was found in a file."""

    state: dict[str, Tensor]
    """Under our names: a whole model, or an encoder with or without a classifier."""
    shown: dict[str, Any]
    """The settings that it shows, nested as in a recipe."""
    clip: dict[str, Any]
    """``num_frames`` and ``frame_size_px``, if it says them."""
    has_own_norm: bool
    """False: made without a final norm of the encoder, as classifiers are; one that changes
    nothing but mean and deviation stands in for it."""

    @property
    def kind(self) -> str:
        """What it is, in words."""
        if any(name.startswith(CLASSIFIER_PREFIX) for name in self.state):
            return "fine-tuned classifier"
        return "pre-trained model" if "mask_token" in self.state else "encoder"

    def differences(self, config: ModelConfig) -> list[str]:
        """Where a recipe's model is not that of the file; empty when the weights fit it."""
        return differences(config, self.state, self.shown)


def read_checkpoint(path: Path) -> Checkpoint:
    """The weights in a file or folder, on the CPU.

    Raises:
        ValueError: it is no checkpoint of a video encoder, is damaged, or asks for more than
            tensors; one sentence says which.
        OSError: it is not there, or cannot be read.
    """
    theirs, recorded = _read(path)
    state = _our_names(checked_state(theirs))
    shown = shown_settings(state)
    for part in ("encoder", "decoder"):
        heads = _table(recorded.get(part)).get("num_heads")
        if part in shown and heads is not None:
            shown[part]["num_heads"] = heads
    clip = {name: recorded[name] for name in _CLIP_SETTINGS if name in recorded}
    return Checkpoint(_with_norm(state), shown, clip, has_own_norm=f"{_NORM}.weight" in state)


def load_encoder(path: str | Path, config: ModelConfig | None = None) -> Encoder:
    """The encoder in a file or folder, in evaluation mode, on the CPU.

    Args:
        path: anything that ``read_checkpoint`` reads.
        config: of the model. What this project wrote, and Hugging Face folders, bring theirs; of
            other files the shapes decide, and clips are taken to have 16 frames of 224 px.

    Raises:
        ValueError: it is no such checkpoint, or not one of ``config``; all differences are named.
        OSError: it is not there, or cannot be read.
    """
    checkpoint = read_checkpoint(Path(path))
    shown = {name: checkpoint.shown[name] for name in _ENCODER_SETTINGS}
    if config is None:
        config = encoder_config(shown | checkpoint.clip)
    encoder = {name: t for name, t in checkpoint.state.items() if name.startswith(ENCODER_PREFIX)}
    if problems := differences(config, encoder, shown):
        raise ValueError(f"{path} does not fit the model: {'; '.join(problems)}")
    return build_encoder(config, encoder)


def untrained_encoder(config: ModelConfig, *, seed: int = 0) -> Encoder:
    """An encoder as it is drawn, in evaluation mode, on the CPU; a pure function of its arguments.

    The global random state is neither read nor changed.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        return Encoder(config).eval()


def write_safetensors(
    path: Path, state: Mapping[str, Tensor], config: ModelConfig, classes: Sequence[str] = ()
) -> None:
    """Writes weights with their model's settings, which ``read_checkpoint`` finds again.

    The file of a classifier says what its ``classes`` are.
    """
    safetensors.torch.save_file(_plain(state), path, _metadata(config, classes))


def safetensors_file(
    state: Mapping[str, Tensor], config: ModelConfig, classes: Sequence[str] = ()
) -> bytes:
    """What ``write_safetensors`` writes."""
    return safetensors.torch.save(_plain(state), _metadata(config, classes))


def read_classifier(path: Path) -> tuple[dict[str, Tensor], ModelConfig, tuple[str, ...]]:
    """Weights, settings of the model, and names of the classes in a classifier's file.

    Raises:
        ValueError: it is no whole file, or does not say what model it is of.
    """
    state, settings = _read_safetensors(path)
    with safetensors.safe_open(path, framework="pt") as file:
        classes = (file.metadata() or {}).get(_CLASSES_KEY, "[]")
    return state, ModelConfig.model_validate(settings), tuple(json.loads(classes))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What stands in a file or folder, and settings written beside it, if any."""
    # The weights of a commit or a Hugging Face folder, named without the folder.
    if path.name == WEIGHTS_FILE and any(
        path.with_name(name).exists() for name in (CONFIG_FILE, COMMIT_FILE)
    ):
        path = path.parent
    if not path.is_dir():
        return _read_safetensors(path) if _is_safetensors(path) else read_official(path)
    if (path / CONFIG_FILE).exists():
        return read_huggingface(path)
    if (path / COMMIT_FILE).exists():
        state, _ = _read_safetensors(path / WEIGHTS_FILE)
        commit = (path / COMMIT_FILE).read_text(encoding="utf-8")
        return state, _table(_json(commit, COMMIT_FILE).get("model"))
    raise ValueError(f"the folder has neither {CONFIG_FILE} nor {COMMIT_FILE}")


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def _metadata(config: ModelConfig, classes: Sequence[str]) -> dict[str, str]:
    metadata = {"format": "pt", _SETTINGS_KEY: json.dumps(shared_settings(config))}
    return metadata | ({_CLASSES_KEY: json.dumps(list(classes))} if classes else {})


def _is_safetensors(path: Path) -> bool:
    """Whether it begins as such a file does: eight bytes of length, then a table in JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
            settings = (file.metadata() or {}).get(_SETTINGS_KEY, "{}")
    except safetensors.SafetensorError as error:
        raise ValueError(f"it is no whole safetensors file: {error}") from error
    return state, _json(settings, _SETTINGS_KEY)


def _json(text: str, name: str) -> dict[str, Any]:
    try:
        return _table(json.loads(text))
    except ValueError as error:
        raise ValueError(f"its {name} is not JSON: {error}") from error


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _our_names(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of a whole model; those of a bare encoder or a classifier get their prefix.

    What is left of a model whose ``encoder.`` was cut off has a projection network under
    ``head.*``: that is no classifier, and falls away.
    """
    if any(name.startswith(ENCODER_PREFIX) for name in theirs):
        return dict(theirs)
    has_classifier = all(name in theirs for name in _CLASSIFIER)
    ours = {}
    for name, tensor in theirs.items():
        if has_classifier and name in _CLASSIFIER:
            ours[f"{CLASSIFIER_PREFIX}{name}"] = tensor
        elif not name.startswith(_ONLY_FOR_PRE_TRAINING):
            ours[f"{ENCODER_PREFIX}{name}"] = tensor
    return ours


def _with_norm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    if f"{_NORM}.weight" in state:
        return state
    weight = state[f"{ENCODER_PREFIX}patch_embed.proj.weight"]
    bias = weight.new_zeros(len(weight))
    return state | {f"{_NORM}.weight": torch.ones_like(bias), f"{_NORM}.bias": bias}
