"""Scoring one cell: features in, scores and the outcome of each sample to the store."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.rows import table_bytes
from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.infra.storage import Storage, write_json_if_absent
from sigma_pipeline.jobs.benchmarks.benchmark import FeatureSet, Result
from sigma_pipeline.jobs.benchmarks.table import build_benchmark
from sigma_pipeline.jobs.cells import Cell, CellRecord
from sigma_pipeline.jobs.decoded import DecodedView
from sigma_pipeline.jobs.features import FeatureRequest, extract_features, load_features

log = logging.getLogger(__name__)


def run_cell(
    storage: Storage, cell: Cell, features: Sequence[FeatureRequest], scratch_dir: str
) -> None:
    """Scores one cell and stores what came out; nothing if that is there.

    Args:
        storage: holds the features, and takes the scores.
        cell: what to score.
        features: of each of the trial's ``refs``; any that is missing is extracted first.
        scratch_dir: folder on the node's own disk.
    """
    if storage.exists(cell.key):
        return
    start_s = time.monotonic()
    for request in features:
        extract_features(storage, request, scratch_dir)
    result = _result(storage, cell, features, scratch_dir)
    attempt = new_attempt()
    record = CellRecord(
        fingerprint=cell.fingerprint,
        encoder=cell.source.name,
        step=cell.source.step,
        weights_sha256=cell.source.weights_sha256,
        trial=cell.trial,
        seed=cell.seed,
        scores=result.scores,
        notes=result.notes,
        seconds=round(time.monotonic() - start_s, 3),
        outcomes=f"{cell.stem}.{attempt}.outcomes.parquet",
        attempt=attempt,
    )
    storage.write(record.outcomes, _parquet(result.outcomes))
    if not write_json_if_absent(storage, cell.key, record.to_plain()):
        storage.delete(record.outcomes)  # another attempt was first, and named its own outcomes


def _result(
    storage: Storage, cell: Cell, features: Sequence[FeatureRequest], scratch_dir: str
) -> Result:
    benchmark = build_benchmark(cell.trial.benchmark, cell.trial.settings)
    loaded = {key: load_features(storage, key) for key in {request.key for request in features}}
    *train, test = (loaded[request.key] for request in features)
    if benchmark.needs.masks:
        test = _with_masks(storage, test, features[-1], scratch_dir)
    return benchmark.scores(train[0] if train else None, test, cell.seed)


def _with_masks(
    storage: Storage, test: FeatureSet, request: FeatureRequest, scratch_dir: str
) -> FeatureSet:
    index = Index.load(storage, request.ref)
    view = DecodedView(storage, index, request.clip_shape, scratch_dir)
    return replace(test, masks=view.masks())


def _parquet(columns: Mapping[str, Sequence[Any]]) -> bytes:
    return table_bytes(pa.table({name: list(values) for name, values in columns.items()}))
