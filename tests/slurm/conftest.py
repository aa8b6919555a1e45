"""The cluster that ``infra/slurm/up.sh`` starts, and runs of a tiny recipe on it."""

import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.trial import RECIPE, TOTAL_STEPS, Curve, Trial, merged, write_videos

MakeTrial = Callable[..., Trial]
_FAILED = pytest.StashKey[bool]()


@dataclass(frozen=True)
class Shared:
    """What is made once for all tests, by whichever comes first."""

    folder: Path
    recipe: Mapping[str, Any]
    undisturbed: Curve
    """Of two processes of this machine, that nobody stopped."""

    @property
    def store(self) -> Path:
        """Where the dataset lies."""
        return self.folder / "store"


@pytest.fixture(scope="session")
def cluster(repository: Path) -> Cluster:
    """Skips tests where there is no such cluster; they would crash nodes of any other."""
    if "SLURM_CONF" not in os.environ:
        pytest.skip("no test cluster: SLURM_CONF is not set; see infra/slurm/up.sh")
    cluster = Cluster(repository / "infra" / "slurm", Path(os.environ["SLURM_CONF"]).parent)
    try:
        settings = cluster.ask("scontrol", "show", "config")
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"the test cluster does not answer: {error}")
    if not any(line.split() == ["ClusterName", "=", "sigma"] for line in settings):
        pytest.skip("SLURM_CONF leads to another cluster than that of infra/slurm/up.sh")
    return cluster


@pytest.fixture(scope="session")
def shared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """A sharded dataset, and the curve of a training that was left alone."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # beside those of the other workers
        folder = folder.parent
    recipe = merged(RECIPE, {"datasets": {"noise": {"source": str(folder / "videos")}}})
    alone = {"cluster": "local", "train": {"nodes": 1, "cpu_processes": 2}}
    (folder / "store").mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        trial = Trial(
            "undisturbed", folder / "store", cluster, (), merged(recipe, {"launch": alone})
        )
        if trial.newest_step() < TOTAL_STEPS:
            write_videos(folder / "videos")
            for stage in ("shard", "train"):
                done = trial.command("run", "--stage", stage)
                assert done.returncode == 0, done.stderr
    return Shared(folder, recipe, trial.curve())


@pytest.fixture
def make_trial(
    request: pytest.FixtureRequest, cluster: Cluster, shared: Shared
) -> Iterator[MakeTrial]:
    """Makes runs on nodes of their own, two if not told; what they leave running is ended."""
    trials: list[Trial] = []
    with ExitStack() as stack:

        def make(
            changes: Mapping[str, Any] | None = None,
            *,
            nodes: int = 2,
            network: str = "12mbit",
            store: Path = shared.store,
        ) -> Trial:
            held = stack.enter_context(cluster.held(nodes))
            for node in held:
                cluster.limit_network(node, network)
            name = re.sub(r"\W+", "-", f"{request.node.name[5:70]}-{len(trials)}")
            recipe = merged(shared.recipe, changes or {})
            trial = Trial(name, store, cluster, held, recipe)
            trials.append(trial)
            stack.callback(trial.end)
            return trial

        yield make
        if request.node.stash.get(_FAILED, False):
            for trial in trials:
                sys.stderr.write(trial.logs())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Lets a fixture know whether its test failed."""
    report = yield
    if report.when == "call":
        item.stash[_FAILED] = report.failed
    return report
