"""Protocols that score a frozen encoder: pure functions of features, labels and masks."""
