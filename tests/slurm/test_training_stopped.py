"""Training that SLURM or a person stops on its way: all is saved, and it goes on, or does not."""

import pytest

from tests.slurm.conftest import MakeTrial, Shared
from tests.slurm.trial import TOTAL_STEPS, Trial

pytestmark = pytest.mark.slow


def require_seamless(trial: Trial, attempts: int) -> None:
    """Each attempt was stopped but the last, and the next one began with the very next step."""
    starts = [record["from_step"] for record in trial.records("train/attempts").values()]
    ends = trial.records("train/ends").values()
    assert [end["state"] for end in ends] == ["stopped"] * (attempts - 1) + ["finished"]
    assert starts == [0, *(end["step"] for end in ends)][:-1]


def test_training_longer_than_its_time_limit_goes_on_by_itself(
    make_trial: MakeTrial, shared: Shared
) -> None:
    trial = make_trial({"launch": {"train": {"timeout_min": 1}}}, network="5mbit")
    job_id = trial.submit()

    trial.wait_for_end()

    ends = list(trial.records("train/ends").values())
    assert len(ends) > 1, "its time limit was not short enough to show anything"
    require_seamless(trial, attempts=len(ends))
    reasons = {reason for end in ends[:-1] for reason in end["reason"].split("; ")}
    # SLURM looks at limits every half minute, so its own word for it may come first.
    assert reasons <= {"the time limit of the job comes near", "signal SIGUSR2"}
    assert trial.curve() == shared.undisturbed
    assert trial.submitted("train") == [job_id]
    assert f"finished at step {TOTAL_STEPS}" in trial.status()


def test_preempted_training_gives_way_and_goes_on(make_trial: MakeTrial, shared: Shared) -> None:
    trial = make_trial({"launch": {"partition": "low"}})
    trial.submit()
    trial.wait_for_step(10)

    trial.claim_nodes(partition="main")

    trial.wait_for_end()
    require_seamless(trial, attempts=2)
    assert trial.curve() == shared.undisturbed


def test_training_that_is_requeued_by_hand_goes_on(make_trial: MakeTrial, shared: Shared) -> None:
    trial = make_trial()
    job_id = trial.submit()
    trial.wait_for_step(20)

    trial.cluster.ask("scontrol", "requeue", job_id)

    trial.wait_for_end()
    require_seamless(trial, attempts=2)
    assert trial.curve() == shared.undisturbed


def test_cancelled_training_leaves_nothing_running_and_goes_on_when_told(
    make_trial: MakeTrial, shared: Shared
) -> None:
    trial = make_trial()
    job_id = trial.submit()
    trial.wait_for_step(10)

    trial.cluster.ask("scancel", job_id)

    trial.wait_for_end()
    assert trial.cluster.processes(job_id, trial.nodes) == {}
    (end,) = trial.records("train/ends").values()
    assert (end["state"], end["step"]) == ("stopped", trial.newest_step())
    assert 10 < end["step"] < TOTAL_STEPS
    status = f"select status from runs where name = '{trial.run_name}'"
    assert trial.tracked(status) == [("KILLED",)]
    assert f"cancelled; committed up to step {end['step']} of {TOTAL_STEPS}" in trial.status()

    trial.submit()

    trial.wait_for_end()
    require_seamless(trial, attempts=2)
    assert trial.curve() == shared.undisturbed
    assert trial.tracked(status) == [("FINISHED",)]


def test_training_goes_on_with_other_numbers_of_nodes(
    make_trial: MakeTrial, shared: Shared
) -> None:
    trial = make_trial(nodes=4, network="6mbit")
    trial.submit()
    for step, nodes in ((10, 4), (30, 1)):
        trial.wait_for_step(step)
        cancelled = trial.command("cancel")
        assert cancelled.returncode == 0, cancelled.stderr
        trial.wait_for_end()
        trial.submit(overrides=[f"launch.train.nodes={nodes}"])

    trial.wait_for_end()

    require_seamless(trial, attempts=3)
    attempts = trial.records("train/attempts").values()
    assert [attempt["world_size"] for attempt in attempts] == [2, 4, 1]
    losses = {step: loss for step, (loss, _) in trial.curve().items()}
    expected = {step: loss for step, (loss, _) in shared.undisturbed.items()}
    assert losses == pytest.approx(expected, rel=1e-4)
    # Another order of samples would show: from step to step, the loss changes by more than that.
    changes = [abs(expected[step] / expected[step - 1] - 1) for step in range(2, TOTAL_STEPS + 1)]
    assert sorted(changes)[len(changes) // 10] > 1e-3
