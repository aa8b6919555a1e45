"""Scoring one cell: scores, the outcome of each sample, and what there is to look at, to the store.

Everything goes to names that carry the attempt; the cell's own JSON file, put last and by one
attempt alone, names what counts.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sigma_pipeline.data_prep.annotations import object_categories
from sigma_pipeline.data_prep.catalogues.subsets import draw_examples
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.rows import table_bytes
from sigma_pipeline.infra.errors import PipelineError, StageError
from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.infra.storage import Storage, check_key, write_json_if_absent
from sigma_pipeline.jobs.benchmarks.benchmark import (
    Benchmark,
    EncoderBenchmark,
    FeatureBenchmark,
    FeatureSet,
    Needs,
    ObjectMasks,
    Result,
    Subject,
)
from sigma_pipeline.jobs.benchmarks.gang import Gang, OwnProcess
from sigma_pipeline.jobs.benchmarks.sequences import sequence_names
from sigma_pipeline.jobs.benchmarks.table import build_benchmark
from sigma_pipeline.jobs.cells import Cell, CellRecord
from sigma_pipeline.jobs.decoded import ClipShape, DecodedView
from sigma_pipeline.jobs.encoders import load_encoder
from sigma_pipeline.jobs.feature_request import FeatureRequest
from sigma_pipeline.jobs.features import ready_features
from sigma_pipeline.jobs.figures import draw_figures

log = logging.getLogger(__name__)

FIGURES = "figures"
"""Folder of the pictures, among the files of a cell."""


@dataclass(frozen=True, kw_only=True)
class CellRequest:
    """One cell, and all that scoring it takes."""

    cell: Cell
    features: tuple[FeatureRequest, ...]
    """Of each of the trial's ``refs``; none where the benchmark works with the encoder itself."""
    batch_clips: int
    """Of the encoder."""
    gpus: float
    """That the task holds."""
    draws_figures: bool
    notes: tuple[str, ...]
    """On its scores, known before."""
    scratch_dir: str
    """Folder on the node's own disk."""
    work_dir: str
    """Folder that all nodes share."""


def run_cell(storage: Storage, request: CellRequest, gang: Gang | None = None) -> None:
    """Scores one cell and stores what came out; nothing if that is there.

    Features that are missing are extracted first.

    Args:
        storage: where the run lies.
        request: which cell.
        gang: processes for a benchmark that trains; this one alone when absent.

    Raises:
        ValueError: the data cannot carry the benchmark.
        StageError: a sample or a feature cannot be read, or a file of the result has a bad name.
    """
    cell = request.cell
    if storage.exists(cell.key):
        return
    start_s = time.monotonic()
    benchmark = build_benchmark(cell.trial.benchmark, cell.trial.settings)
    result = _result(storage, request, benchmark, gang or OwnProcess())
    files, notes = _files(storage, request, result)
    attempt = new_attempt()
    record = CellRecord(
        fingerprint=cell.fingerprint,
        encoder=cell.source.name,
        step=cell.source.step,
        weights_sha256=cell.source.weights_sha256,
        trial=cell.trial,
        seed=cell.seed,
        scores=result.scores,
        notes=(*request.notes, *result.notes, *notes),
        cost=benchmark.cost,
        seconds=round(time.monotonic() - start_s, 3),
        gpus=request.gpus,
        outcomes=f"{cell.stem}.{attempt}.outcomes.parquet",
        files=tuple(f"{cell.folder(attempt)}/{path}" for path in files),
        attempt=attempt,
    )
    for key, data in zip(record.files, files.values(), strict=True):
        storage.write(key, data)
    storage.write(record.outcomes, _parquet(result.outcomes))
    is_first = write_json_if_absent(storage, cell.key, record.to_plain())
    _remove(storage, _useless(storage, cell, record) if is_first else _own(record))


def _result(storage: Storage, request: CellRequest, benchmark: Benchmark, gang: Gang) -> Result:
    seed = request.cell.seed
    if isinstance(benchmark, EncoderBenchmark):
        return benchmark.scores_of(_subject(storage, request, gang), seed)
    assert isinstance(benchmark, FeatureBenchmark)
    train, test = _features(storage, request, benchmark.needs)
    positions = None if train is None else _learned(request, train.labels)
    if train is not None and positions is not None:
        train = train.part(np.isin(np.arange(train.num_samples), positions))
    return benchmark.scores(train, test, seed)


