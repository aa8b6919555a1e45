"""A commit that lost bytes is passed over: the newest one that is whole is gone on from."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commits import list_commits, manifest_key, newest_commit
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.train import run_train
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.jobs.train_resume import Resumable, find_resumable

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of DeepSpeed's, from torch 2.13

MakeRequest = Callable[..., TrainRequest]
WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer-00000-of-00001.safetensors"


@pytest.fixture(scope="module")
def trained() -> dict[str, bytes]:
    """What the run left in its store; filled by the first who needs it."""
    return {}


@pytest.fixture
def request_(
    make_request: MakeRequest,
    one_rank: RankContext,
    storage: Storage,
    trained: dict[str, bytes],
) -> TrainRequest:
    """Of a run with commits at steps 0, 4 and 6 that lost its manifest."""
    request = make_request()
    if not trained:
        run_train(request)
        storage.delete(manifest_key("tiny"))
        trained.update((key, storage.read(key)) for key in storage.list("runs"))
    for key, data in trained.items():
        storage.write(key, data)
    return request


def path(storage: Storage, step: int, file: str) -> Path:
    (prefix,) = (each.prefix for each in list_commits(storage, "tiny") if each.step == step)
    return Path(storage.uri(f"{prefix}/{file}"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def change(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def drop_optimizer(path: Path) -> None:
    path.write_text(path.read_text().replace('"has_optimizer": true', '"has_optimizer": false'))


def find(request: TrainRequest, context: Any, storage: Storage) -> Resumable:
    return find_resumable(request, context, storage, list_commits(storage, "tiny")[0].datasets)


def test_every_way_to_lose_bytes_is_found_and_the_commit_before_is_used(
    request_: TrainRequest, one_rank: RankContext, storage: Storage
) -> None:
    for file, harm, why in (
        ("commit.json", cut, "cannot be read"),
        ("commit.json", lambda path: path.write_text("{}"), "has format None"),
        (WEIGHTS, Path.unlink, "is missing"),
        (WEIGHTS, cut, "is damaged"),
        (WEIGHTS, change, "is damaged"),
        (OPTIMIZER, Path.unlink, "is missing"),
        (OPTIMIZER, cut, "is damaged"),
        (OPTIMIZER, change, "is damaged"),
    ):
        broken = path(storage, 6, file)
        whole = broken.read_bytes()
        harm(broken)
        if why.startswith("has format"):  # old ones are refused, not passed over
            with pytest.raises(StageError, match=why):
                find(request_, one_rank, storage)
        else:
            assert step_of(find(request_, one_rank, storage)) == 4, (file, why)
        broken.write_bytes(whole)

    assert step_of(find(request_, one_rank, storage)) == 6


def step_of(found: Resumable) -> int | None:
    return found.commit.step if found.commit else None


def test_training_ends_as_if_the_broken_commit_had_never_been(
    request_: TrainRequest, storage: Storage
) -> None:
    undisturbed = newest_commit(storage, "tiny").weights_sha256
    change(path(storage, 6, OPTIMIZER))

    run_train(request_)

    found = newest_commit(storage, "tiny")
    assert (found.step, found.weights_sha256) == (6, undisturbed)
    assert len({commit.attempt for commit in list_commits(storage, "tiny")}) == 2


def test_training_never_begins_anew_when_its_commits_are_broken(
    request_: TrainRequest, one_rank: RankContext, storage: Storage
) -> None:
    for step in (0, 4, 6):
        path(storage, step, WEIGHTS).unlink()

    with pytest.raises(StageError, match=r"has commits, but training can go on from none of them"):
        find(request_, one_rank, storage)


def test_the_untrained_commit_does_not_stand_in_for_one_that_lost_its_optimizer(
    request_: TrainRequest, one_rank: RankContext, storage: Storage
) -> None:
    path(storage, 6, WEIGHTS).unlink()
    drop_optimizer(path(storage, 4, "commit.json"))

    with pytest.raises(StageError, match="has no optimizer state"):
        find(request_, one_rank, storage)


class OtherRank:
    """One of two ranks; the other one finds the commits of some steps broken."""

    rank, world_size, is_first = 0, 2, False

    def __init__(self, problems: Iterator[str]) -> None:
        self.problems = problems

    def from_first(self, make: Callable[[], Any]) -> Any:
        """As rank 0 does."""
        return make()

    def all_gather(self, value: Any) -> list[Any]:
        """What this rank and the other have found."""
        return [value, next(self.problems)]


def test_what_one_rank_cannot_read_no_rank_uses(request_: TrainRequest, storage: Storage) -> None:
    context = OtherRank(iter(["piece 7 is damaged", ""]))

    assert step_of(find(request_, context, storage)) == 4


def test_each_byte_is_read_by_some_rank(request_: TrainRequest, storage: Storage) -> None:
    commit = newest_commit(storage, "tiny")
    last = max(commit.optimizer, key=lambda piece: piece.offset)
    file = path(storage, 6, OPTIMIZER)
    assert file.stat().st_size == last.offset + last.num_bytes
    change(file)  # in the share of the last rank

    first, second = OtherRank(iter([""])), OtherRank(iter(["", ""]))
    second.rank = 1

    assert step_of(find(request_, first, storage)) == 6
    assert step_of(find(request_, second, storage)) == 4
