"""What the store tells of the time between attempts, and of evaluation beside them."""

import re
from collections.abc import Mapping

from sigma_pipeline.infra.journal import last_metrics
from sigma_pipeline.infra.storage import Storage, read_json
from sigma_pipeline.jobs.attempts import Attempt, AttemptRecord, read_attempts
from sigma_pipeline.jobs.evaluate_request import evaluate_folder
from sigma_pipeline.jobs.submission import read_submissions
from sigma_pipeline.jobs.time_ledger import Life, spent_before

_CELL_KEY = re.compile(r"/\d+-[0-9a-f]{16}\.json$")


def time_before(
    storage: Storage, run_name: str, attempt: str, began_ms: int, carried: Mapping[str, float]
) -> dict[str, float]:
    """What was spent since the run was first submitted, until ``attempt`` began.

    Args:
        storage: where the run lies.
        run_name: the run.
        attempt: registered already.
        began_ms: milliseconds since 1970.
        carried: the ledger of the commit that it resumes; empty without one.
    """
    attempts = read_attempts(storage, run_name)
    lives = [
        _life(storage, run_name, each, each.record)
        for each in attempts
        if each.name < attempt and each.record is not None
    ]
    own = next(each.record for each in attempts if each.name == attempt)
    submissions = read_submissions(storage, run_name)
    return spent_before(
        carried,
        lives,
        [each.time_ms for each in submissions if each.stage == "train"],
        began_ms,
        is_queued=own is not None and own.job_id is not None,
    )


def evaluation_s(storage: Storage, run_name: str) -> float:
    """Seconds that all finished cells of the evaluation took, added up."""
    keys = storage.list(evaluate_folder(run_name))
    return sum(float(read_json(storage, key)["seconds"]) for key in keys if _CELL_KEY.search(key))


def _life(storage: Storage, run_name: str, attempt: Attempt, record: AttemptRecord) -> Life:
    end = attempt.end
    return Life(
        record.started_ms,
        end.ended_ms if end else _last_sign_ms(storage, run_name, attempt.name, record.started_ms),
        is_orderly=end is not None and end.state in ("stopped", "finished"),
        is_queued=record.job_id is not None,
    )


def _last_sign_ms(storage: Storage, run_name: str, attempt: str, started_ms: int) -> int:
    """Of an attempt that died with its node, so that nobody wrote down when."""
    entries = last_metrics(storage, run_name, [attempt])
    return max([started_ms, *(entry.time_ms for entry in entries)])
