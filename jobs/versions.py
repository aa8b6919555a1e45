"""Versions of what scores rest on besides weights, data and benchmark. Without PyTorch."""

CLIPS_VERSION = 3
"""Raised when the same settings would cut other clips."""

FEATURES_VERSION = 3
"""Raised when equal weights and clips would give other features, or be stored in another way."""
