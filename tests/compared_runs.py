"""Runs as a comparison reads them: commits, the trials asked for, and what cells have left.

No network is behind them: outcomes are whatever a test says.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.rows import table_bytes
from sigma_pipeline.infra.storage import Storage, write_json
from sigma_pipeline.jobs.backlog import TaskLimits
from sigma_pipeline.jobs.benchmarks.benchmark import Score
from sigma_pipeline.jobs.best_by import BestBy
from sigma_pipeline.jobs.cells import Cell, CellRecord, Trial
from sigma_pipeline.jobs.commits import Commit, list_commits, put_commit
from sigma_pipeline.jobs.compare import compare
from sigma_pipeline.jobs.compare_result import Comparison, Question
from sigma_pipeline.jobs.compare_sides import find_relation, find_side
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.planned_trials import PlannedTrial, record_grid

Columns = Mapping[str, Sequence[Any]]
CLASSES = ("left", "right", "round")


def one_recipe(run_name: str) -> str:
    """As far as recipes go, all runs whose names begin alike are one."""
    return run_name.partition("_")[0]


def compare_runs(storage: Storage, a: str, b: str, *by: str, margin: float = 0.0) -> Comparison:
    """Two sides of the store, by what people type."""
    sides = [find_side(storage, text, one_recipe) for text in (a, b)]
    relation = find_relation(*sides, one_recipe)
    scores = tuple(map(BestBy.parse, by))
    question = Question(a=sides[0], b=sides[1], relation=relation, by=scores, margin=margin)
    return compare(storage, question)


def add_commit(
    storage: Storage, run_name: str, step: int, *, config_fingerprint: str = "0"
) -> Commit:
    """A commit whose weights nobody reads."""
    commit = Commit(
        run_name=run_name,
        step=step,
        attempt="a",
        epoch=0,
        batch=step,
        global_batch_clips=8,
        world_size=1,
        config_fingerprint=config_fingerprint,
        datasets=(),
        model={"num_frames": 4, "frame_size_px": 32, "patch_size_px": 8},
        weights_sha256=f"{run_name}-{step}",
        canary_loss=1.0,
    )
    put_commit(storage, commit)
    return commit


def planned(
    benchmark: str = "knn", *, seeds: Sequence[int] = (0,), column: Any = None, **settings: Any
) -> PlannedTrial:
    """A trial on the validation split of ``demo``."""
    trial = Trial(
        benchmark=benchmark,
        version=1,
        settings=settings,
        train=None,
        test=DatasetRef("demo", "val", "v1"),
        view=ViewConfig(),
        clips_version=1,
        features_version=1,
        pooling="mean",
        precision="fp32",
    )
    limits = TaskLimits(cpus=1, gpus=0)
    return PlannedTrial(
        trial, benchmark, "cheap", None, None, tuple(seeds), limits, None, column=column
    )


def ask_for(storage: Storage, run_name: str, *trials: PlannedTrial) -> None:
    """Makes these the trials of the last evaluation of a run."""
    record_grid(storage, run_name, trials)
    write_json(storage, DatasetRef("demo", "val", "v1").manifest_key, {"classes": CLASSES})


def finish(
    storage: Storage,
    commit: Commit,
    one: PlannedTrial,
    columns: Columns,
    scores: Mapping[str, float],
    *,
    seed: int = 0,
    higher_is_better: bool = True,
) -> Cell:
    """Finishes a cell with these outcomes and scores."""
    source = committed_encoder(commit)
    cell = Cell(commit.run_name, source, one.trial, seed)
    count = len(columns["key"])
    record = CellRecord(
        fingerprint=cell.fingerprint,
        encoder=source.name,
        step=source.step,
        weights_sha256=source.weights_sha256,
        trial=cell.trial,
        seed=seed,
        scores=tuple(
            Score(name, value, "fraction", higher_is_better, value, value, count)
            for name, value in scores.items()
        ),
        notes=(),
        cost="cheap",
        seconds=1.0,
        gpus=0.0,
        outcomes=f"{cell.stem}.a.outcomes.parquet",
        files=(),
        attempt="a",
    )
    storage.write(record.outcomes, table_bytes(pa.table(dict(columns))))
    write_json(storage, cell.key, record.to_plain())
    return cell


def classified(is_right: Sequence[bool] | np.ndarray[Any, Any]) -> dict[str, list[Any]]:
    """Outcomes of a classification of three classes in turn."""
    labels = [number % 3 for number in range(len(is_right))]
    predictions = [
        label if right else (label + 1) % 3 for label, right in zip(labels, is_right, strict=True)
    ]
    return {
        "key": [f"clip-{number:03d}" for number in range(len(is_right))],
        "label": labels,
        "prediction": predictions,
        "top1": [bool(right) for right in is_right],
    }


def add_run(
    storage: Storage, run_name: str, is_right: Mapping[int, Sequence[bool]], one: PlannedTrial
) -> dict[int, Commit]:
    """A run with a commit at each step of ``is_right``, tried once on ``one``."""
    ask_for(storage, run_name, one)
    commits = {}
    for step, hits in is_right.items():
        commits[step] = add_commit(storage, run_name, step)
        scores = {"top1": float(np.mean(hits))}
        for seed in one.seeds:
            finish(storage, commits[step], one, classified(hits), scores, seed=seed)
    assert [commit.step for commit in list_commits(storage, run_name)] == sorted(is_right)
    return commits
