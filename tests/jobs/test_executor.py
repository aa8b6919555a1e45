"""What a recipe's ``launch`` becomes for sbatch."""

import re
from pathlib import Path
from typing import Any

import pytest
import submitit

from sigma_pipeline.jobs.config import LaunchConfig
from sigma_pipeline.jobs.executor import (
    Order,
    Resources,
    executor_parameters,
    sbatch_problems,
    signal_delay_s,
)
from tests.fake_slurm import FakeSlurm, options

pytestmark = pytest.mark.usefixtures("sbatch")


def script(folder: Path, launch: LaunchConfig, resources: Resources, **more: Any) -> str:
    """What submitit makes of it."""
    executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_python=launch.python)
    executor.update_parameters(**executor_parameters(launch, resources, name="job", **more))
    executor.submit(len, "")
    return next(folder.glob("*_submission.sh")).read_text()


def test_every_setting_of_launch_becomes_an_option(tmp_path: Path, sbatch: FakeSlurm) -> None:
    launch = LaunchConfig(
        cluster="slurm",
        partition="gpu",
        account="lab",
        qos="long",
        constraint="a100|h100",
        exclude="n[1-3]",
        sbatch={"mail-type": "FAIL", "exclusive": True, "comment": "a b", "oversubscribe": False},
    )
    resources = Resources(
        nodes=2,
        tasks_per_node=4,
        cpus_per_task=7,
        gpus_per_node=4,
        memory_gib=100.5,
        timeout_min=90,
    )

    script(tmp_path / "job", launch, resources, order=Order(dependency="afterany:1"))

    given = options(sbatch.scripts[0])
    assert {name: given[name] for name in given if name not in ("output", "error")} == {
        "job-name": "job",
        "partition": "gpu",
        "account": "lab",
        "qos": "long",
        "constraint": "'a100|h100'",
        "exclude": "'n[1-3]'",
        "nodes": "2",
        "ntasks-per-node": "4",
        "cpus-per-task": "7",
        "gpus-per-node": "4",
        "mem": "102912MB",
        "time": "90",
        "signal": "USR2@120",
        "dependency": "afterany:1",
        "kill-on-invalid-dep": "yes",
        "requeue": "",
        "mail-type": "FAIL",
        "exclusive": "",
        "comment": "'a b'",
        "open-mode": "append",
        "wckey": "submitit",
    }


def test_processes_get_the_code_the_threads_and_the_end_of_any_of_them(tmp_path: Path) -> None:
    launch = LaunchConfig(
        cluster="slurm", setup=("module load cuda",), python="apptainer exec 'my image.sif' python"
    )

    text = script(
        tmp_path / "job",
        launch,
        Resources(cpus_per_task=3, timeout_min=9),
        code=tmp_path / "it's code",
        threads=3,
    )

    lines = text.splitlines()
    assert lines[lines.index("# setup") :][:4] == [
        "# setup",
        "module load cuda",
        "export PYTHONSAFEPATH=1",
        "export OMP_NUM_THREADS=3",
    ]
    quoted = "'" + str(tmp_path / "it's code").replace("'", "'\"'\"'") + "'"
    assert f"export PYTHONPATH={quoted}${{PYTHONPATH:+:$PYTHONPATH}}" in lines
    (command,) = (line for line in lines if line.startswith("srun"))
    assert (
        " --kill-on-bad-exit=1 --cpus-per-task=3 apptainer exec 'my image.sif' python " in command
    )
    assert "gpus" not in text
    assert "trap" not in text


def test_what_follows_the_processes_outlives_slurms_signals(tmp_path: Path) -> None:
    order = Order(is_requeued=False, teardown=("status=$?", "exit $status"))
    launch = LaunchConfig(cluster="slurm", setup=("set -eu",))

    text = script(tmp_path / "job", launch, Resources(timeout_min=9), order=order)

    assert "#SBATCH --no-requeue" in text
    assert text.index("trap : TERM USR2") < text.index("srun") < text.index("status=$?")
    assert text.index("set -eu") < text.index("set +e") < text.index("srun")
    assert text.endswith("exit $status")


@pytest.mark.parametrize(("timeout_min", "delay_s"), [(1, 15), (4, 60), (8, 120), (1440, 120)])
def test_a_short_job_is_not_told_of_its_end_at_its_start(timeout_min: int, delay_s: int) -> None:
    assert signal_delay_s(timeout_min, 120) == delay_s


@pytest.mark.parametrize(
    ("settings", "key", "said"),
    [
        ({"sbatch": {"time": 5}}, "launch.sbatch.time", r"use launch\.train\.timeout_min"),
        ({"sbatch": {"output": "x"}}, "launch.sbatch.output", "logs lie in the work_dir"),
        ({"sbatch": {"mail_type": "ALL"}}, "launch.sbatch", "'mail_type' is no option"),
        ({"sbatch": {"comment": "a\n#SBATCH --uid=0"}}, "launch.sbatch.comment", "one line"),
        ({"partition": "a\nrm -rf"}, "launch.partition", "one line"),
    ],
)
def test_what_cannot_be_an_option_is_refused_with_the_setting_to_use(
    settings: dict[str, Any], key: str, said: str
) -> None:
    ((found, message),) = sbatch_problems(LaunchConfig(**settings))

    assert found == key
    assert re.search(said, message)
