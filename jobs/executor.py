"""What submitit is told of a job: its resources, and the shell around its processes.

The one place where ``launch`` of a recipe becomes options of sbatch. Keys that begin with
``slurm_`` are dropped by submitit's executors for one machine.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigma_pipeline.jobs.config import LaunchConfig

_OPTION = re.compile(r"[a-z][a-z0-9-]*")
_SBATCH_NAMES_SET_HERE = {
    "account": "launch.account",
    "constraint": "launch.constraint",
    "cpus-per-task": "launch.train.cpus_per_process, or cpus of the other stages",
    "exclude": "launch.exclude",
    "gpus": "launch.train.gpus_per_node",
    "gpus-per-node": "launch.train.gpus_per_node",
    "gpus-per-task": "launch.train.gpus_per_node",
    "job-name": "run_name",
    "mem": "launch.train.memory_gib, or that of the other stages",
    "nodes": "launch.train.nodes",
    "ntasks": "launch.train.gpus_per_node or launch.train.cpu_processes",
    "ntasks-per-node": "launch.train.gpus_per_node or launch.train.cpu_processes",
    "no-kill": "launch.evaluate.nodes",
    "no-requeue": "launch.train.continue_by",
    "partition": "launch.partition",
    "qos": "launch.qos",
    "requeue": "launch.train.continue_by",
    "time": "launch.train.timeout_min, or that of the other stages",
    "export": "launch.setup, with lines such as 'export NAME=value'",
}
_SBATCH_NAMES_REFUSED = {
    "array": "the shard stage makes its array by itself",
    "dependency": "the order of the stages is kept by itself",
    "error": "logs lie in the work_dir",
    "open-mode": "logs lie in the work_dir",
    "output": "logs lie in the work_dir",
    "parsable": "sbatch's answer is read by the launcher",
    "signal": "jobs are told in time to save",
    "test-only": "use --dry-run",
    "wait": "the command returns at once, and status shows how a job goes on",
    "wrap": "launch.setup holds lines before the job",
}


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Of one job."""

    nodes: int = 1
    tasks_per_node: int = 1
    cpus_per_task: int = 1
    gpus_per_node: int = 0
    memory_gib: float | None = None
    """Of a node; what the site gives when absent."""
    timeout_min: int

    def __str__(self) -> str:
        """As a dry run tells it."""
        tasks = self.nodes * self.tasks_per_node
        parts = [
            _counted(self.nodes, "node"),
            f"{_counted(tasks, 'process')} of {_counted(self.cpus_per_task, 'CPU')}",
        ]
        parts += [f"{_counted(self.gpus_per_node, 'GPU')} a node"] if self.gpus_per_node else []
        parts += [f"{self.memory_gib:g} GiB a node"] if self.memory_gib is not None else []
        return ", ".join([*parts, f"{self.timeout_min} min"])


@dataclass(frozen=True, kw_only=True)
class Order:
    """When SLURM may start a job, and what becomes of it when it ends early."""

    dependency: str | None = None
    """As sbatch takes it; a job whose dependency can never be met is cancelled."""
    is_requeued: bool = True
    """Whether SLURM may start it again, by itself too when a node fails."""
    notice_s: int = 120
    """How long before its time limit SLURM signals that it comes near; in a short job later."""
    outlives_nodes: bool = False
    """Whether its processes go on when a node of another one fails."""
    teardown: tuple[str, ...] = ()
    """Shell lines after the processes have ended, which get SLURM's signals no more."""


def executor_parameters(
    launch: LaunchConfig,
    resources: Resources,
    *,
    name: str,
    order: Order | None = None,
    code: Path | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """All that submitit is told of a job.

    Args:
        launch: of the recipe.
        resources: of the job.
        name: of the job in SLURM's lists.
        order: of the job among others.
        code: folder that its processes import this package from.
        threads: of each process, for the libraries that take their number from the environment.
    """
    order = order or Order()
    parameters = {
        "name": name,
        "nodes": resources.nodes,
        "tasks_per_node": resources.tasks_per_node,
        "cpus_per_task": resources.cpus_per_task,
        "gpus_per_node": resources.gpus_per_node or None,
        "mem_gb": resources.memory_gib,
        "timeout_min": resources.timeout_min,
        "slurm_partition": launch.partition,
        "slurm_account": launch.account,
        "slurm_qos": launch.qos,
        "slurm_constraint": launch.constraint,
        "slurm_exclude": launch.exclude,
        "slurm_dependency": order.dependency,
        "slurm_signal_delay_s": signal_delay_s(resources.timeout_min, order.notice_s),
        "slurm_srun_args": [
            "--kill-on-bad-exit=1",
            *(["--no-kill"] if order.outlives_nodes else []),
            # Since SLURM 22.05 srun does not take it over from sbatch, and would bind to one CPU.
            f"--cpus-per-task={resources.cpus_per_task}",
        ],
        "slurm_setup": list(_setup(launch, order, code, threads)),
        "slurm_teardown": list(order.teardown) or None,
        "slurm_additional_parameters": _more_options(launch, order),
    }
    return {key: value for key, value in parameters.items() if value is not None}


def signal_delay_s(timeout_min: int, notice_s: int) -> int:
    """How long before its time limit a job is told of it; a short job has most of its time."""
    return min(notice_s, timeout_min * 60 // 4)


def sbatch_problems(launch: LaunchConfig) -> Iterator[tuple[str, str]]:
    """(dotted key, what is wrong) of settings that cannot be options of sbatch."""
    for option, value in launch.sbatch.items():
        key = f"launch.sbatch.{option}"
        if setting := _SBATCH_NAMES_SET_HERE.get(option):
            yield key, f"is set by the launcher; use {setting}"
        elif reason := _SBATCH_NAMES_REFUSED.get(option):
            yield key, f"is set by the launcher: {reason}"
        elif not _OPTION.fullmatch(option):
            yield "launch.sbatch", f"{option!r} is no option of sbatch; write it as in mail-type"
        elif _has_line_end(value):
            yield key, "must be one line"
    for name in ("partition", "account", "qos", "constraint", "exclude", "python", "host_python"):
        if _has_line_end(getattr(launch, name)):
            yield f"launch.{name}", "must be one line"


def _setup(launch: LaunchConfig, order: Order, code: Path | None, threads: int) -> Iterator[str]:
    """Lines before the processes; the variables reach a container that ``launch.python`` starts."""
    yield from launch.setup
    if order.teardown:
        yield "trap : TERM USR2"  # else bash would end before the lines after the processes
        yield "set +e"  # so would what launch.setup may have set
    yield "export PYTHONSAFEPATH=1"
    yield f"export OMP_NUM_THREADS={threads}"
    if code is not None:
        yield f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}"


def _more_options(launch: LaunchConfig, order: Order) -> Mapping[str, str | int | bool]:
    options = {name: value for name, value in launch.sbatch.items() if value is not False}
    options["requeue" if order.is_requeued else "no-requeue"] = True
    if order.outlives_nodes:
        options["no-kill"] = True
    if order.dependency is not None:
        options["kill-on-invalid-dep"] = "yes"
    return options


def _has_line_end(value: object) -> bool:
    return isinstance(value, str) and not value.isprintable()


def _counted(number: int, noun: str) -> str:
    plural = "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{'' if number == 1 else plural}"
