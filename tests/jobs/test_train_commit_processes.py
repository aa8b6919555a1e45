"""Commits of two real ranks: beside the steps, and left out together when one cannot be written."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commits import Commit, list_commits
from sigma_pipeline.jobs.train_request import TrainRequest
from tests.jobs.test_train_processes import Launch, launch, losses

pytestmark = pytest.mark.slow

MakeRequest = Callable[..., TrainRequest]
__all__ = ["launch"]  # a fixture


def commits(storage: Storage, run_name: str) -> list[Commit]:
    return list_commits(storage, run_name)


def test_two_ranks_commit_at_each_step_without_changing_one(
    storage: Storage, make_request: MakeRequest, launch: Launch
) -> None:
    often = make_request(epochs=4, zero_stage=3, commit_every_steps=1)
    never = make_request(epochs=4, zero_stage=3, commit_every_steps=1000)

    launch(replace(often, run_name="often"), 2).wait()
    launch(replace(never, run_name="never"), 2).wait()

    assert [commit.step for commit in commits(storage, "often")] == list(range(9))
    assert losses(storage, "often") == losses(storage, "never")
    ends = [commits(storage, name)[-1] for name in ("often", "never")]
    assert ends[0].weights_sha256 == ends[1].weights_sha256
    assert [piece.sha256 for piece in ends[0].optimizer] == [
        piece.sha256 for piece in ends[1].optimizer
    ]
    assert {piece.file for piece in ends[0].optimizer} == {
        f"optimizer-0000{rank}-of-00002.safetensors" for rank in (0, 1)
    }


def test_two_ranks_go_on_together_without_a_commit_that_cannot_be_written(
    storage: Storage, make_request: MakeRequest, launch: Launch
) -> None:
    in_the_way = Path(storage.uri("runs/tiny/train/step-00000004"))
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()  # where the folder of that commit would be

    result = launch(make_request(epochs=4), 2).wait()

    assert result["state"] == "finished"
    assert [commit.step for commit in commits(storage, "tiny")] == [0, 8]


def test_two_ranks_stop_together_when_the_grace_is_over(
    storage: Storage, make_request: MakeRequest, launch: Launch
) -> None:
    in_the_way = Path(storage.uri("runs/tiny/train/step-00000004"))
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()

    job = launch(make_request(epochs=4000, commit_grace_min=0), 2)

    with pytest.raises(Exception, match=r"for 0 minutes .*the last good commit is runs/tiny/train"):
        job.wait()
