"""Classifiers that benchmarks have fine-tuned, found by their cells, as files for others."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sigma_pipeline.infra.errors import ConfigError, MissingInputError, StageError
from sigma_pipeline.infra.storage import Storage, read_json
from sigma_pipeline.jobs.checkpoint_export import Weights, export_weights
from sigma_pipeline.jobs.evaluate_request import evaluate_folder
from sigma_pipeline.model.checkpoint_files import read_classifier

FILE = "fine_tuned/model.safetensors"
"""Name of the trained weights among the files of a cell."""


class FineTunedCell(NamedTuple):
    """A cell that has kept what it trained."""

    key: str
    """Of its scores."""
    step: int
    """Of the commit that it began with."""
    dataset: str
    file: str
    """Key of the weights."""
    epochs: int


def find_fine_tuned(
    storage: Storage, run_name: str, wanted: str, step: int | None = None
) -> FineTunedCell:
    """The one cell that is meant.

    Args:
        storage: where the run lies.
        run_name: the run.
        wanted: a dataset, or the key of the cell.
        step: of the commit; the last one with such a cell where absent.

    Raises:
        MissingInputError: there is none.
        ConfigError: there are several, of other seeds or settings; they are named.
    """
    cells = [cell for cell in _kept(storage, run_name) if wanted in {cell.dataset, cell.key}]
    if step is not None:
        cells = [cell for cell in cells if cell.step == step]
    cells = [cell for cell in cells if cell.step == max(each.step for each in cells)]
    if not cells:
        raise MissingInputError(
            f"run {run_name!r} has kept no classifier fine-tuned on {wanted!r}; make one with a "
            "cell {benchmark: finetune} in evaluate.cells and: sigma-pipeline run --stage evaluate"
        )
    if len(cells) > 1:
        raise ConfigError(
            f"run {run_name!r} has {len(cells)} classifiers fine-tuned on {wanted!r} from step "
            f"{cells[0].step}; set --fine-tuned to one of {', '.join(cell.key for cell in cells)}"
        )
    return cells[0]


def export_fine_tuned(storage: Storage, cell: FineTunedCell, layout: str, out: Path) -> None:
    """Writes a classifier as ``export_weights`` writes a commit.

    Raises:
        ConfigError: ``out`` is there, or cannot be written.
        StageError: the file is damaged.
    """
    export_weights(lambda: _weights(storage, cell), layout, out)


def _kept(storage: Storage, run_name: str) -> Iterator[FineTunedCell]:
    keys = set(storage.list(evaluate_folder(run_name)))
    for key in sorted(key for key in keys if key.endswith(f"/{FILE}")):
        stem = key.removesuffix(f"/{FILE}").rpartition(".")[0]
        if f"{stem}.json" not in keys:  # of an attempt that has not ended, or was killed
            continue
        cell = read_json(storage, f"{stem}.json")
        if key in cell["files"]:
            trial = cell["trial"]
            yield FineTunedCell(
                f"{stem}.json",
                cell["step"],
                trial["test"]["name"],
                key,
                trial["settings"]["epochs"],
            )


def _weights(storage: Storage, cell: FineTunedCell) -> Weights:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        storage.download(cell.file, path)
        try:
            state, model, classes = read_classifier(path)
        except ValueError as error:
            raise StageError(f"{storage.uri(cell.file)} is damaged: {error}") from error
    return Weights(state, model, cell.epochs - 1, classes)
