"""Self-supervised video pre-training with SIGMA, from raw videos to benchmark scores."""
