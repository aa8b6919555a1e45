"""The linear probe on augmented clips, from an index to scores, with a tiny frozen encoder."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sigma_pipeline.data_prep.config import (
    AugmentConfig,
    ClipConfig,
    MultiViewConfig,
    ViewConfig,
)
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.mixing import Mixing, order_of_pairs
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmarks.augmented_training import (
    FrozenFeatures,
)
from sigma_pipeline.jobs.benchmarks.benchmark import EncoderBenchmark, Subject
from sigma_pipeline.jobs.benchmarks.figures import Confusion
from sigma_pipeline.jobs.benchmarks.gang import OwnProcess
from sigma_pipeline.jobs.benchmarks.linear_augmented import AugmentedLinearProbe
from sigma_pipeline.jobs.benchmarks.table import build_benchmark
from sigma_pipeline.jobs.benchmarks.unfinished_head import UnfinishedHead
from sigma_pipeline.jobs.decoded import decoders
from sigma_pipeline.jobs.encoders import EncoderSource
from sigma_pipeline.jobs.optimizer import learning_rate
from sigma_pipeline.model.classifier import ClassHead
from sigma_pipeline.model.sigma import build_sigma
from tests.jobs.evaluation.conftest import MODEL

pytestmark = pytest.mark.usefixtures("one_thread")
VIEW = MultiViewConfig(sampling="segments", segments=2, crops=1, crop="centre")
QUICK: dict[str, Any] = {
    "epochs": 2,
    "warmup_epochs": 1,
    "batch_videos": 8,
    "base_lr": 1.0,
    "augment_operations": 0,
}


@pytest.fixture
def make_subject(storage: Storage, tmp_path: Path) -> Callable[..., Subject]:
    """Squares of three colours, of which even random weights see the colour."""

    def make(**changes: Any) -> Subject:
        subject = Subject(
            encoder=build_sigma(MODEL, seed=1).encoder.eval(),
            storage=storage,
            train=Index.load(storage, DatasetRef("squares", "train", "v1")),
            test=Index.load(storage, DatasetRef("squares", "val", "v1")),
            view=VIEW,
            pooling="mean",
            precision="fp32",
            batch_clips=8,
            scratch_dir=tmp_path,
            work_dir=tmp_path,
            source=EncoderSource("step-00000000", 0, "none", "0", {}),
            gang=OwnProcess(),
            training_name="tiny",
        )
        return replace(subject, **changes)

    return make


def test_a_head_is_trained_and_scored_while_the_encoder_stays_as_it_is(
    make_subject: Callable[..., Subject],
) -> None:
    subject = make_subject()
    before = copy.deepcopy(subject.encoder.state_dict())
    probe = build_benchmark("linear_augmented", QUICK | {"epochs": 10})
    assert isinstance(probe, EncoderBenchmark)

    result = probe.scores_of(subject, seed=0)

    assert result.scores[0].value > 0.6
    assert result.outcomes["key"] == [f"val-{number}" for number in range(12)]
    assert result.figures == (Confusion(result.outcomes["label"], result.outcomes["prediction"]),)
    after = subject.encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not subject.encoder.training


def test_equal_seeds_give_the_same_result_however_the_batch_is_cut(
    make_subject: Callable[..., Subject],
) -> None:
    probe = AugmentedLinearProbe(**QUICK | {"augment_operations": 2, "drop_path": 0.3})

    def predictions(seed: int, **changes: Any) -> Any:
        result = probe.scores_of(make_subject(**changes), seed)
        return result.outcomes["prediction"], result.notes

    first = predictions(0)

    assert first == predictions(0)
    assert first == predictions(0, batch_clips=16)


class Epochs:
    """Heads after each epoch of the trainings that are watched; ends them after one, if told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kept: list[tuple[int, dict[str, torch.Tensor]]] = []
        self.last: int | None = None
        save = UnfinishedHead.save

        def watched(
            unfinished: UnfinishedHead, head: ClassHead, optimizer: Any, epochs: int
        ) -> None:
            save(unfinished, head, optimizer, epochs)
            self.kept.append((epochs, copy.deepcopy(head.state_dict())))
            if epochs == self.last:
                raise StageError("the node is gone")

        monkeypatch.setattr(UnfinishedHead, "save", watched)


