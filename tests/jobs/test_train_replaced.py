"""Bad samples: counted over the run, listed once each, and past the budget the end of it."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.data_prep.replacement import Replaced
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.journal import Journal, read_entries
from sigma_pipeline.infra.storage import LocalStorage, Storage
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.train_replaced import ReplacedSamples, read_replaced
from sigma_pipeline.jobs.train_request import TrainRequest

MakeRequest = Callable[..., TrainRequest]
Open = Callable[..., ReplacedSamples]


@pytest.fixture
def journal(storage: Storage) -> Journal:
    """The pen of an attempt."""
    return Journal(storage, "tiny", "a", "train")


@pytest.fixture
def open_account(
    one_rank: RankContext, storage: Storage, make_request: MakeRequest, journal: Journal
) -> Open:
    """The account of an attempt of the tiny run; keywords are train settings."""

    def make(attempt: str = "a", total: int = 0, **train: Any) -> ReplacedSamples:
        return ReplacedSamples(
            make_request(**train),
            one_rank,
            storage,
            attempt=attempt,
            journal=journal,
            total=total,
        )

    return make


def bad(number: int, position: int = 0, tar: str = "shard-000000.a.tar") -> Replaced:
    reason = f"sample clip-{number} cannot be read"
    return Replaced("noise", "train", f"clip-{number}", tar, "x.mp4", reason, 0, position)


def batch_with(*replaced: Replaced) -> Batch:
    place = torch.zeros(1, dtype=torch.int64)
    clip = torch.zeros(1, 3, 2, 4, 4, dtype=torch.uint8)
    return Batch(clip, 0, place, place, place, replaced)


def test_each_replacement_counts_and_each_sample_is_listed_once(
    open_account: Open, storage: Storage, journal: Journal
) -> None:
    account = open_account()

    account.note([batch_with(bad(2, 5), bad(1, 3)), batch_with(bad(2, 8))])
    first = account.settle()
    account.note([batch_with(bad(2, 9))])

    assert (first, account.settle()) == (3, 4)
    journal.flush()
    entries, _ = read_entries(storage, "tiny")
    (shown,) = [entry.fields for entry in entries if entry.kind == "artifact"]
    assert shown["name"] == "train/replaced_samples/a-00001.jsonl"
    lines = [json.loads(line) for line in storage.read(shown["key"]).splitlines()]
    assert [(line["key"], line["position"]) for line in lines] == [("clip-1", 3), ("clip-2", 5)]


def test_a_later_attempt_goes_on_with_the_list_and_the_count(
    open_account: Open, storage: Storage
) -> None:
    first = open_account("a")
    first.note([batch_with(bad(1))])
    first.settle()

    second = open_account("b", total=1)
    second.note([batch_with(bad(1), bad(2))])

    assert second.settle() == 3
    (line,) = storage.read("runs/tiny/train/replaced/b-00001.jsonl").splitlines()
    assert json.loads(line)["key"] == "clip-2"
    assert [each.key for each in read_replaced(storage, "tiny")] == ["clip-1", "clip-2"]


def test_those_met_later_stand_in_a_file_of_their_own(
    open_account: Open, storage: Storage, journal: Journal
) -> None:
    account = open_account()
    for number in (1, 2):
        account.note([batch_with(bad(number))])
        account.settle()

    journal.flush()
    entries, _ = read_entries(storage, "tiny")
    keys = [entry.fields["key"] for entry in entries if entry.kind == "artifact"]
    assert [len(storage.read(key).splitlines()) for key in keys] == [1, 1]
    assert len(set(keys)) == 2


def test_a_run_without_bad_samples_leaves_no_list(open_account: Open, storage: Storage) -> None:
    account = open_account()

    account.note([batch_with()])

    assert account.settle() == 0
    account.require_few(1)
    assert read_replaced(storage, "tiny") == []


def test_too_many_name_the_shards_and_what_repairs_them(open_account: Open) -> None:
    account = open_account()
    of_other = [replace(bad(number), tar="shard-000007.b.tar") for number in range(2)]
    account.note([batch_with(*(bad(number) for number in range(2, 18)), *of_other)])
    account.settle()

    with pytest.raises(StageError) as caught:
        account.require_few(5)

    assert str(caught.value) == (
        "18 of the 40 samples so far could not be read, more than "
        "train.loader.max_bad_fraction=0.001 allows: shard-000000.a.tar (16), "
        "shard-000007.b.tar (2); repair them with: sigma-pipeline shards repair noise/train (the "
        "same --config and --set). One of them: sample clip-2 cannot be read"
    )


@pytest.mark.parametrize(
    ("total", "train", "step"),
    [
        (15, {}, 1),  # sixteen always may
        (17, {}, 2250),  # 18 of 18,000 are one in a thousand
        (99, {"loader": {"workers": 0, "max_bad_fraction": 0.5}}, 25),
        (17, {"clip": {"clips_per_decode": 2}}, 4500),
    ],
)
def test_as_many_as_agreed_are_borne_and_one_more_is_not(
    open_account: Open, total: int, train: dict[str, Any], step: int
) -> None:
    account = open_account(total=total, **train)
    account.note([batch_with(bad(0))])
    account.settle()
    account.require_few(step)

    account.note([batch_with(bad(1))])
    account.settle()
    with pytest.raises(StageError, match="could not be read"):
        account.require_few(step)


def test_what_was_repaired_since_does_not_end_the_run_again(open_account: Open) -> None:
    open_account(total=1000).require_few(1)


def test_a_list_that_cannot_be_written_is_written_later(
    open_account: Open, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = open_account()
    with monkeypatch.context() as broken:
        broken.setattr(LocalStorage, "write", mock.Mock(side_effect=OSError("disk full")))
        account.note([batch_with(bad(1))])
        account.settle()
    account.note([batch_with(bad(1), bad(2))])
    account.settle()

    assert [each.key for each in read_replaced(storage, "tiny")] == ["clip-1", "clip-2"]
