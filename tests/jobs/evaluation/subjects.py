"""What a benchmark that trains is given in tests, short of its data."""

from pathlib import Path
from typing import Any

from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmarks.benchmark import Subject
from sigma_pipeline.jobs.benchmarks.gang import OwnProcess
from sigma_pipeline.jobs.encoders import EncoderSource, load_encoder


def trained_subject(
    storage: Storage,
    source: EncoderSource,
    splits: tuple[DatasetRef, DatasetRef],
    folder: Path,
    **fields: Any,
) -> Subject:
    """A subject that trains through an encoder.

    Args:
        storage: has encoder and data.
        source: the encoder.
        splits: to train on, and to test on.
        folder: for its files.
        fields: ``view``, ``training_name``, and others than: features left as they are, float32,
            64 clips at a time, in this process.
    """
    train, test = splits
    usual = {"pooling": None, "precision": "fp32", "batch_clips": 64, "gang": OwnProcess()}
    return Subject(
        encoder=load_encoder(storage, source),
        storage=storage,
        train=Index.load(storage, train),
        test=Index.load(storage, test),
        scratch_dir=folder / "scratch",
        work_dir=folder / "work",
        source=source,
        **(usual | fields),
    )
