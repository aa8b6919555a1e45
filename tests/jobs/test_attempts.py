"""Only the newest attempt may commit, whatever the clocks of the nodes say."""

import pytest

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage, read_json, write_json
from sigma_pipeline.jobs.attempts import register_attempt, require_newest

FACTS = {"host": "n1"}


def test_the_newest_attempt_passes_and_an_older_one_is_fenced(storage: Storage) -> None:
    first = register_attempt(storage, "run", FACTS)
    require_newest(storage, "run", first)

    second = register_attempt(storage, "run", FACTS)

    require_newest(storage, "run", second)
    with pytest.raises(StageError, match=f"attempt {first} .* overtaken by attempt {second}"):
        require_newest(storage, "run", first)


def test_a_node_whose_clock_is_behind_still_becomes_the_newest(storage: Storage) -> None:
    ahead = "29991231T235959999999-abcdef"
    write_json(storage, f"runs/run/train/attempts/{ahead}.json", FACTS)

    attempt = register_attempt(storage, "run", FACTS)

    assert attempt > ahead
    require_newest(storage, "run", attempt)


def test_attempts_of_other_runs_do_not_matter(storage: Storage) -> None:
    mine = register_attempt(storage, "run", FACTS)
    register_attempt(storage, "run-2", FACTS)

    require_newest(storage, "run", mine)


def test_what_is_known_of_an_attempt_is_kept(storage: Storage) -> None:
    attempt = register_attempt(storage, "run", FACTS)

    assert read_json(storage, f"runs/run/train/attempts/{attempt}.json") == FACTS
