"""Commits that somebody deleted while they were evaluated: tables still say so."""

from collections.abc import Collection
from dataclasses import asdict

from sigma_pipeline.infra.storage import Storage, read_json, write_json
from sigma_pipeline.jobs.encoders import EncoderSource
from sigma_pipeline.jobs.evaluate_request import evaluate_folder


def note_if_gone(storage: Storage, run_name: str, source: EncoderSource) -> None:
    """Keeps which encoder it was whose weights are no longer there; nothing while they are."""
    if not storage.exists(source.weights_key):
        write_json(storage, f"{_folder(run_name)}/{source.name}.json", asdict(source))


def gone_encoders(
    storage: Storage, run_name: str, known: Collection[str]
) -> tuple[EncoderSource, ...]:
    """Those whose commits vanished, by step.

    Args:
        storage: where the run lies.
        run_name: the run.
        known: names of encoders that are there, whatever was once said of them.
    """
    found = (EncoderSource(**read_json(storage, key)) for key in storage.list(_folder(run_name)))
    return tuple(source for source in found if source.name not in known)


def _folder(run_name: str) -> str:
    return f"{evaluate_folder(run_name)}/gone"
