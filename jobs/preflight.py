"""Nodes tried before a long run: each by itself, then all together.

What each rank finds travels as notes in the store through which the ranks met, not by a collective:
on a bad node that would be what hangs. So a rank that never answers is named like one that reports
a problem, and every rank ends with the same sentence.
"""

import logging
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from sigma_pipeline.infra.errors import BadNodes, PipelineError, StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.checkpoints import load_weights
from sigma_pipeline.jobs.commits import COMMIT_FILE, read_commit, train_folder
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.gpu_sharing import TrainingShare
from sigma_pipeline.jobs.node_names import blamed, shown_ranks
from sigma_pipeline.jobs.rank_notes import RankNotes, StoreSilent
from sigma_pipeline.jobs.train_request import TrainRequest

log = logging.getLogger(__name__)

MIN_SCRATCH_BYTES = 1 << 30
"""For this rank's part of a commit on its way to the store: 10 bytes per parameter of ViT-B."""
MIN_FREE_MEMORY_FRACTION = 0.8
"""Of a GPU before training: less, and another process still sits on it."""
MAX_CLOCK_SKEW_S = 60.0
"""Attempts are sorted by time, and credentials of object stores expire by it."""
_LIMIT_S = 120.0
_VECTOR_LENGTH = 1 << 20
_OBJECT_BYTES = 4096


def check_nodes(
    context: RankContext, storage: Storage, request: TrainRequest, attempt: str
) -> None:
    """Tries the nodes of this attempt; every rank calls it.

    Raises:
        BadNodes: some rank found a problem or never answered; on every rank, in the same words.
            Names no nodes where most have a problem: it is then no fault of theirs.
    """
    clock_s = time.time()  # first: the ranks come here from a collective, at the same time
    limit_s = min(_LIMIT_S, request.stall_timeout_s / 5)  # several of them before the watchdog's
    own = Findings(context, f"preflight/{attempt}/node", limit_s)
    problem = _own_problem(context, storage, request, attempt)
    found = own.exchange({"problem": problem, "clock_s": clock_s})
    _compare_clocks(context, {rank: note["clock_s"] for rank, note in found.items()})
    together = Findings(context, f"preflight/{attempt}/sum", limit_s)
    problem, blamed_ranks = _sum_problem(context, limit_s / 2)
    together.exchange({"problem": problem, "blamed": blamed_ranks})
    if context.is_first:
        log.info("All %d rank(s) passed the check of their nodes", context.world_size)


def require_readable(storage: Storage, prefix: str) -> None:
    """Reads back what the first commit of a run has put, long before it is needed.

    Raises:
        StageError: something is missing or has other bytes.
    """
    try:
        commit = read_commit(storage, f"{prefix}/{COMMIT_FILE}")
        load_weights(storage, commit)
    except FileNotFoundError as error:
        raise StageError(f"the first commit cannot be read back: {error}") from error


@contextmanager
def naming_rank(context: RankContext) -> Iterator[None]:
    """Has a failure inside say on which rank and node it was.

    Raises:
        StageError: it failed.
    """
    try:
        yield
    except BadNodes:
        raise
    except StageError as error:
        raise StageError(
            f"rank {context.rank} on {context.hosts[context.rank]}: {error}"
        ) from error


