"""Files of the official release (protocols 9): read without running what is in them, and written.

Such a file is a pickle. PyTorch's restricted reader rebuilds tensors and plain containers from it
and refuses every name that is not on its list. One is added: ``argparse.Namespace``, in which the
release keeps its command line. It is inert: the reader makes an empty one and fills in attributes,
which runs no code of the file's, and nothing here looks at it. The list itself is PyTorch's; it is
safe since 2.6, and this project asks for a later one.
"""

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.weights import CLASSIFIER_PREFIX, encoder_weights, shared_settings

SETTINGS_KEY = "sigma_pipeline"
"""What this project adds to the top level, so that a file of its own says how many heads there
are, and how long and large the clips were. The official code does not look at it."""
_STATE_KEYS = ("model", "module")
_FAULTS = (
    pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, TypeError, LookupError,
    AttributeError, AssertionError, OverflowError, MemoryError, UnicodeError,
)  # fmt: skip
_REFUSED_NAME = re.compile(r"nsupported .*GLOBAL (\w+(?:\.\w+)*)")


def read_official(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The state in an official file, and its model's settings if this project wrote it.

    Optimizer, scaler and command line are left where they are: the file is mapped, not read.

    Raises:
        ValueError: it asks for more than tensors, is damaged, or holds no state.
    """
    # Only the newer of PyTorch's two formats is a zip, and only that one can be mapped.
    is_zip = zipfile.is_zipfile(path)
    try:
        # It warns of newer pickles, which it reads or refuses as it does others.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except _FAULTS as error:
        raise ValueError(_explained(error)) from error
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a table of tensors")
    state = next((content[key] for key in _STATE_KEYS if key in content), content)
    if not isinstance(state, dict) or not state:
        raise ValueError("there is no state dict in it, neither at the top nor as 'model'")
    settings = content.get(SETTINGS_KEY)
    recorded = settings.get("model") if isinstance(settings, dict) else None
    return state, recorded if isinstance(recorded, dict) else {}


def write_official(
    path: Path, state: Mapping[str, Tensor], config: ModelConfig, epoch: int
) -> None:
    """Writes weights as the official code reads them, and can be loaded with no exception made.

    A state with a classifier becomes a fine-tuned file, any other one a pre-training file.

    Args:
        path: of the new file.
        state: all weights of a commit.
        config: of its model.
        epoch: number of the last finished epoch, counted from 0.
    """
    has_classifier = any(name.startswith(CLASSIFIER_PREFIX) for name in state)
    model = _fine_tuned(state) if has_classifier else dict(state)
    settings = {"model": shared_settings(config)}
    # Copies: what shares memory with a larger tensor would bring all of that into the file.
    whole = {name: tensor.detach().cpu().clone() for name, tensor in model.items()}
    torch.save({"model": whole, "epoch": epoch, SETTINGS_KEY: settings}, path)


def _fine_tuned(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of the official classifier, which has no final norm of the encoder."""
    encoder = {
        name: tensor
        for name, tensor in encoder_weights(state).items()
        if not name.startswith("norm.")
    }
    classifier = {
        name.removeprefix(CLASSIFIER_PREFIX): tensor
        for name, tensor in state.items()
        if name.startswith(CLASSIFIER_PREFIX)
    }
    return encoder | classifier


def _explained(error: Exception) -> str:
    if found := _REFUSED_NAME.search(str(error)):
        return (
            f"it asks for {found[1]}, which no table of tensors needs, and was not loaded; it may "
            "be malicious: take the file from its original source"
        )
    # PyTorch's advice to load the file unsafely stands before the reason.
    reason = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
    return f"it is no whole PyTorch file ({type(error).__name__}: {reason})"
