"""Settings of the smallest model and training that show everything; plain data."""

from typing import Any

TINY_MODEL: dict[str, Any] = {
    "num_frames": 4,
    "frame_size_px": 32,
    "patch_size_px": 8,
    "mask_ratio": 0.75,
    "encoder": {"embed_dim": 32, "depth": 2, "num_heads": 2},
    "decoder": {"embed_dim": 16, "depth": 1, "num_heads": 2},
    "target": {"hidden_dims": (32,), "dim": 16},
    "prototypes": 12,
}
TINY_TRAIN: dict[str, Any] = {
    "dataset": "noise",
    "epochs": 3,
    "global_batch_clips": 8,
    "micro_batch_clips": 4,
    "clip": {"frame_stride": 1},
    "loader": {"workers": 0},
    "optimizer": {"base_lr": 3e-2, "min_lr": 1e-3, "warmup_epochs": 1},
    "precision": "fp32",
    "commit_every_steps": 4,
    "log_every_steps": 1,
}
