"""A snapshot is of its step, at every stage and precision, whatever training does meanwhile."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.jobs.checkpoints import optimizer_state
from sigma_pipeline.jobs.commit_snapshot import Snapshot
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.engine import build_engine
from sigma_pipeline.jobs.masters import owned_fragments, whole_weights
from sigma_pipeline.jobs.sigma_objective import SigmaObjective
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.jobs.train_step import TrainStep
from sigma_pipeline.model.sigma import build_sigma

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of DeepSpeed's, from torch 2.13

MakeRequest = Callable[..., TrainRequest]
MakeBatches = Callable[[int], list[Batch]]
RATE = 3e-3


def state_of(engine: Any) -> dict[str, Tensor]:
    """Weights and moments as they are now."""
    state = optimizer_state(engine)
    moments = {
        f"{moment}/{fragment.parameter}": fragment.of(state[fragment.flat][moment]).clone()
        for fragment in owned_fragments(engine)
        for moment in ("exp_avg", "exp_avg_sq")
        if fragment.flat in state
    }
    return moments | {name: weight.clone() for name, weight in whole_weights(engine)}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize(
    ("stage", "precision"),
    [(1, "fp32"), (2, "bf16_autocast"), (3, "fp32"), (1, "bf16"), (2, "bf16"), (3, "bf16")],
)
def test_the_next_update_waits_for_a_slow_copy(
    one_rank: RankContext,
    make_request: MakeRequest,
    make_batches: MakeBatches,
    stage: int,
    precision: str,
) -> None:
    request = make_request(zero_stage=stage, precision=precision)
    engine = build_engine(build_sigma(request.model, 0), request.train, 2, one_rank.device)
    snapshot, at_update = Snapshot(engine, has_weights=True), threading.Event()

    def before_update() -> None:
        at_update.set()
        snapshot.wait()

    def copy_late() -> None:
        assert at_update.wait(60)
        time.sleep(0.05)  # in which an update that does not wait would be made
        snapshot.copy()

    step = TrainStep(
        engine, one_rank, SigmaObjective(request.model, 0), before_update=before_update
    )
    for _ in range(2):
        step(make_batches(4), RATE)
    before = state_of(engine)
    at_update.clear()

    snapshot.begin()
    copying = threading.Thread(target=copy_late)
    copying.start()
    step(make_batches(4), RATE)
    copying.join()

    assert snapshot.optimizer_steps == 2
    assert equal({**snapshot.moments, **snapshot.weights}, before)
    assert not equal(state_of(engine), before)


def test_the_memory_of_a_snapshot_is_used_again(
    one_rank: RankContext, make_request: MakeRequest, make_batches: MakeBatches
) -> None:
    request = make_request(zero_stage=3)
    engine = build_engine(build_sigma(request.model, 0), request.train, 2, one_rank.device)
    snapshot = Snapshot(engine, has_weights=True)
    step = TrainStep(engine, one_rank, SigmaObjective(request.model, 0))
    places = []
    for _ in range(3):
        step(make_batches(4), RATE)
        snapshot.begin()
        snapshot.copy()
        held = {**snapshot.moments, **snapshot.weights}
        places.append({name: tensor.data_ptr() for name, tensor in held.items()})
        assert equal(held, state_of(engine))

    assert places[0] == places[1] == places[2]


def test_an_untrained_model_has_no_optimizer_state(
    one_rank: RankContext, make_request: MakeRequest
) -> None:
    request = make_request()
    engine = build_engine(build_sigma(request.model, 0), request.train, 2, one_rank.device)
    snapshot = Snapshot(engine, has_weights=False)

    snapshot.begin()
    snapshot.copy()

    assert (snapshot.optimizer_steps, snapshot.moments, snapshot.weights) == (0, {}, {})


def test_a_copy_that_fails_does_not_hold_training_up(
    one_rank: RankContext, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_request()
    engine = build_engine(build_sigma(request.model, 0), request.train, 2, one_rank.device)
    snapshot = Snapshot(engine, has_weights=True)
    snapshot.begin()
    snapshot._copies.append((torch.zeros(2), torch.zeros(3)))

    with pytest.raises(RuntimeError, match="size"):
        snapshot.copy()

    snapshot.wait()
