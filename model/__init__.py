"""SIGMA, the network and its objective, in plain PyTorch."""
