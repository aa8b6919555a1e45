"""Batches while the store is out of reach, with a loader that fails as it is told."""

import logging
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any, cast

import pytest

from sigma_pipeline.data_prep.loader import TrainLoader
from sigma_pipeline.infra.errors import StageError, StoreUnreachable
from sigma_pipeline.infra.storage import LocalStorage, Storage
from sigma_pipeline.jobs import train_batches
from sigma_pipeline.jobs.train import run_train
from sigma_pipeline.jobs.train_batches import batches_through_outages
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.jobs.watchdog import Watchdog
from tests.jobs.train_runs import curve

MakeRequest = Callable[..., TrainRequest]


class FakeLoader:
    """Gives (epoch, batch) as a batch, and fails now and then when it comes to one."""

    batches_per_epoch = 3

    def __init__(self, errors: dict[tuple[int, int], list[StageError]]) -> None:
        self.errors = errors

    def micro_batches(self, epoch: int, batch: int) -> Iterator[list[tuple[int, int]]]:
        """See ``TrainLoader``."""
        for number in count(epoch * self.batches_per_epoch + batch):
            place = divmod(number, self.batches_per_epoch)
            if self.errors.get(place):
                raise self.errors[place].pop()
            yield [place]


def batches_of(loader: FakeLoader, outages: list[str], grace_s: float = 60) -> Iterator[Any]:
    return batches_through_outages(
        cast("TrainLoader", loader), 1, grace_s=grace_s, on_outage=lambda: outages.append("")
    )


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_batches, "_PAUSE_S", 0.0)


def test_an_outage_leaves_no_gap(caplog: pytest.LogCaptureFixture) -> None:
    down = StoreUnreachable("no good answer")
    loader, outages = FakeLoader({(0, 1): [down], (1, 1): [down, down]}), list[str]()

    with caplog.at_level(logging.WARNING):
        got = [batch for (batch,) in islice(batches_of(loader, outages), 5)]

    assert got == [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert len(outages) == 3
    assert "NO DATA FOR STEP 5: no good answer" in caplog.text


def test_when_the_grace_is_over_the_outage_is_an_error() -> None:
    loader, outages = FakeLoader({(0, 1): [StoreUnreachable("down")]}), list[str]()

    with pytest.raises(StoreUnreachable):
        next(batches_of(loader, outages, grace_s=0))

    assert outages == []


def test_what_is_damaged_is_not_waited_for() -> None:
    loader, outages = FakeLoader({(0, 1): [StageError("all samples are bad")]}), list[str]()

    with pytest.raises(StageError, match="all samples are bad"):
        next(batches_of(loader, outages))

    assert outages == []


@pytest.mark.usefixtures("one_rank")
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of DeepSpeed's, from torch 2.13
def test_a_training_whose_store_was_away_is_the_same_training(
    storage: Storage, make_request: MakeRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_train(make_request())
    expected = curve(storage)
    for key in storage.list("runs"):
        storage.delete(key)
    read, reads, phases = LocalStorage.read, list[str](), list[str]()

    def read_or_fail(self: LocalStorage, key: str, *place: Any) -> bytes:
        if key.endswith(".tar"):
            reads.append(key)
            if 20 <= len(reads) < 23:
                raise OSError("Stale file handle")
        return read(self, key, *place)

    monkeypatch.setattr(LocalStorage, "read", read_or_fail)
    monkeypatch.setattr(Watchdog, "at", lambda _, phase, step: phases.append(phase))

    assert run_train(make_request())["state"] == "finished"

    assert curve(storage) == expected
    assert phases.count("outage") == 3