def _learned(request: CellRequest, labels: npt.NDArray[np.int64]) -> tuple[int, ...] | None:
    """Which samples of the training split are learned from; None: all of them."""
    cell = request.cell
    if cell.trial.examples is None:
        return None
    return tuple(draw_examples(labels.tolist(), cell.trial.examples, cell.seed))


def _features(
    storage: Storage, request: CellRequest, needs: Needs
) -> tuple[FeatureSet | None, FeatureSet]:
    """Of the training split, if the benchmark reads that, and of the test split."""
    *train, test = request.features
    layer = needs.layer if needs.tokens else None
    of_test = ready_features(storage, test, request.scratch_dir, layer=layer)
    if needs.masks:
        of_test = _with_masks(storage, of_test, test, request.scratch_dir)
    if not train:
        return None, of_test
    if train[0].key == test.key:
        return of_test, of_test
    return ready_features(storage, train[0], request.scratch_dir), of_test


def _subject(storage: Storage, request: CellRequest, gang: Gang) -> Subject:
    cell, trial = request.cell, request.cell.trial
    train, test = _indexes(storage, request)
    positions = None if train is None else _learned(request, train.labels)
    if train is not None and positions is not None:
        train = train.part(positions)
    return Subject(
        encoder=load_encoder(storage, request.cell.source),
        storage=storage,
        train=train,
        test=test,
        view=trial.view,
        pooling=trial.pooling,
        precision=trial.precision,
        batch_clips=request.batch_clips,
        scratch_dir=Path(request.scratch_dir),
        work_dir=Path(request.work_dir),
        source=cell.source,
        train_positions=positions,
        gang=gang,
        training_name=f"{cell.stem}.training".removeprefix("runs/"),
    )


def _indexes(storage: Storage, request: CellRequest) -> tuple[Index | None, Index]:
    """Of the training split, if the benchmark reads that, and of the test split."""
    *train, test = (
        Index.load(storage, ref, Path(request.scratch_dir)) for ref in request.cell.trial.refs
    )
    return (train[0] if train else None), test


def _files(
    storage: Storage, request: CellRequest, result: Result
) -> tuple[dict[str, bytes], list[str]]:
    """What is kept beside the scores by relative path, pictures among it; and remarks on those.

    Raises:
        StageError: a path leads elsewhere.
    """
    drawn, notes = _figures(storage, request, result) if request.draws_figures else ({}, [])
    files = {**result.files, **{f"{FIGURES}/{name}": data for name, data in drawn.items()}}
    for path in files:
        try:
            check_key(path)
        except ValueError as error:
            raise StageError(
                f"{request.cell}: the benchmark keeps a file as {path!r}, which is no relative "
                "path of plain names"
            ) from error
    return files, notes


def _figures(
    storage: Storage, request: CellRequest, result: Result
) -> tuple[dict[str, bytes], list[str]]:
    """Pictures by name, and why there are none."""
    if not result.figures:
        return {}, []
    shape = ClipShape.of(request.cell.trial.view, request.cell.source.model_config)
    try:
        return draw_figures(storage, result.figures, *_indexes(storage, request), shape), []
    except Exception as error:  # hours of scoring may lie behind what only cannot be shown
        log.warning("%s: no figures", request.cell, exc_info=True)
        reason = str(error) if isinstance(error, PipelineError) else repr(error)
        return {}, [f"no figures: {reason}"]


def _own(record: CellRecord) -> list[str]:
    """Files of an attempt that another was faster than: the record names that one's."""
    return [record.outcomes, *record.files]


def _useless(storage: Storage, cell: Cell, record: CellRecord) -> list[str]:
    """What attempts at this cell left that were killed, or will find that they are late."""
    kept = {cell.key, cell.failure_key, *_own(record)}
    return [
        key
        for key in storage.list(cell.stem.rpartition("/")[0])
        if key.startswith(f"{cell.stem}.") and key not in kept
    ]


def _remove(storage: Storage, keys: Sequence[str]) -> None:
    for key in keys:
        storage.delete(key)


def _with_masks(
    storage: Storage, test: FeatureSet, request: FeatureRequest, scratch_dir: str
) -> FeatureSet:
    index = Index.load(storage, request.ref)
    view = DecodedView(storage, index, request.clip_shape, scratch_dir)
    masks = ObjectMasks(
        ids=view.masks(),
        frames=view.frames(),
        categories=[object_categories(row.annotation) for row in index.rows],
        names=sequence_names(index.rows),
    )
    return replace(test, masks=masks)


def _parquet(columns: Mapping[str, Sequence[Any]]) -> bytes:
    return table_bytes(pa.table({name: list(values) for name, values in columns.items()}))
