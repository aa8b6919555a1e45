"""Verdicts of comparisons: over several trials, and as gates."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.jobs.compare_result import Comparison
from tests.compared_runs import (
    add_commit,
    add_run,
    ask_for,
    classified,
    compare_runs,
    finish,
    planned,
)

GOOD = np.arange(60) % 10 < 8  # 48 of 60 right
BAD = np.arange(60) % 10 < 4  # 24 of those
Compare = Callable[..., Comparison]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path))


@pytest.fixture
def compared(storage: Storage) -> Compare:
    """Two sides of the store, by what people type."""
    return partial(compare_runs, storage)


def test_one_of_many_trials_has_to_stand_out_more(storage: Storage, compared: Compare) -> None:
    gained = np.arange(60) < 6  # p = 2 / 64 alone
    trials = [planned(f"knn{number}") for number in range(2)]
    ask_for(storage, "r", *trials)
    for step, hits in {0: np.zeros(60, bool), 40: gained}.items():
        commit = add_commit(storage, "r", step)
        for one, result in zip(trials, (hits, np.zeros(60, bool)), strict=True):
            finish(storage, commit, one, classified(result), {"top1": float(np.mean(result))})

    found = compared("r", "r@0")

    assert [trial.verdict for trial in found.trials] == ["better", "not distinguishable"]
    assert found.adjusted[0] == pytest.approx(2 * found.trials[0].estimate.p_margin)
    assert found.overall == "not distinguishable"


def test_better_here_and_worse_there_is_mixed(storage: Storage, compared: Compare) -> None:
    trials = [planned("knn"), planned("linear")]
    ask_for(storage, "r", *trials)
    for step, results in {0: (BAD, GOOD), 40: (GOOD, BAD)}.items():
        commit = add_commit(storage, "r", step)
        for one, hits in zip(trials, results, strict=True):
            finish(storage, commit, one, classified(hits), {"top1": float(np.mean(hits))})

    found = compared("r", "r@0")

    assert found.overall == "mixed"
    assert not found.meets("better")
    assert not found.meets("not-worse")


def test_gates(storage: Storage, compared: Compare) -> None:
    add_run(storage, "r", {0: BAD, 10: GOOD, 20: GOOD}, planned())

    better, worse, same = compared("r@10", "r@0"), compared("r@0", "r@10"), compared("r@20", "r@10")

    assert [found.meets("better") for found in (better, worse, same)] == [True, False, False]
    assert [found.meets("not-worse") for found in (better, worse, same)] == [True, False, True]
    assert compared("r@20", "r@10", margin=0.01).meets("not-worse")
    assert not compared("r@10", "r@0", margin=0.5).meets("better")


def test_non_inferiority_has_to_be_shown(storage: Storage, compared: Compare) -> None:
    lost = GOOD & (np.arange(60) != 0)  # one of 60: not worse by chance, but perhaps by 5 points
    add_run(storage, "r", {10: GOOD, 20: lost}, planned())

    assert compared("r@20", "r@10").meets("not-worse")
    assert not compared("r@20", "r@10", margin=0.03).meets("not-worse")
    assert compared("r@20", "r@10", margin=0.10).meets("not-worse")
