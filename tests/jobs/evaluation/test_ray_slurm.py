"""Several nodes of one job: how they meet, and when they part. Ray and SLURM are stand-ins."""

import sys
import threading
import time
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from sigma_pipeline.infra.errors import BadNodes
from sigma_pipeline.jobs import ray_slurm
from sigma_pipeline.jobs.backlog import TaskLimits
from sigma_pipeline.jobs.config import EvaluateLaunchConfig
from sigma_pipeline.jobs.ray_shortage import shortage
from sigma_pipeline.jobs.ray_slurm import AllocatedCluster, Allocation, lend_node
from sigma_pipeline.jobs.slurm import JobView, SlurmError

LAUNCH = EvaluateLaunchConfig(nodes=2)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Allocation:
    """The second of two nodes, where Ray waits for nothing."""
    monkeypatch.setattr(ray_slurm, "_PAUSE_S", 0.0)
    monkeypatch.setattr(ray_slurm, "_POLL_INTERVAL_S", 0.01)
    monkeypatch.setattr(ray_slurm, "reach", lambda _: None)
    serves_until_ended(monkeypatch, "import time; time.sleep(600)")
    return Allocation("7", 1, ("n1", "n2"), tmp_path / "ray-7-0.json")


@pytest.fixture
def requeued(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Numbers of jobs that were queued again; SLURM has taken n1 out of this one."""
    jobs: list[str] = []
    view = JobView(job_id="7", state="RUNNING", nodes="n2")
    monkeypatch.setattr(ray_slurm, "job_view", lambda _: view)
    monkeypatch.setattr(ray_slurm, "requeue", jobs.append)
    return jobs


def serves_until_ended(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(ray_slurm, "_command", lambda *_: [sys.executable, "-c", code])


def lending(place: Allocation) -> threading.Thread:
    thread = threading.Thread(target=lend_node, args=(LAUNCH, place), daemon=True)
    thread.start()
    return thread


def test_what_the_nodes_tell_each_other_is_for_their_user_alone(place: Allocation) -> None:
    assert place.meeting() is None

    place.meet("10.0.0.1:6001", "secret")

    assert place.meeting() == {"address": "10.0.0.1:6001", "token": "secret"}
    assert place.meeting_file.stat().st_mode & 0o777 == 0o600
    place.meet("", "")
    assert "secret" not in place.meeting_file.read_text()


def test_nodes_that_do_not_join_in_time_are_named(
    place: Allocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = MagicMock()
    ray.get_runtime_context().gcs_address = "10.0.0.1:6001"
    ray.nodes.return_value = [
        {"NodeID": "1", "NodeName": "n1", "Alive": True, "Resources": {"CPU": 2.0}}
    ]
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    monkeypatch.setattr(ray_slurm, "_JOIN_TIMEOUT_S", 0.0)
    monkeypatch.setattr(ray_slurm, "_address_towards", lambda _: "10.0.0.1")
    monkeypatch.setattr(AllocatedCluster, "start_at", lambda *_, **__: ray)
    cluster = AllocatedCluster(LAUNCH, place)

    with pytest.raises(BadNodes, match="Ray did not come up on n2 within") as failure:
        cluster.start()

    assert failure.value.hosts == ("n2",)
    assert place.meeting() == {"address": "10.0.0.1:6001", "token": "secret"}
    cluster.stop()
    assert place.meeting() == {"address": "", "token": ""}


def test_a_gang_may_have_the_processors_of_all_nodes(place: Allocation) -> None:
    nodes = AllocatedCluster(LAUNCH, place).expected()

    assert shortage("finetune", TaskLimits(cpus=LAUNCH.cpus, processes=2), nodes) is None
    assert shortage("finetune", TaskLimits(cpus=LAUNCH.cpus, processes=3), nodes)


def test_a_node_waits_for_the_head_and_leaves_when_that_is_done(place: Allocation) -> None:
    thread = lending(place)
    thread.join(0.1)
    place.meet("10.0.0.1:6001", "secret")
    thread.join(0.1)
    assert thread.is_alive()

    place.meet("", "")

    thread.join(30)
    assert not thread.is_alive()


def test_a_node_leaves_when_there_was_nothing_to_do(place: Allocation) -> None:
    place.meet("", "")

    lend_node(LAUNCH, place)


def test_a_node_that_falls_out_of_the_cluster_joins_it_again(
    place: Allocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Allocation, "has_lost_head", lambda _: False)
    serves_until_ended(monkeypatch, f"open({str(tmp_path / 'joined')!r}, 'a').write('x')")
    place.meet("10.0.0.1:6001", "secret")

    thread = lending(place)

    deadline_s = time.monotonic() + 30
    while not (tmp_path / "joined").exists() or len((tmp_path / "joined").read_text()) < 2:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    place.meet("", "")
    thread.join(30)


def test_a_job_that_may_not_be_queued_again_is_ended(
    place: Allocation, requeued: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(job_id: str) -> None:
        raise SlurmError(f"Requested operation is presently disabled for job {job_id}")

    cancelled: list[str] = []
    monkeypatch.setattr(ray_slurm, "requeue", refuse)
    monkeypatch.setattr(ray_slurm, "cancel", cancelled.append)

    ray_slurm._requeue_without_head(place)

    assert cancelled == ["7"]


def test_a_job_whose_first_node_is_gone_is_queued_again(
    place: Allocation, requeued: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def does_not_answer(address: str) -> None:
        raise ConnectionRefusedError(address)

    monkeypatch.setattr(ray_slurm, "reach", does_not_answer)
    place.meet("10.0.0.1:6001", "secret")

    thread = lending(place)

    deadline_s = time.monotonic() + 30
    while not requeued:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    place.meet("", "")
    thread.join(30)
    assert requeued[0] == "7"


def test_that_the_first_node_is_gone_is_seen_though_ray_notices_nothing(
    place: Allocation, requeued: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_slurm, "_ASK_INTERVAL_S", 0.05)
    place.meet("10.0.0.1:6001", "secret")

    thread = lending(place)

    deadline_s = time.monotonic() + 30
    while not requeued:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    place.meet("", "")
    thread.join(30)
