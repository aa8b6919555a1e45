"""Weights as others publish them, and how two sets of weights are compared."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor


def write_release(path: Path, state: Mapping[str, Tensor]) -> Path:
    """A file with all that the official release keeps beside the weights."""
    moments = {number: {"exp_avg": tensor} for number, tensor in enumerate(state.values())}
    content = {
        "model": dict(state),
        "optimizer": {"state": moments, "param_groups": [{"lr_scale": 1.0}]},
        "epoch": 799,
        "scaler": {"scale": 65536.0},
        "args": Namespace(model="pretrain_videomae_base_patch16_224"),
    }
    torch.save(content, path)
    return path


def classifier(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's weights under the names of a fine-tuned model of five classes."""
    dim = len(state["encoder.norm.bias"])
    encoder = {
        name.removeprefix("encoder."): tensor
        for name, tensor in state.items()
        if name.startswith("encoder.") and not name.startswith("encoder.norm.")
    }
    head = {"head.weight": torch.ones(5, dim), "head.bias": torch.ones(5)}
    return encoder | head | {"fc_norm.weight": torch.ones(dim), "fc_norm.bias": torch.ones(dim)}


def equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Whether names and numbers are the same, bit for bit."""
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )
