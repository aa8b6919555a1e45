"""Compares a model whose blocks are compiled with one that is not; run as a program.

A program of its own, because what checks the shapes of tests would be compiled along.
"""

import torch

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.masking import tube_masks
from sigma_pipeline.model.sigma import build_sigma

SETTINGS = {
    "num_frames": 2,
    "frame_size_px": 32,
    "patch_size_px": 8,
    "mask_ratio": 0.75,
    "encoder": {"embed_dim": 48, "depth": 1, "num_heads": 3},
    "decoder": {"embed_dim": 48, "depth": 1, "num_heads": 3},
    "target": {"hidden_dims": (64,), "dim": 16},
    "prototypes": 24,
    "assignment": "soft",
}


def main() -> None:
    torch.set_num_threads(1)
    plain = ModelConfig.model_validate(SETTINGS)
    compiled = ModelConfig.model_validate(SETTINGS | {"execution": {"compile": True}})
    clip = torch.randint(0, 256, (2, 3, 2, 32, 32), dtype=torch.uint8)
    models = [build_sigma(config, seed=0) for config in (plain, compiled)]
    losses = [model(clip, tube_masks(plain, range(2))).loss for model in models]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=0)
    for loss in losses:
        loss.backward()
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-5)


if __name__ == "__main__":
    main()
