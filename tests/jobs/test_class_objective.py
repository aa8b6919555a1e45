"""What fine-tuning takes a step on: the same clips however the step is cut, at published rates."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.data_prep.config import ClipConfig
from sigma_pipeline.data_prep.mixing import Mixing
from sigma_pipeline.data_prep.replacement import Replaced
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.jobs.class_objective import ClassObjective, ClassTuning
from sigma_pipeline.jobs.encoders import EncoderSource
from sigma_pipeline.model.config import ModelConfig
from tests.tiny import TINY_MODEL

CPU = torch.device("cpu")
NUM_CLASSES = 3


def make_objective(
    *, model: dict[str, Any] = TINY_MODEL, clips_per_video: int = 1, **changes: Any
) -> ClassObjective:
    config = ModelConfig.model_validate(model)
    source = EncoderSource("step-00000000", 0, "w", "0", config.model_dump(mode="json"))
    settings: dict[str, Any] = {
        "source": source,
        "seed": 1,
        "clip": ClipConfig(clips_per_decode=clips_per_video),
        "num_frames": config.num_frames,
        "num_classes": NUM_CLASSES,
        "global_batch_clips": 8,
        "mixing": Mixing(),
    }
    return ClassObjective(ClassTuning(**settings | changes))


def make_batch(first: int = 0, last: int = 8, *, epoch: int = 0) -> Batch:
    """Positions of one global batch, of which ranks and micro-batches take parts."""
    draws = torch.Generator().manual_seed(7)
    clips = torch.randint(0, 256, (16, 3, 4, 32, 32), dtype=torch.uint8, generator=draws)
    places = torch.arange(first, last)
    return Batch(clips[places], epoch, places, places, places % NUM_CLASSES)


def parts(size: int) -> list[Batch]:
    return [make_batch(first, first + size) for first in range(0, 8, size)]


def by_position(
    objective: ClassObjective, batches: list[Batch]
) -> dict[int, tuple[Tensor, Tensor]]:
    found = {}
    for batch in batches:
        examples = objective.examples(batch, CPU)
        assert examples.draws is not None
        for place, clip, target in zip(
            examples.draws.positions, examples.clip, examples.targets, strict=True
        ):
            found[place] = clip, target
    return found


@pytest.mark.parametrize("clips_per_video", [1, 2])
@pytest.mark.parametrize("mixing", [Mixing(cutmix_alpha=0), Mixing(mixup_alpha=0)])
def test_clips_are_mixed_the_same_way_in_micro_batches_of_any_size(
    mixing: Mixing, clips_per_video: int
) -> None:
    objective = make_objective(mixing=mixing, clips_per_video=clips_per_video)
    plain = make_batch().clip

    whole = by_position(objective, parts(8))
    cut = by_position(objective, parts(4))

    assert whole.keys() == cut.keys() == set(range(8))
    for place, (clip, target) in whole.items():
        assert torch.equal(clip, cut[place][0])
        assert torch.equal(target, cut[place][1])
    assert any(not torch.equal(clip, plain[place]) for place, (clip, _) in whole.items())


def test_steps_and_epochs_are_mixed_each_in_a_way_of_its_own() -> None:
    objective = make_objective(mixing=Mixing(cutmix_alpha=0))

    kept = {
        float(objective.examples(batch, CPU).targets.max())
        for batch in (make_batch(), make_batch(8, 16), make_batch(epoch=1))
    }

    assert len(kept) == 3


def test_the_clips_of_one_video_are_mixed_with_those_of_another() -> None:
    objective = make_objective(clips_per_video=2, mixing=Mixing(label_smoothing=0, cutmix_alpha=0))
    batch = make_batch()
    of_two = replace(batch, labels=torch.tensor([0, 0, 1, 1, 0, 0, 1, 1]))

    targets = objective.examples(of_two, CPU).targets

    assert (targets[:, :2] > 0).all()


def test_without_mixing_any_number_of_clips_is_taken_as_it_is() -> None:
    objective = make_objective(mixing=Mixing(mixup_alpha=0, cutmix_alpha=0))
    batch = make_batch(0, 3)

    examples = objective.examples(batch, CPU)

    assert torch.equal(examples.clip, batch.clip)
    assert examples.targets[0].tolist() == pytest.approx([0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3])


def test_loss_and_gradients_are_the_same_however_a_step_is_cut() -> None:
    objective = make_objective(drop_path=0.5, dropout=0.5)
    model = objective.canary_model(None)
    model.train()

    def step(batches: list[Batch]) -> tuple[float, list[Tensor]]:
        model.zero_grad()
        losses = [objective._forward(model, CPU, batch).loss for batch in batches]
        loss = torch.stack(losses).mean()
        loss.backward()
        return loss.item(), [p.grad.clone() for p in model.parameters() if p.grad is not None]

    whole, gradients = step(parts(8))
    cut, others = step(parts(2))

    assert cut == pytest.approx(whole, rel=1e-6)
    assert len(gradients) == len(list(model.parameters()))
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_rates_fall_from_the_head_to_the_embedding_as_published() -> None:
    encoder = {"embed_dim": 32, "depth": 12, "num_heads": 2}
    objective = make_objective(model=TINY_MODEL | {"encoder": encoder})

    rates = {
        name: objective.lr_scale(name)
        for name, _ in objective.canary_model(None).named_parameters()
    }

    assert rates["classifier.head.weight"] == rates["classifier.fc_norm.bias"] == 1
    assert rates["encoder.blocks.11.attn.qkv.weight"] == pytest.approx(0.75)
    assert rates["encoder.blocks.0.norm1.weight"] == pytest.approx(0.75**12)
    assert rates["encoder.patch_embed.proj.bias"] == pytest.approx(0.75**13)


def test_a_sample_that_stands_in_for_another_is_refused() -> None:
    bad = Replaced("ucf101", "train", "k", "t", "s", "clip k of ucf101 cannot be decoded", 0, 0)
    batch = replace(make_batch(), replaced=(bad,))

    with pytest.raises(StageError, match="clip k of ucf101 cannot be decoded; fine-tuning takes"):
        make_objective().forwards(None, None, [batch], lambda: None)


def test_the_canary_is_not_mixed_and_nothing_is_left_out() -> None:
    objective = make_objective(drop_path=0.9, dropout=0.9)
    model = objective.canary_model(None).eval()
    canary = objective.canary(make_batch())

    losses = [objective.canary_loss(model, canary).item() for _ in range(2)]

    assert torch.equal(canary["clip"], make_batch().clip)
    assert losses[0] == losses[1] == pytest.approx(torch.tensor(3.0).log().item(), abs=1e-3)
