"""Whole trainings on a GPU: commits beside the steps, resume, and a roll-back. ``pytest -m gpu``.

What the tests of each part show on the CPU, once more where a snapshot is copied by a stream of its
own into page-locked memory.
"""

from collections.abc import Callable

import pytest
import torch

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commits import list_commits, newest_commit
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.skipped_steps import read_skipped
from sigma_pipeline.jobs.train import run_train
from sigma_pipeline.jobs.train_request import TrainRequest
from tests.jobs.train_runs import at_step, curve, ruin_steps

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="no CUDA device here, or a build of PyTorch without CUDA",
    ),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of DeepSpeed's, from torch 2.13
]

MakeRequest = Callable[..., TrainRequest]
TOLERANCE = 1e-4
"""Relative; see ``test_gpu_steps``. Kernels may add in another order each time."""


@pytest.mark.parametrize("zero_stage", [1, 2])
def test_a_training_goes_on_from_a_commit_that_was_written_during_a_step(
    one_rank: RankContext,
    storage: Storage,
    make_request: MakeRequest,
    monkeypatch: pytest.MonkeyPatch,
    zero_stage: int,
) -> None:
    request = make_request(commit_every_steps=2, zero_stage=zero_stage)
    run_train(request)
    expected = curve(storage)
    for key in storage.list("runs"):
        storage.delete(key)

    def fail() -> None:
        raise StageError("the node was lost")

    at_step(monkeypatch, 5, fail)
    with pytest.raises(StageError, match="the node was lost"):
        run_train(request)
    assert [commit.step for commit in list_commits(storage, "tiny")][-1] == 4
    assert run_train(request)["state"] == "finished"

    assert one_rank.device.type == "cuda"
    assert list(curve(storage)) == list(expected)
    for step, values in curve(storage).items():
        assert values == pytest.approx(expected[step], rel=TOLERANCE)


def test_a_training_goes_back_to_a_commit(
    one_rank: RankContext,
    storage: Storage,
    make_request: MakeRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ruin_steps(monkeypatch, 3, 4)

    result = run_train(
        make_request(after_bad_steps="roll_back", max_bad_steps=2, commit_every_steps=2)
    )

    assert one_rank.device.type == "cuda"
    assert result["state"] == "finished"
    assert read_skipped(storage, "tiny") == {3, 4}
    commit = newest_commit(storage, "tiny")
    assert (commit.step, commit.optimizer_steps) == (6, 4)
