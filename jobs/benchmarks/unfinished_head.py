"""A head in training, kept on the node's disk from epoch to epoch: days of work outlive a failure.

A later attempt on the node goes on from the last whole epoch. All draws of an epoch follow from its
number, so the head, AdamW's state and that number are all there is to keep.
"""

import logging
import os
import shutil
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from sigma_pipeline.model.weights import load_weights, restore_weights, save_weights

log = logging.getLogger(__name__)

_FILE = "head.safetensors"
_EPOCHS, _HEAD, _ADAMW = "epochs", "head.", "adamw."


class UnfinishedHead:
    """In a folder whose name stands for everything that the training depends on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, head: nn.Module, optimizer: torch.optim.Optimizer, epochs: int) -> None:
        """Puts the state after ``epochs`` in place of the one before, whole or not at all.

        A disk that takes nothing is said, and ends no training.
        """
        data = save_weights(_state(head, optimizer, epochs))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._folder) as own:
                partial = Path(own, _FILE)
                with partial.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(self._folder / _FILE)
        except OSError as error:
            log.warning("epoch %d is not kept, and would be trained again: %s", epochs, error)

    def restore(self, head: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Brings back what was kept; returns its epochs, 0 if there is nothing whole."""
        path = self._folder / _FILE
        try:
            state = load_weights(path.read_bytes())
        except FileNotFoundError:
            return 0
        except (OSError, ValueError) as error:
            log.warning("%s cannot be read, so training starts anew: %s", path, error)
            return 0
        restore_weights(head, _part(state, _HEAD))
        _restore_adamw(optimizer, _part(state, _ADAMW))
        epochs = int(state[_EPOCHS])
        log.info("goes on after epoch %d, from %s", epochs, path)
        return epochs

    def remove(self) -> None:
        """Takes everything away; nothing if there is nothing."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _state(head: nn.Module, optimizer: torch.optim.Optimizer, epochs: int) -> dict[str, Tensor]:
    state = {f"{_HEAD}{name}": tensor for name, tensor in head.state_dict().items()}
    for number, tensors in optimizer.state_dict()["state"].items():
        state |= {f"{_ADAMW}{number}.{name}": tensor for name, tensor in tensors.items()}
    return state | {_EPOCHS: torch.tensor(epochs)}


def _restore_adamw(optimizer: torch.optim.Optimizer, state: dict[str, Tensor]) -> None:
    by_parameter: dict[int, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        number, _, name = key.partition(".")
        by_parameter.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": by_parameter})


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }
