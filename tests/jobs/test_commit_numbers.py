"""Each n-th commit stays each n-th commit, whatever becomes of the others."""

import pytest

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commit_numbers import commit_numbers, record_numbers
from sigma_pipeline.jobs.commits import COMMIT_FILE, commit_prefix

RUN = "tiny"


def commit(storage: Storage, *steps: int) -> None:
    """Puts what makes commits exist; it cannot be read."""
    for step in steps:
        storage.write(f"{commit_prefix(RUN, step, 'a')}/{COMMIT_FILE}", b"{")


@pytest.mark.parametrize("gone", [0, 10])
def test_others_keep_their_numbers_when_a_commit_is_deleted(storage: Storage, gone: int) -> None:
    commit(storage, 0, 10, 20)
    before = record_numbers(storage, RUN, [])
    storage.delete(f"{commit_prefix(RUN, gone, 'a')}/{COMMIT_FILE}")
    commit(storage, 30)

    assert before == {0: 0, 10: 1, 20: 2}
    assert record_numbers(storage, RUN, []) == {**before, 30: 3}


def test_steps_between_those_of_an_earlier_attempt_come_after_them(storage: Storage) -> None:
    commit(storage, 0, 10, 20)
    record_numbers(storage, RUN, [])
    commit(storage, 7, 14)  # training went back to step 0

    assert record_numbers(storage, RUN, []) == {0: 0, 10: 1, 20: 2, 7: 3, 14: 4}


def test_a_commit_that_was_seen_has_a_number_though_it_is_gone_by_now(storage: Storage) -> None:
    commit(storage, 10)

    assert record_numbers(storage, RUN, [0]) == {0: 0, 10: 1}


def test_who_only_shows_numbers_writes_none(storage: Storage) -> None:
    commit(storage, 0)
    record_numbers(storage, RUN, [])

    assert commit_numbers(storage, RUN, [20, 0, 10]) == {0: 0, 10: 1, 20: 2}
    assert commit_numbers(storage, RUN, [0, 20]) == {0: 0, 20: 1}
