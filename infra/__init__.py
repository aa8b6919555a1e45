"""Doors to the outside: object storage, MLflow, logging, errors."""
