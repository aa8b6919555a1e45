"""A rank among others whose numbers go wrong: it is named, and all go back together."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sigma_pipeline.infra.storage import Storage, read_json
from sigma_pipeline.jobs.commits import newest_commit
from sigma_pipeline.jobs.replay import replay_step
from sigma_pipeline.jobs.skipped_steps import read_skipped
from sigma_pipeline.jobs.train_request import TrainRequest

pytestmark = pytest.mark.slow


def test_all_ranks_go_back_for_the_bad_steps_of_one(
    storage: Storage, make_request: Callable[..., TrainRequest], tmp_path: Path
) -> None:
    request = make_request(
        zero_stage=3, after_bad_steps="roll_back", max_bad_steps=2, commit_every_steps=2
    )
    (tmp_path / "request.pickle").write_bytes(pickle.dumps(request))
    program = [sys.executable, "-P", Path(__file__).with_name("bad_step_rank.py")]
    ranks = [
        subprocess.Popen(
            [*program, str(rank), "2", str(tmp_path), "1", "3", "4"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [rank.communicate(timeout=300)[1] for rank in ranks]

    assert [rank.returncode for rank in ranks] == [0, 0], told[0] + told[1]
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)] == [
        "finished after 6 steps taken"
    ] * 2
    assert read_skipped(storage, "tiny") == {3, 4}
    assert (newest_commit(storage, "tiny").step, newest_commit(storage, "tiny").world_size) == (
        6,
        2,
    )
    assert "step 3: the loss on rank 1 (host " in told[0]
    kept = [key for key in storage.list("runs") if "/bad-steps/step-00000003/" in key]
    names = ["bad.json", "model.safetensors", "rank-00001.json", "rank-00001.safetensors"]
    assert [Path(key).name for key in kept] == names
    assert len(read_json(storage, kept[2])["keys"]) == 4
    *_, summary = replay_step(storage, "tiny", 3)
    assert summary == "  fp32: 4 of 4 clips are finite, gradients too."
