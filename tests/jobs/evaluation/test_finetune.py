"""Full fine-tuning from a commit to scores, with a tiny encoder, in this process."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from sigma_pipeline.data_prep.config import AugmentConfig, ClipConfig, MultiViewConfig, ViewConfig
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.mixing import Mixing
from sigma_pipeline.infra.errors import Interrupted, StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmarks import finetune
from sigma_pipeline.jobs.benchmarks.benchmark import Subject
from sigma_pipeline.jobs.benchmarks.fine_tuning import CURVE, fine_tune, training_config
from sigma_pipeline.jobs.benchmarks.finetune import FullFineTuning
from sigma_pipeline.jobs.benchmarks.gang import OwnProcess
from sigma_pipeline.jobs.cells import CellRecord
from sigma_pipeline.jobs.checkpoints import load_weights
from sigma_pipeline.jobs.commits import (
    COMMIT_FILE,
    WEIGHTS_FILE,
    Commit,
    committed_steps,
    newest_commit,
)
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.fine_tuned_export import FILE, export_fine_tuned, find_fine_tuned
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.optimizer import learning_rate
from sigma_pipeline.jobs.scoring import run_cell
from sigma_pipeline.model.checkpoint_files import read_checkpoint
from tests.jobs.evaluation.in_turn import InTurn
from tests.jobs.evaluation.subjects import trained_subject
from tests.jobs.train_runs import at_step

pytestmark = [
    pytest.mark.usefixtures("one_rank", "one_thread"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of DeepSpeed's, from torch 2.13
]
VIEW = MultiViewConfig(sampling="segments", segments=2, crops=1, crop="centre")
NAME = "r1/evaluate/step-00000000/finetune/squares/0-f.training"
QUICK: dict[str, Any] = {
    "epochs": 6,
    "warmup_epochs": 1,
    "batch_videos": 8,
    "base_lr": 0.3,
    "augment_operations": 0,
    "mixup_alpha": 0,
    "cutmix_alpha": 0,
}
MakeSubject = Callable[..., Subject]


@pytest.fixture
def make_subject(
    storage: Storage, add_commit: Callable[..., Commit], tmp_path: Path
) -> MakeSubject:
    """Squares of three colours, and an untrained encoder."""
    source = committed_encoder(add_commit(0))

    def make(**changes: Any) -> Subject:
        splits = DatasetRef("squares", "train", "v1"), DatasetRef("squares", "val", "v1")
        fields = {"view": VIEW, "training_name": NAME} | changes
        return trained_subject(storage, source, splits, tmp_path, **fields)

    return make


def test_encoder_and_head_are_trained_scored_and_kept(
    make_subject: MakeSubject, storage: Storage
) -> None:
    subject = make_subject()

    result = FullFineTuning(**QUICK).scores_of(subject, seed=0)

    assert {score.name: score.value > 0.8 for score in result.scores} == {
        "top1": True,
        "mean_class": True,
    }
    assert result.outcomes["key"] == [f"val-{number}" for number in range(12)]
    assert [type(figure).__name__ for figure in result.figures] == ["Confusion", "ClassBars"]
    kept = safetensors.torch.load(result.files[FILE])
    weight = "blocks.0.attn.qkv.weight"
    assert not torch.equal(kept[f"encoder.{weight}"], subject.encoder.state_dict()[weight])
    steps, losses = zip(
        *(line.split(",")[:2] for line in result.files[CURVE].decode().splitlines()), strict=True
    )
    assert steps == ("step", "10", "18")
    assert float(losses[-1]) < float(losses[1])
    commit = newest_commit(storage, NAME)
    assert commit is not None
    assert commit.step == 18  # the last one is tested


def test_a_cell_keeps_weights_and_pictures_and_nothing_else_of_its_training(
    storage: Storage,
    add_commit: Callable[..., Commit],
    make_request: Callable[..., EvaluateRequest],
) -> None:
    cell = {"benchmark": "finetune", "dataset": "squares", "settings": QUICK | {"epochs": 1}}
    view = VIEW.model_dump(mode="json")
    grid = plan_grid(storage, make_request(cell | {"view": view}, pictures=True))
    (planned,) = grid.trials
    (one,) = planned.cells("r1", committed_encoder(add_commit(0)))

    run_cell(storage, grid.cell_request(planned, one))

    record = CellRecord.read(storage, one)
    assert record is not None
    names = {key.partition(f".{record.attempt}/")[2] for key in record.files}
    assert names == {FILE, CURVE, "figures/confusion.png", "figures/class_bars.png"}
    kept = {one.key, record.outcomes, *record.files}
    assert set(storage.list(one.stem.rpartition("/")[0])) == kept
    export_fine_tuned(
        storage, find_fine_tuned(storage, "r1", "squares"), "official", Path(storage.root_uri, "x")
    )
    assert read_checkpoint(Path(storage.root_uri, "x")).kind == "fine-tuned classifier"


def test_with_mixing_and_dropout_equal_seeds_give_equal_weights_however_batches_are_cut(
    make_subject: MakeSubject,
) -> None:
    mixed = {"epochs": 2, "mixup_alpha": 0.8, "drop_path": 0.3, "dropout": 0.3}
    probe = FullFineTuning(**QUICK | mixed | {"clips_per_video": 2})

    def weights(name: str, seed: int, batch_clips: int) -> dict[str, torch.Tensor]:
        subject = make_subject(training_name=f"{NAME}-{name}", batch_clips=batch_clips)
        return safetensors.torch.load(probe.scores_of(subject, seed).files[FILE])

    whole, cut, other = weights("whole", 0, 999), weights("cut", 0, 32), weights("other", 1, 999)

    name = "classifier.head.weight"
    torch.testing.assert_close(cut[name], whole[name], rtol=0, atol=1e-4)
    assert (other[name] - whole[name]).abs().max() > 1e-3


def test_an_attempt_that_failed_is_gone_on_with_to_the_same_weights(
    make_subject: MakeSubject, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = FullFineTuning(**QUICK | {"drop_path": 0.3})
    undisturbed = probe.scores_of(make_subject(training_name="undisturbed"), 0)

    def fail() -> None:
        raise StageError("the node is gone")

    at_step(monkeypatch, 10, fail)
    with pytest.raises(StageError, match="the node is gone"):
        probe.scores_of(make_subject(), 0)
    before = committed_steps(storage, NAME)
    resumed = probe.scores_of(make_subject(), 0)

    assert before == [6, 9]  # no more than two are kept
    kept, expected = (safetensors.torch.load(one.files[FILE]) for one in (resumed, undisturbed))
    assert all(torch.equal(kept[name], expected[name]) for name in expected)
    assert resumed.scores == undisturbed.scores


@pytest.mark.parametrize("file", [WEIGHTS_FILE, COMMIT_FILE])
def test_a_training_whose_last_commit_is_damaged_goes_on_from_the_one_before(
    make_subject: MakeSubject, storage: Storage, file: str
) -> None:
    subject, probe = make_subject(), FullFineTuning(**QUICK | {"epochs": 3})
    tuning = probe._tuning(subject, 8, 0)
    config = training_config(subject, tuning, probe.recipe(8), num_videos=24)
    whole = fine_tune(subject, tuning, config)
    storage.write(f"{whole.prefix}/{file}", b"{")

    again = fine_tune(subject, tuning, config)

    assert (again.step, again.weights_sha256) == (9, whole.weights_sha256)
    assert again.attempt != whole.attempt
    assert load_weights(storage, again)


def test_a_training_that_was_stopped_raises_so_that_its_cell_is_begun_again(
    make_subject: MakeSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, probe = make_subject(), FullFineTuning(**QUICK)
    stopped = {"state": "stopped", "step": 7, "commit": "c", "reason": "the limit comes near"}
    monkeypatch.setattr(OwnProcess, "run", lambda *_: [stopped])
    tuning = probe._tuning(subject, 8, 0)
    config = training_config(subject, tuning, probe.recipe(8), num_videos=24)

    with pytest.raises(Interrupted, match="stopped at step 7: the limit comes near"):
        fine_tune(subject, tuning, config)


def test_views_are_merged_by_the_mean_of_their_probabilities(
    make_subject: MakeSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = make_subject()
    unsure, sure = [0.0, 1.0, 0.0], [9.0, 0.0, 1.0]  # mean of logits and of votes: others
    logits = np.array([[unsure, unsure, sure]] * len(subject.test), np.float32)
    monkeypatch.setattr(finetune, "fine_tune", lambda *_: None)
    monkeypatch.setattr(finetune, "view_outputs", lambda *_: logits)

    result = FullFineTuning(keeps_weights=False).scores_of(subject, seed=0)

    shares = torch.from_numpy(logits[0]).softmax(dim=1).mean(dim=0)
    assert shares.argmax() == 0
    assert set(result.outcomes["prediction"]) == {0}
    assert list(result.files) == [CURVE]


def test_only_labelled_samples_are_learned_from_and_scored(make_subject: MakeSubject) -> None:
    subject = make_subject(train_positions=tuple(range(4, 20)))
    assert subject.train is not None
    rows = [
        replace(row, label=None, class_name=None) if number < 2 else row
        for number, row in enumerate(subject.train.rows[4:20])
    ]
    train = Index(subject.train.ref, subject.train.classes, subject.train.root_hash, rows)
    probe = FullFineTuning(**QUICK | {"epochs": 1, "batch_videos": 32})

    result = probe.scores_of(replace(subject, train=train), seed=0)

    assert probe._tuning(replace(subject, train=train), 14, 0).positions == tuple(range(6, 20))
    assert result.notes == (
        "2 of 16 train samples have no label: left out",
        "batch_videos=32 is more than the 14 training videos: 14 a step, and the learning rate as "
        "much lower",
    )
    nobody = Index(train.ref, train.classes, "0", rows[:2])
    with pytest.raises(ValueError, match="the train split has no labelled sample"):
        probe.scores_of(replace(subject, train=nobody), seed=0)


def test_a_gang_that_cannot_share_a_step_is_told_which_can(make_subject: MakeSubject) -> None:
    subject = make_subject(gang=InTurn(3))
    probe = FullFineTuning(batch_videos=8)

    with pytest.raises(ValueError, match=r"3 processes cannot share the 8 .* one of 1, 2, 4"):
        training_config(
            subject, probe._tuning(subject, 8, 0), probe.recipe(8), num_videos=24, unit=2
        )


def test_defaults_are_those_of_the_published_script_for_k400(make_subject: MakeSubject) -> None:
    probe, view = FullFineTuning(), FullFineTuning().needs.view
    subject = make_subject(view=view, batch_clips=32)
    tuning = probe._tuning(subject, 32, seed=0)
    train = training_config(subject, tuning, probe.recipe(32), num_videos=1000, unit=2)

    assert view == MultiViewConfig(sampling="dense", frame_stride=4, segments=5, crops=3)
    assert (train.epochs, train.global_batch_clips, train.micro_batch_clips) == (100, 32, 4)
    assert (tuning.layer_decay, tuning.drop_path, tuning.dropout) == (0.75, 0.1, 0.0)
    assert tuning.mixing == Mixing(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1)
    assert tuning.clip == ClipConfig(
        sampling="dense",
        frame_stride=4,
        starts="any",
        crop="random_resized",
        flip_probability=0.5,
        augment=AugmentConfig(operations=4, magnitude=7, erase_probability=0.25),
    )
    optimizer = train.optimizer
    assert (optimizer.weight_decay, optimizer.betas, optimizer.eps) == (0.05, (0.9, 0.999), 1e-8)
    rates = [learning_rate(step, optimizer, 10, train.epochs, 32) for step in (0, 25, 50, 1000)]
    assert rates == pytest.approx([0, 1.25e-4 / 2, 1.25e-4, 1.25e-7])


def test_the_rate_counts_videos_not_the_clips_cut_from_each(make_subject: MakeSubject) -> None:
    subject = make_subject(view=ViewConfig(sampling="segments"))
    peaks = []
    for probe in (FullFineTuning(), FullFineTuning(clips_per_video=2)):
        tuning = probe._tuning(subject, 32, seed=0)
        train = training_config(subject, tuning, probe.recipe(32), num_videos=64, unit=2)
        clips = train.global_batch_clips
        peaks.append((clips, learning_rate(5, train.optimizer, 1, train.epochs, clips)))

    assert peaks == [(32, pytest.approx(1.25e-4)), (64, pytest.approx(1.25e-4))]
    assert tuning.clip.sampling == "segments"