class Findings:
    """One exchange of what the ranks have found."""

    def __init__(self, context: RankContext, subject: str, limit_s: float) -> None:
        self._context = context
        self._limit_s = limit_s
        store = context.store.clone()
        self._notes = RankNotes(store, subject)
        self._verdict = RankNotes(store, f"{subject}/verdict")
        self._heard = RankNotes(store, f"{subject}/heard")

    def exchange(self, note: Mapping[str, Any]) -> dict[int, Any]:
        """Everybody's notes on rank 0, where they are judged; nothing on the others.

        Args:
            note: this rank's, its ``problem`` an empty string if there is none.

        Raises:
            BadNodes: somebody has a problem, or does not answer in time.
        """
        context = self._context
        try:
            self._notes.put(context.rank, note)
            found = self._judge() if context.is_first else {}
            # Rank 0 may have waited for the others first.
            wait_s = 0 if context.is_first else 2 * self._limit_s
            told = self._verdict.read([0], wait_s).get(0)
            self._heard.put(context.rank, {})
            if told and told["message"] and context.is_first:
                # Its store ends with it; those that answered hear the verdict first.
                self._heard.read(found, self._limit_s)
        except StoreSilent:
            found, told = {}, None
        told = told or self._no_answer_of({0})
        if told["message"]:
            raise BadNodes(told["message"], tuple(told["hosts"]))
        return found

    def _judge(self) -> dict[int, Any]:
        """Collects the notes and tells all what follows from them; on rank 0."""
        ranks = range(self._context.world_size)
        found = self._notes.read(ranks, self._limit_s)
        silent = set(ranks) - found.keys()
        told = self._no_answer_of(silent) if silent else self._told(found)
        self._verdict.put(0, told)
        return found

    def _no_answer_of(self, ranks: set[int]) -> dict[str, Any]:
        problem = f"no answer within {self._limit_s:.0f} s"
        return self._told({rank: {"problem": problem} for rank in ranks})

    def _told(self, notes: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
        """What all are told: one sentence, empty if all is well, and the nodes to be avoided."""
        hosts = self._context.hosts
        ranks_by_problem: dict[str, list[int]] = {}
        bad_hosts = set()
        for rank, note in sorted(notes.items()):
            if note["problem"]:
                ranks_by_problem.setdefault(note["problem"], []).append(rank)
                bad_hosts |= {hosts[at_fault] for at_fault in note.get("blamed", [rank])}
        if not ranks_by_problem:
            return {"message": "", "hosts": ()}
        bad = blamed(bad_hosts, hosts)
        problems = "; ".join(
            f"{shown_ranks(ranks, dict(enumerate(hosts)))}: {problem}"
            for problem, ranks in ranks_by_problem.items()
        )
        fault = f"to be avoided: {', '.join(bad)}" if bad else "no fault of single nodes"
        return {"message": f"before the first step, {problems} ({fault})", "hosts": bad}


def _own_problem(
    context: RankContext, storage: Storage, request: TrainRequest, attempt: str
) -> str:
    """What is wrong with this rank's node, as far as it can tell alone; empty if nothing."""
    checks: list[Callable[[], str]] = [lambda: _scratch_problem(Path(request.scratch_dir))]
    if context.local_rank == 0:
        key = f"{train_folder(request.run_name)}/preflight/{attempt}/{context.rank}"
        checks.append(lambda: _store_problem(storage, key))
    if context.device.type == "cuda":
        checks.append(lambda: _device_problem(context.device))
        checks.append(lambda: _memory_problem(context.device, request.gpu_share))
    try:
        return next((problem for check in checks if (problem := check())), "")
    except (OSError, PipelineError, RuntimeError) as error:  # of files, the store, and the device
        return str(error)


def _scratch_problem(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    data = secrets.token_bytes(_OBJECT_BYTES)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(data)
        file.seek(0)
        if file.read() != data:
            return f"scratch_dir={folder} does not give back what is written to it"
    free = shutil.disk_usage(folder).free
    if free < MIN_SCRATCH_BYTES:
        return f"scratch_dir={folder} has {free / 2**30:.2f} GiB free, a commit needs 1 GiB"
    return ""


def _store_problem(storage: Storage, key: str) -> str:
    data = secrets.token_bytes(_OBJECT_BYTES)
    storage.write(key, data)
    try:
        is_same = storage.read(key) == data
    finally:
        storage.delete(key)
    return "" if is_same else f"{storage.uri(key)} is not read back as it was written"


def _device_problem(device: torch.device) -> str:
    # Small integers: exact in every precision that a device may choose for float32.
    left = torch.arange(256 * 256).reshape(256, 256).remainder(7).float()
    right = torch.arange(256 * 256).reshape(256, 256).remainder(5).float()
    if not torch.equal((left.to(device) @ right.to(device)).cpu(), left @ right):
        return f"{device} multiplies wrongly"
    return ""


def _memory_problem(device: torch.device, share: TrainingShare | None) -> str:
    free, total = torch.cuda.mem_get_info(device)
    own = share.memory_share if share is not None and share.rule == "memory_cap" else 1.0
    if free < MIN_FREE_MEMORY_FRACTION * own * total:
        return f"{device} has {free / 2**30:.1f} of {total / 2**30:.1f} GiB free: it is in use"
    return ""


def _compare_clocks(context: RankContext, clocks_s: Mapping[int, float]) -> None:
    """Warns of nodes whose clocks differ; of the notes that rank 0 has."""
    if not clocks_s:
        return
    slow, fast = min(clocks_s, key=clocks_s.__getitem__), max(clocks_s, key=clocks_s.__getitem__)
    skew_s = clocks_s[fast] - clocks_s[slow]
    if skew_s > MAX_CLOCK_SKEW_S:
        log.warning(
            "The clock of %s is %.0f s behind that of %s; have them synchronised",
            context.hosts[slow],
            skew_s,
            context.hosts[fast],
        )


def _sum_problem(context: RankContext, limit_s: float) -> tuple[str, list[int]]:
    """Adds a vector over all ranks of which each has filled one part: wrong parts name ranks.

    Returns:
        What is wrong, or an empty string; and the ranks at fault.
    """
    columns = max(1, _VECTOR_LENGTH // context.world_size)
    vector = torch.zeros(context.world_size, columns, device=context.device)
    vector[context.rank] = context.rank + 1
    errors: list[RuntimeError] = []
    adding = threading.Thread(target=_add, args=(vector, errors), name="preflight", daemon=True)
    adding.start()
    adding.join(limit_s)
    if adding.is_alive():
        return f"a sum over all ranks did not come within {limit_s:.0f} s", [context.rank]
    if errors:
        return f"a sum over all ranks failed: {errors[0]}", [context.rank]
    wanted = torch.arange(1, context.world_size + 1).unsqueeze(1)
    wrong = (vector.cpu() != wanted).any(dim=1).nonzero().flatten().tolist()
    if not wrong:
        return "", []
    parts = shown_ranks(wrong, dict(enumerate(context.hosts)))
    return f"a sum over all ranks is wrong in the part of {parts}", wrong


def _add(vector: torch.Tensor, errors: list[RuntimeError]) -> None:
    """Adds in place; NCCL connects at its first collective, which may hang in one call."""
    try:
        dist.all_reduce(vector)
        if vector.device.type == "cuda":
            torch.cuda.synchronize(vector.device)
    except RuntimeError as error:
        errors.append(error)
