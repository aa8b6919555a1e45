"""What every node must have before training begins there, and what it begins with."""

import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs import teacher_on_nodes
from sigma_pipeline.jobs.commits import list_commits
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.sigma_objective import SigmaObjective
from sigma_pipeline.jobs.teacher_on_nodes import require_teacher
from sigma_pipeline.jobs.train import run_train
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.jobs.train_start import prepare_start
from sigma_pipeline.model.config import TargetConfig

MakeRequest = Callable[..., TrainRequest]
WEIGHTS_SHA256 = sha256(b"weights").hexdigest()
MISSING = r"model\.target\.teacher_weights=/nowhere/dino\.pth does not exist"


@dataclass(frozen=True)
class Ranks:
    """Stands for a rank among others: what they have found is known."""

    others: tuple[tuple[str, str], ...] = ()
    local_rank: int = 0

    def all_gather(self, value: Any) -> list[Any]:
        """As ``RankContext`` does."""
        return [*self.others, value]


def teacher_at(path: Path | str) -> TargetConfig:
    return TargetConfig(kind="dino", teacher="dino_s", teacher_weights=str(path))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file that is there."""
    path = tmp_path / "dino.pth"
    path.write_bytes(b"weights")
    return path


@pytest.mark.usefixtures("one_rank")
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of DeepSpeed's, from torch 2.13
def test_training_does_not_begin_on_a_node_that_cannot_read_the_teacher(
    storage: Storage, make_request: MakeRequest
) -> None:
    target = teacher_at("/nowhere/dino.pth").model_dump()
    request = make_request(model={"target": target})

    with pytest.raises(StageError, match=f"on {socket.gethostname()}: {MISSING}.*all nodes see it"):
        run_train(request)

    assert list_commits(storage, "tiny") == []


def test_a_rank_that_can_read_the_teacher_ends_with_those_that_cannot(weights: Path) -> None:
    gone, other = (f"target.teacher_weights={weights} {end}" for end in ("does not exist", "is"))
    ranks: Any = Ranks((("node-3", gone), ("node-3", gone), ("node-2", other), ("node-1", gone)))

    with pytest.raises(
        StageError, match=rf"used on node-1, node-3: model\.{gone}; on node-2: model\.{other};"
    ):
        require_teacher(teacher_at(weights), WEIGHTS_SHA256, ranks)


def test_training_does_not_begin_where_a_node_has_another_teacher_at_the_same_path(
    weights: Path,
) -> None:
    weights.write_bytes(b"others")
    ranks: Any = Ranks()

    with pytest.raises(StageError) as caught:
        require_teacher(teacher_at(weights), WEIGHTS_SHA256, ranks)

    others_sha256 = sha256(b"others").hexdigest()
    assert (
        f"on {socket.gethostname()}: model.target.teacher_weights={weights} has sha256 "
        f"{others_sha256}, and {WEIGHTS_SHA256} where it was launched" in str(caught.value)
    )


def test_only_the_first_rank_of_a_node_reads_the_teacher(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = mock.Mock(return_value=WEIGHTS_SHA256)
    monkeypatch.setattr(teacher_on_nodes, "teacher_sha256", read)

    for local_rank in range(3):
        ranks: Any = Ranks(local_rank=local_rank)
        require_teacher(teacher_at(weights), WEIGHTS_SHA256, ranks)

    read.assert_called_once()


def test_a_teacher_that_all_can_read_is_no_reason_to_end(
    weights: Path, one_rank: RankContext
) -> None:
    require_teacher(teacher_at(weights), WEIGHTS_SHA256, one_rank)
    require_teacher(TargetConfig(kind="mlp"), None, one_rank)


class Decayed(SigmaObjective):
    """Pre-training in which each layer has a rate of its own."""

    def lr_scale(self, name: str) -> float:
        """See ``Objective``."""
        return 0.25 if name.startswith("encoder.blocks.0") else 0.5


@dataclass(frozen=True)
class LearnsDecayed:
    """See ``Learning``."""

    request: TrainRequest

    def objective(self) -> Decayed:
        """See ``Learning``."""
        return Decayed(self.request.model, self.request.seed, clip=self.request.train.clip)


def scales_of(request: TrainRequest, context: RankContext, storage: Storage) -> dict[str, float]:
    """Of each parameter, as the optimizer has them when training begins."""
    engine = prepare_start(request, context, storage).engine
    names = {id(parameter): name for name, parameter in engine.module.named_parameters()}
    optimizer = engine.optimizer
    groups = zip(optimizer.param_groups, optimizer.bit16_groups, strict=True)
    return {
        names[id(parameter)]: group["lr_scale"]
        for group, parameters in groups
        for parameter in parameters
    }


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of DeepSpeed's, from torch 2.13
def test_the_optimizer_has_the_rate_that_is_given_to_each_layer(
    storage: Storage, make_request: MakeRequest, one_rank: RankContext
) -> None:
    request = make_request()

    scales = scales_of(replace(request, learning=LearnsDecayed(request)), one_rank, storage)

    decayed = {name for name, scale in scales.items() if scale == 0.25}
    assert decayed == {name for name in scales if name.startswith("encoder.blocks.0")} != set()
    assert {scale for name, scale in scales.items() if name not in decayed} == {0.5}


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of DeepSpeed's, from torch 2.13
def test_the_optimizer_has_the_rate_of_the_target_network(
    storage: Storage, make_request: MakeRequest, one_rank: RankContext
) -> None:
    settings = {"base_lr": 3e-2, "warmup_epochs": 1, "target_lr_scale": 0.1}

    scales = scales_of(make_request(optimizer=settings), one_rank, storage)

    slow = {name for name, scale in scales.items() if scale == 0.1}
    assert slow == {name for name in scales if name.startswith(("head.", "prototypes"))} != set()
    assert {scale for name, scale in scales.items() if name not in slow} == {1.0}
