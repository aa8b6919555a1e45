"""A commit holds whole float32 weights, and their canary loss, at every stage and precision."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.canary import canary_loss, load_canary
from sigma_pipeline.jobs.commits import list_commits, load_weights
from sigma_pipeline.jobs.train import run_train
from sigma_pipeline.jobs.train_request import TrainRequest
from sigma_pipeline.model import teachers
from sigma_pipeline.model.config import TargetConfig
from sigma_pipeline.model.sigma import Sigma
from sigma_pipeline.model.teacher_source import teacher_sha256
from sigma_pipeline.model.weights import restore_weights
from tests.model.teacher_files import use_small_shapes, write_folder

pytestmark = [
    pytest.mark.usefixtures("one_rank"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of DeepSpeed's, from torch 2.13
]

MakeRequest = Callable[..., TrainRequest]


@pytest.mark.parametrize(
    ("stage", "precision"), [(1, "fp32"), (1, "bf16"), (3, "fp32"), (3, "bf16_autocast")]
)
def test_the_canary_loss_is_that_of_the_committed_weights_in_float32(
    storage: Storage, make_request: MakeRequest, stage: int, precision: str
) -> None:
    request = make_request(zero_stage=stage, precision=precision, epochs=1)

    run_train(request)

    commits = list_commits(storage, "tiny")
    assert [commit.step for commit in commits] == [0, 2]
    for commit in commits:
        weights = load_weights(storage, commit)
        model = Sigma(request.model)
        restore_weights(model, weights)
        assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
        assert canary_loss(model, load_canary(storage, "tiny")) == commit.canary_loss


@pytest.mark.parametrize(("stage", "precision"), [(1, "bf16_autocast"), (3, "bf16")])
def test_a_frozen_teacher_is_read_once_and_is_in_no_commit(
    storage: Storage,
    make_request: MakeRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: int,
    precision: str,
) -> None:
    use_small_shapes(monkeypatch)
    write_folder(tmp_path / "dino", "dino_s")
    read: list[TargetConfig] = []
    load_teacher = teachers.load_teacher

    def count(target: TargetConfig) -> torch.nn.Module:
        read.append(target)
        return load_teacher(target)

    monkeypatch.setattr(teachers, "load_teacher", count)
    target = {"kind": "dino", "teacher": "dino_s", "teacher_weights": str(tmp_path / "dino")}
    known_as = teacher_sha256(TargetConfig.model_validate(target))
    settings = {"zero_stage": stage, "precision": precision, "epochs": 1}

    run_train(make_request(model={"target": target}, teacher_sha256=known_as, **settings))

    assert len(read) == 1
    for commit in list_commits(storage, "tiny"):
        assert not any(name.startswith("head") for name in load_weights(storage, commit))
