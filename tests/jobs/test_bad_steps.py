"""Steps that are not finite: who had them, what is kept of them, and when a run goes back."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from sigma_pipeline.infra.errors import MissingInputError, StageError
from sigma_pipeline.infra.journal import read_entries
from sigma_pipeline.infra.storage import LocalStorage, Storage, read_json
from sigma_pipeline.jobs import bad_steps, train_loop
from sigma_pipeline.jobs.attempts import read_attempts
from sigma_pipeline.jobs.bad_steps import Share, describe_bad_step
from sigma_pipeline.jobs.commits import list_commits, newest_commit
from sigma_pipeline.jobs.objective import Objective
from sigma_pipeline.jobs.replay import replay_step
from sigma_pipeline.jobs.skipped_steps import mark_skipped, read_skipped
from sigma_pipeline.jobs.train import run_train
from sigma_pipeline.jobs.train_request import TrainRequest
from tests.jobs.train_runs import at_step, curve, ruin_steps, wish_to_stop

pytestmark = [
    pytest.mark.usefixtures("one_rank"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of DeepSpeed's, from torch 2.13
]

MakeRequest = Callable[..., TrainRequest]


def ruined(state: dict[str, torch.Tensor]) -> list[tuple[str, torch.Tensor]]:
    """Weights of which one number is infinite."""
    state = {name: tensor.clone() for name, tensor in state.items()}
    state["encoder.blocks.1.mlp.fc1.weight"][0, 0] = math.inf
    return list(state.items())


def test_ranks_hosts_and_samples_are_named() -> None:
    well, bad = Share(0, "n1", (1.0,), ("a",)), Share(3, "n2", (math.nan,), ("b", "c", "b"))

    assert describe_bad_step(7, [well, bad]) == (
        "step 7: the loss on rank 3 (host n2) was not finite, so the update was not applied. "
        "The samples: b, c"
    )
    many = Share(1, "n1", (1.0,), tuple(f"k{number}" for number in range(22)))
    text = describe_bad_step(7, [well, many])
    assert "a gradient (and no rank's loss) was not finite" in text
    assert text.endswith("k18 and 3 more")


def test_a_bad_step_is_kept_and_its_replay_names_the_layer(
    storage: Storage,
    make_request: MakeRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        bad_steps, "whole_weights", lambda engine: ruined(engine.module.state_dict())
    )
    ruin_steps(monkeypatch, 3)
    result = run_train(make_request())

    assert result["state"] == "finished"
    (message,) = (line for line in capsys.readouterr().err.splitlines() if "step 3: the" in line)
    assert message.endswith("checkpoints replay 3 (1 in a row)")
    lines = list(replay_step(storage, "tiny", 3))
    assert "step 3" in lines[0].lower()
    assert "not finite: encoder.blocks.1.mlp.fc1.weight" in lines[1]
    keys = read_json(storage, next(k for k in storage.list("runs") if "rank-00000.json" in k))
    assert all(key in message for key in keys["keys"])
    found = [line for line in lines if "first in the output of encoder.blocks.1.mlp.fc" in line]
    assert len(found) == 8
    assert lines[-1] == "  fp32: 0 of 8 clips are finite, gradients too."


def test_a_replay_says_what_is_finite_now_in_float32_and_in_the_precision_of_the_run(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    ruin_steps(monkeypatch, 2)
    run_train(make_request(precision="bf16_autocast"))

    lines = list(replay_step(storage, "tiny", 2))

    assert "all are finite" in lines[1]
    assert lines[-2:] == [
        "  fp32: 8 of 8 clips are finite, gradients too.",
        "  bf16_autocast: 8 of 8 clips are finite, gradients too.",
    ]
    with pytest.raises(MissingInputError, match="kept nothing of step 5"):
        list(replay_step(storage, "tiny", 5))


def test_a_dump_that_fails_is_a_warning(
    storage: Storage,
    make_request: MakeRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write = LocalStorage.write

    def refuse(self: LocalStorage, key: str, data: bytes) -> None:
        if "bad-steps" in key:
            raise OSError("no space left")
        write(self, key, data)

    monkeypatch.setattr(LocalStorage, "write", refuse)
    ruin_steps(monkeypatch, 2)

    assert run_train(make_request())["state"] == "finished"
    assert "of step 2 could not be kept for replay: no space left" in capsys.readouterr().err


def test_a_run_goes_back_and_leaves_the_bad_batches_out(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = ruin_steps(monkeypatch, 3, 4)

    result = run_train(
        make_request(after_bad_steps="roll_back", max_bad_steps=2, commit_every_steps=2)
    )

    # Steps 1 to 4, then from the commit after step 2 on steps 5 and 6 alone.
    assert (result["state"], len(calls)) == ("finished", 6)
    assert read_skipped(storage, "tiny") == {3, 4}
    commit = newest_commit(storage, "tiny")
    assert (commit.step, commit.optimizer_steps) == (6, 4)
    assert commit.ledger["lost_s"] > 0
    entries, _ = read_entries(storage, "tiny")
    skipped: dict[int, Any] = {
        entry.fields["step"]: entry.fields["values"]["train/skipped_batches"]
        for entry in entries
        if entry.kind == "metrics"
    }
    assert (skipped[2], skipped[6]) == (0, 2)


def test_a_run_that_keeps_going_wrong_after_going_back_is_given_up(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = ruin_steps(monkeypatch, *range(1, 99))

    with pytest.raises(StageError, match="went back to step 0 3 times before, and left out 3 bat"):
        run_train(make_request(after_bad_steps="roll_back", max_bad_steps=1))

    assert len(calls) == 4
    assert read_skipped(storage, "tiny") == {1, 2, 3}


def test_roll_backs_to_a_commit_are_counted_over_attempts(storage: Storage) -> None:
    for number in range(3):
        mark_skipped(storage, "tiny", f"attempt-{number}", [2 * number, 2 * number + 1], "bad")

    with pytest.raises(StageError, match="3 times before"):
        mark_skipped(storage, "tiny", "attempt-4", [9], "bad")


def test_nothing_is_committed_between_a_bad_step_and_the_next_good_one(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    ruin_steps(monkeypatch, 2, 4)

    run_train(make_request(commit_every_steps=1))

    assert [commit.step for commit in list_commits(storage, "tiny")] == [0, 1, 3, 5, 6]
    assert [math.isfinite(loss) for loss, _ in curve(storage).values()].count(False) == 2


def test_a_stop_during_bad_steps_is_committed_where_the_weights_are_finite(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    ruin_steps(monkeypatch, 3, 4)
    at_step(monkeypatch, 2, wish_to_stop)

    result = run_train(make_request(commit_every_steps=1000))

    assert (result["state"], result["step"]) == ("stopped", 4)
    commit = newest_commit(storage, "tiny")
    assert (commit.step, commit.optimizer_steps) == (4, 2)


def test_a_stop_with_weights_that_are_not_finite_stays_at_the_commit_before(
    storage: Storage, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, 0, wish_to_stop)
    rate = train_loop.learning_rate
    monkeypatch.setattr(
        train_loop, "learning_rate", lambda step, *rest: math.inf * (rate(step, *rest) >= 0)
    )

    result = run_train(make_request(commit_every_steps=1000))

    (attempt,) = read_attempts(storage, "tiny")
    assert (result["state"], result["step"], attempt.end.step) == ("stopped", 0, 0)
    assert newest_commit(storage, "tiny").step == 0


@dataclass(frozen=True)
class OfACell:
    """What a cell learns; here by the objective of pre-training."""

    pretraining: TrainRequest

    def objective(self) -> Objective:
        """See ``Learning``."""
        return self.pretraining.objective()


def test_a_cell_that_is_given_up_is_told_what_it_can_set(
    make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_request(max_bad_steps=2)
    ruin_steps(monkeypatch, 1, 2)

    with pytest.raises(StageError, match="Lower base_lr in the settings of this cell") as caught:
        run_train(replace(request, learning=OfACell(request)))

    assert "train." not in str(caught.value)
