"""Whether every node of a training has the frozen teacher, and the same one."""

import socket

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.model.config import TargetConfig
from sigma_pipeline.model.teacher_source import teacher_sha256, teacher_source


def require_teacher(target: TargetConfig, sha256: str | None, context: RankContext) -> None:
    """Looks for the frozen teacher on every node; the launcher has seen its own disk only.

    All ranks learn what each has found: none goes on alone, to wait for those that have ended.

    Args:
        target: names the teacher.
        sha256: its ``teacher_sha256`` where the job was launched; of what each node has, its first
            rank takes it.
        context: of this rank.

    Raises:
        StageError: some node cannot read it or has another one, on every rank; names hosts, path,
            both hashes, and what to do.
    """
    if target.kind != "dino":
        return
    problem = _teacher_problem(target, sha256, is_first_on_node=context.local_rank == 0)
    hosts: dict[str, set[str]] = {}
    for host, found in context.all_gather((socket.gethostname(), problem)):
        if found:
            hosts.setdefault(found, set()).add(host)
    if hosts:
        problems = (f"on {', '.join(sorted(hosts[found]))}: model.{found}" for found in hosts)
        raise StageError(
            f"the frozen teacher cannot be used {'; '.join(problems)}; put the same one where all "
            "nodes see it under this path and run the same command again"
        )


def _teacher_problem(target: TargetConfig, sha256: str | None, *, is_first_on_node: bool) -> str:
    try:
        _, path = teacher_source(target)
        here = teacher_sha256(target) if is_first_on_node else sha256
    except ValueError as error:
        return str(error)
    if here == sha256:
        return ""
    return f"target.teacher_weights={path} has sha256 {here}, and {sha256} where it was launched"
