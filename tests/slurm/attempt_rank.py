"""Stands for a rank of a training: ``ROOT PLAN``, where PLAN says what each life of its job does.

Parts of PLAN, one for each life, the last for all that follow: ``fails``, ``is-killed``,
``has-bad-node``, ``waits`` (until it is to stop), ``waits-too-long`` (until it is killed) or
``finishes``.
"""

import os
import signal
import sys
import time

from sigma_pipeline.infra.storage import Storage, open_storage, write_json
from sigma_pipeline.jobs.attempts import (
    AttemptEnd,
    AttemptRecord,
    note_taken,
    now_ms,
    record_end,
    register_attempt,
)
from sigma_pipeline.jobs.commits import manifest_key, newest_step
from sigma_pipeline.jobs.node_names import node_name
from sigma_pipeline.jobs.stop_wish import StopWish, TimeLimit, stop_on_signals


def begin(storage: Storage, restart: int) -> str:
    record = AttemptRecord(
        host=node_name(),
        pid=os.getpid(),
        world_size=1,
        config_fingerprint="",
        started_ms=now_ms(),
        from_step=newest_step(storage, "run"),
        job_id=os.environ["SLURM_JOB_ID"],
        restart=restart,
        nodes=(node_name(),),
    )
    return register_attempt(storage, "run", record)


def live(storage: Storage, attempt: str, act: str) -> AttemptEnd:
    """One life, and what it has to say at its end."""
    if act == "is-killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if act in ("fails", "has-bad-node"):
        bad_nodes = (node_name(),) if act == "has-bad-node" else ()
        return AttemptEnd(
            state="failed", reason="it broke", step=0, ended_ms=now_ms(), bad_nodes=bad_nodes
        )
    wish = StopWish()
    with stop_on_signals(wish):
        write_json(storage, f"runs/run/train/step-00000001/{attempt}/commit.json", {})
        if act == "waits-too-long":
            watch(storage, attempt, wish)
        while act == "waits-too-long" or (act == "waits" and not wish.is_wished()):
            time.sleep(0.05)
    if act == "finishes":
        write_json(storage, manifest_key("run"), {})
        return AttemptEnd(state="finished", reason="", step=1, ended_ms=now_ms())
    return AttemptEnd(state="stopped", reason=str(wish.reason), step=1, ended_ms=now_ms())


def watch(storage: Storage, attempt: str, wish: StopWish) -> None:
    """What training does beside its steps."""
    TimeLimit(
        os.environ["SLURM_JOB_ID"],
        wish,
        restart=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        on_cancel=lambda: None,
        on_taken=lambda: note_taken(storage, "run", attempt, 1),
        on_limit=lambda: None,
    )


def main(root: str, plan: str) -> int:
    """Lives once; returns its exit status."""
    storage = open_storage(root)
    restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    attempt = begin(storage, restart)
    acts = plan.split(",")
    end = live(storage, attempt, acts[min(restart, len(acts) - 1)])
    record_end(storage, "run", attempt, end)
    return int(end.state == "failed")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
