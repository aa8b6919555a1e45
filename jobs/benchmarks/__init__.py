"""Protocols that score an encoder."""
