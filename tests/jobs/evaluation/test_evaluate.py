"""An evaluation done by Ray: on this machine, and on two nodes of which one dies."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sigma_pipeline.infra.errors import ConfigError, StageError
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs import ray_cluster
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.config import EvaluateLaunchConfig
from sigma_pipeline.jobs.evaluate import open_cluster, run_evaluate
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.evaluation import Evaluation
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.ray_cluster import FoundCluster, OwnCluster, import_ray
from sigma_pipeline.jobs.ray_folder import RayFolder
from sigma_pipeline.jobs.ray_workers import RayWorkers
from sigma_pipeline.jobs.scores import score_table
from tests.jobs.evaluation.in_process import InProcess

EVALUATE = """
import pickle, sys
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.jobs.evaluate import run_evaluate
from sigma_pipeline.pipeline.stop_signals import interruptible
with open(sys.argv[1], "rb") as file:
    request = pickle.load(file)
storage = open_storage(request.root_uri)
with interruptible():
    run_evaluate(request, storage, Journal(storage, request.run_name, "a", "evaluate"))
"""

AddCommit = Callable[..., Commit]
MakeRequest = Callable[..., EvaluateRequest]


def test_ray_is_not_started_when_there_is_nothing_to_do(
    storage: Storage,
    journal: Journal,
    make_request: MakeRequest,
    add_commit: AddCommit,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_commit(0)
    monkeypatch.delattr(ray_cluster, "import_ray")

    skipped = make_request({"benchmark": "uvos", "test_split": "train"})

    assert run_evaluate(skipped, storage, journal) == 0


def test_several_nodes_without_slurm_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"launch.cluster=slurm"):
        open_cluster(EvaluateLaunchConfig(nodes=2))


@pytest.mark.slow
def test_an_evaluation_is_done_by_ray(
    storage: Storage, journal: Journal, make_request: MakeRequest, add_commit: AddCommit
) -> None:
    add_commit(0)
    add_commit(40, nan=True)
    grid = plan_grid(storage, make_request({"benchmark": "knn"}))
    failed = pytest.raises(StageError, match=r"knn on squares, step-00000040, seed 0: .*not finite")

    with RayWorkers(OwnCluster(EvaluateLaunchConfig(cpus=1)), retries=0) as workers, failed:
        Evaluation(storage, journal, grid, workers).run(follow=None)

    assert [row.cells[0].state for row in score_table(storage, "r1")] == ["done", "failed"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_evaluation_that_was_ended_goes_on_where_it_stopped(
    storage: Storage,
    journal: Journal,
    make_request: MakeRequest,
    add_commit: AddCommit,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    add_commit(0)
    request = make_request({"benchmark": "linear", "seeds": tuple(range(6))})
    (tmp_path / "request.pkl").write_bytes(pickle.dumps(request))
    folder = tmp_path / "store" / "runs" / "r1" / "evaluate"
    arguments = [sys.executable, "-P", "-c", EVALUATE, str(tmp_path / "request.pkl")]
    temporary = Path(tempfile.mkdtemp(dir="/tmp"))  # Ray wants it short
    variables = os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen(arguments, env=variables, stderr=subprocess.PIPE, text=True) as process:
        while not cells_of(folder):
            assert process.poll() is None
            time.sleep(0.01)

        process.send_signal(number)

        errors = process.communicate(timeout=60)[1]
    before = cells_of(folder)
    assert 0 < len(before) < 6
    if number == signal.SIGTERM:
        assert "Interrupted: stopped by SIGTERM" in errors
        assert list(temporary.iterdir()) == []
    shutil.rmtree(temporary, ignore_errors=True)
    count = Evaluation(storage, journal, plan_grid(storage, request), InProcess()).run(follow=None)
    ended = cells_of(folder)
    assert len(ended) == 6
    assert 0 < count <= 6 - len(before)  # what a worker was at when its driver died, it did
    assert before.items() <= ended.items()
    for path in ended:
        path.unlink()
    Evaluation(storage, journal, plan_grid(storage, request), InProcess()).run(follow=None)
    assert cells_of(folder) == ended


@pytest.fixture
def two_nodes() -> Iterator[Any]:
    """Somebody's Ray cluster: a head that takes no tasks, and two nodes of one processor each."""
    import_ray()
    from ray.cluster_utils import Cluster

    folders = [RayFolder() for _ in range(3)]
    cluster = Cluster()
    for cpus, folder in zip((0, 1, 1), folders, strict=True):
        cluster.add_node(
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=100 << 20,
            temp_dir=str(folder.path),
        )
    yield cluster
    cluster.shutdown()
    for folder in folders:
        folder.remove()


@pytest.mark.slow
def test_an_evaluation_on_a_cluster_that_is_there_outlives_one_of_its_nodes(
    storage: Storage,
    journal: Journal,
    make_request: MakeRequest,
    add_commit: AddCommit,
    two_nodes: Any,
    tmp_path: Path,
) -> None:
    add_commit(0)
    grid = plan_grid(storage, make_request({"benchmark": "linear", "seeds": tuple(range(4))}))
    assert Evaluation(storage, journal, grid, InProcess()).run(follow=None)
    folder = tmp_path / "store" / "runs" / "r1" / "evaluate"
    alone = cells_of(folder)
    for path in alone:
        path.unlink()
    nodes = list(two_nodes.worker_nodes)

    def loses_a_node() -> bool:
        """Goes on until one node is taken away in the middle."""
        if len(nodes) == 2 and cells_of(folder):
            two_nodes.remove_node(nodes.pop(), allow_graceful=False)
        return len(nodes) == 2

    with RayWorkers(FoundCluster(two_nodes.address), retries=2) as workers:
        count = Evaluation(storage, journal, grid, workers).run(loses_a_node)

    assert len(nodes) == 1
    assert cells_of(folder) == alone
    assert count == 4
    assert two_nodes.head_node.remaining_processes_alive()  # not ours to end


def cells_of(folder: Path) -> dict[Path, Any]:
    """Scores of each cell that is done."""
    paths = folder.glob("step-*/*/*/*.json")
    return {path: json.loads(path.read_text())["scores"] for path in paths}