def test_a_training_that_was_cut_short_goes_on_to_the_same_bits(
    make_subject: Callable[..., Subject], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = AugmentedLinearProbe(**QUICK | {"epochs": 4, "augment_operations": 2})
    epochs = Epochs(monkeypatch)
    whole = probe.scores_of(make_subject(), 0)
    epochs.last = 2
    with pytest.raises(StageError, match="the node is gone"):
        probe.scores_of(make_subject(), 0)
    epochs.last = None

    resumed = probe.scores_of(make_subject(), 0)

    numbers, heads = zip(*epochs.kept, strict=True)
    assert numbers == (1, 2, 3, 4, 1, 2, 3, 4)  # of the last two attempts each epoch once
    assert all(torch.equal(heads[-1][name], heads[3][name]) for name in heads[3])
    assert resumed == whole
    assert not list((tmp_path / "linear_augmented").iterdir())


def test_an_unfinished_training_of_something_else_is_not_gone_on_with(
    make_subject: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = Epochs(monkeypatch)
    epochs.last = 1
    probe = AugmentedLinearProbe(**QUICK)
    subject = make_subject()
    others = [
        (probe, subject, 0),
        (probe, subject, 1),
        (probe.model_copy(update={"mixup_alpha": 0.5}), subject, 0),
        (probe, make_subject(encoder=build_sigma(MODEL, seed=2).encoder.eval()), 0),
        (probe, make_subject(view=VIEW.model_copy(update={"num_frames": 2})), 0),
    ]

    for one, of, seed in others:
        with pytest.raises(StageError, match="the node is gone"):
            one.scores_of(of, seed)

    assert [number for number, _ in epochs.kept] == [1] * len(others)


@pytest.mark.parametrize(("threads", "processes"), [(1, 0), (3, 2)])
def test_as_many_processes_decode_as_the_task_has_threads_and_none_is_a_setting(
    threads: int, processes: int
) -> None:
    torch.set_num_threads(threads)

    assert decoders() == processes
    assert "workers" not in AugmentedLinearProbe().model_dump()


def test_the_head_is_the_published_one_and_features_are_not_normalized(
    make_subject: Callable[..., Subject],
) -> None:
    subject = make_subject()
    with torch.no_grad():
        subject.encoder.norm.weight.fill_(float("nan"))  # the final norm takes no part
    frozen = FrozenFeatures(subject)
    clips = torch.randint(0, 256, (2, 3, 4, 32, 32), dtype=torch.uint8)

    features = frozen(clips)
    head = ClassHead(frozen.dim, num_classes=5, seed=0)

    assert features.isfinite().all()
    assert features.shape == (2, frozen.dim)
    assert {name for name, _ in head.named_parameters()} == {
        "fc_norm.weight",
        "fc_norm.bias",
        "head.weight",
        "head.bias",
    }
    assert 1e-5 < head.head.weight.std() < 3e-5
    assert not head.head.bias.any()
    expected = nn.functional.layer_norm(features, (frozen.dim,), eps=1e-6) @ head.head.weight.T
    assert torch.allclose(head(features), expected, atol=1e-7)


@pytest.mark.parametrize(("num_clips", "clips_per_video"), [(8, 2), (12, 3), (4, 1)])
def test_the_clips_of_one_video_are_never_mixed_with_each_other(
    num_clips: int, clips_per_video: int
) -> None:
    order = order_of_pairs(num_clips, clips_per_video)

    first, second = (order // clips_per_video).view(-1, 2).T
    assert sorted(order.tolist()) == list(range(num_clips))
    assert (first != second).all()


def test_small_and_unlabelled_splits_are_said(
    make_subject: Callable[..., Subject], storage: Storage
) -> None:
    subject = make_subject()
    assert subject.train is not None
    rows = [replace(row, label=None, class_name=None) for row in subject.train.rows[:3]]
    some = [*rows, *subject.train.rows[3:9]]
    train = Index(subject.train.ref, subject.train.classes, "0", some)

    result = AugmentedLinearProbe(**QUICK | {"epochs": 1}).scores_of(
        replace(subject, train=train), 0
    )

    assert result.notes == (
        "3 of 9 train samples have no label: left out",
        "batch_videos=8 is more than the 6 training videos: 6 a step, and the learning rate as "
        "much lower",
    )
    nobody = replace(subject, train=Index(train.ref, train.classes, "0", rows))
    with pytest.raises(ValueError, match="the train split has no labelled sample"):
        AugmentedLinearProbe(**QUICK).scores_of(nobody, 0)


def test_a_loss_that_is_not_finite_ends_it_with_what_to_do(
    make_subject: Callable[..., Subject],
) -> None:
    subject = make_subject()
    with torch.no_grad():
        subject.encoder.patch_embed.proj.bias.fill_(float("nan"))

    with pytest.raises(StageError, match="loss nan at step 0; lower its base_lr"):
        AugmentedLinearProbe(**QUICK).scores_of(subject, 0)


def test_defaults_are_those_of_the_published_script() -> None:
    probe, view = AugmentedLinearProbe(), ViewConfig(sampling="segments")
    training = probe._training(view, 1000, seed=0)

    assert training.epochs == 30
    assert training.batch_clips == 2 * training.batch_videos == 768
    assert training.drop_path == 0.0  # theirs is 0.1: the encoder is frozen here
    assert training.mixing == Mixing(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1)
    assert training.clip == ClipConfig(
        sampling="segments",
        frame_stride=view.frame_stride,
        starts="any",
        crop="random_resized",
        flip_probability=0.0,
        clips_per_decode=2,
        augment=AugmentConfig(operations=4, magnitude=7, erase_probability=0.25),
    )
    assert probe.needs.view == MultiViewConfig(sampling="segments", segments=2, crops=3)


def test_default_rates_are_those_of_the_published_script() -> None:
    training = AugmentedLinearProbe()._training(ViewConfig(sampling="segments"), 1000, seed=0)
    optimizer, per_epoch = training.optimizer, 10

    rates = [
        learning_rate(step, optimizer, per_epoch, training.epochs, training.batch_videos)
        for step in (0, 25, 50, 299, 300)
    ]

    assert rates[:3] == pytest.approx([0, 1.5e-3 / 2, 1.5e-3])
    assert rates[4] == pytest.approx(1.5e-6)
    assert rates[3] == pytest.approx(1.5e-6, abs=1e-7)
    assert (optimizer.weight_decay, optimizer.betas, optimizer.eps) == (0.05, (0.9, 0.999), 1e-8)


def test_a_pair_of_videos_at_least_goes_through_the_encoder_at_once() -> None:
    training = AugmentedLinearProbe()._training(ViewConfig(sampling="segments"), 1000, seed=0)

    assert training.micro_batch_clips(32) == 32
    assert training.micro_batch_clips(3) == 4
