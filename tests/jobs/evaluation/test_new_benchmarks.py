"""A file among the benchmarks is one: those of docs/adding_a_benchmark.md, to the letter."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmark_list import benchmark_list
from sigma_pipeline.jobs.benchmarks.benchmark import EncoderBenchmark, FeatureBenchmark
from sigma_pipeline.jobs.benchmarks.table import all_benchmarks, build_benchmark
from sigma_pipeline.jobs.cells import CellRecord
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.scoring import run_cell

PAGE = Path(__file__).parents[3] / "docs" / "adding_a_benchmark.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)

AddCommit = Callable[..., Commit]
MakeRequest = Callable[..., EvaluateRequest]
AddBenchmark = Callable[[str, str], None]
Score = Callable[..., CellRecord]


@pytest.fixture
def score(storage: Storage, make_request: MakeRequest, add_commit: AddCommit) -> Score:
    """The record of the only cell of a recipe with this benchmark."""

    def run(name: str) -> CellRecord:
        grid = plan_grid(storage, make_request({"benchmark": name}))
        (planned,) = grid.trials
        (cell,) = planned.cells("r1", committed_encoder(add_commit(0)))
        run_cell(storage, grid.cell_request(planned, cell))
        record = CellRecord.read(storage, cell)
        assert record is not None
        return record

    return run


def test_the_features_example_is_a_benchmark_once_its_file_is_there(
    storage: Storage, add_benchmark: AddBenchmark, score: Score
) -> None:
    with pytest.raises(ConfigError, match=r"no benchmark 'nearest_mean', only counting, davis, "):
        build_benchmark("nearest_mean", {})
    add_benchmark("nearest_mean", EXAMPLES[0])

    record = score("nearest_mean")

    assert record.scores[0].value > 0.6
    assert record.trial.settings == {"metric": "cosine"}
    outcomes = pq.read_table(io.BytesIO(storage.read(record.outcomes)))
    assert outcomes["key"].to_pylist() == [f"val-{i}" for i in range(12)]
    refs = {("squares", split): DatasetRef("squares", split, "v1") for split in ("train", "val")}
    (listed,) = (one for one in benchmark_list(storage, refs) if one.name == "nearest_mean")
    assert listed.needs == ("training split", "labels")
    assert [state.state for state in listed.splits] == ["ready", "ready"]


def test_the_encoder_example_reads_no_features_and_keeps_its_file(
    storage: Storage, add_benchmark: AddBenchmark, score: Score
) -> None:
    add_benchmark("anything", EXAMPLES[1])

    record = score("time_reversal")

    assert 0 < record.scores[0].value < 1
    assert storage.list("runs/r1/features") == []
    (key,) = record.files
    assert key.endswith(f".{record.attempt}/per_clip/cosines.csv")
    assert storage.read(key).startswith(b"val-0,0.")


def test_a_file_without_a_benchmark_is_no_benchmark(add_benchmark: AddBenchmark) -> None:
    before = set(all_benchmarks())
    add_benchmark("more", "SOMETHING = 1\n")

    assert set(all_benchmarks()) == before


@pytest.mark.parametrize("name", sorted(all_benchmarks()))
def test_every_benchmark_is_what_it_says_it_needs(name: str) -> None:
    benchmark = build_benchmark(name, {})

    assert isinstance(benchmark, EncoderBenchmark) == benchmark.needs.encoder
    assert isinstance(benchmark, FeatureBenchmark) != benchmark.needs.encoder
    assert benchmark.summary
    assert benchmark.cost in ("cheap", "dear")
