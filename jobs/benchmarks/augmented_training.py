"""Training of a LayerNorm and a linear layer behind a frozen encoder, on augmented clips.

As fine-tuning with all but the last two layers frozen (protocols 2 and 3): each step decodes, crops
and augments clips anew, so that the encoder runs in every one of them.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.data_prep.clip_plan import ClipPlan
from sigma_pipeline.data_prep.config import ClipConfig, LoaderConfig
from sigma_pipeline.data_prep.draws import generator, sample_seed
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.loader import TrainLoader
from sigma_pipeline.data_prep.mixing import Mix, Mixing, draw_mix, mix_batch, order_of_pairs
from sigma_pipeline.data_prep.views import ViewLoader
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.jobs.benchmarks.benchmark import Subject
from sigma_pipeline.jobs.benchmarks.unfinished_head import UnfinishedHead
from sigma_pipeline.jobs.config import OptimizerConfig
from sigma_pipeline.jobs.decoded import ClipShape, decoders
from sigma_pipeline.jobs.features import pool_tokens
from sigma_pipeline.jobs.optimizer import build_adamw, learning_rate, set_learning_rate
from sigma_pipeline.model.classifier import ClassHead
from sigma_pipeline.model.stochastic_depth import branch_scales

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the head is trained."""

    clip: ClipConfig
    optimizer: OptimizerConfig
    mixing: Mixing
    epochs: int
    batch_videos: int
    """Of a step, even; each gives ``clip.clips_per_decode`` clips."""
    drop_path: float
    """Of the frozen encoder, on training clips alone."""
    seed: int

    @property
    def batch_clips(self) -> int:
        """Of a step."""
        return self.batch_videos * self.clip.clips_per_decode

    def micro_batch_clips(self, limit: int) -> int:
        """Clips that go through the encoder at once: ``limit``, or as few as a pair of videos."""
        pair = 2 * self.clip.clips_per_decode
        pairs = self.batch_clips // pair
        fitting = [count for count in range(1, pairs + 1) if pairs % count == 0]
        return pair * max((count for count in fitting if count * pair <= limit), default=1)


class FrozenFeatures:
    """Pooled tokens of the last block, without the encoder's final norm."""

    def __init__(self, subject: Subject) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._encoder = subject.encoder.to(device)
        assert subject.pooling is not None, "needs.pooled"
        self._pooling = subject.pooling
        self._is_bf16 = subject.precision == "bf16_autocast"

    @torch.no_grad()
    def __call__(self, clips: Tensor, scales: Tensor | None = None) -> Tensor:
        """[batch, dim], float32, of uint8 clips; both on the encoder's device."""
        with torch.autocast(clips.device.type, torch.bfloat16, enabled=self._is_bf16):
            tokens = self._encoder.encode_unnormalized(clips, scales)
        return pool_tokens(tokens.float(), self._pooling)

    @property
    def dim(self) -> int:
        """Of a clip's features."""
        model = self._encoder.config
        side = model.frame_size_px // model.patch_size_px
        blank = torch.zeros(1, model.num_slices, side, side, model.encoder.embed_dim)
        return pool_tokens(blank, self._pooling).shape[1]

    @property
    def device(self) -> torch.device:
        """Of the encoder."""
        return next(self._encoder.parameters()).device

    def scales(self, drop_path: float, seeds: Sequence[int]) -> Tensor | None:
        """Of stochastic depth; None without it."""
        config = self._encoder.config.model_copy(update={"drop_path": drop_path})
        scales = branch_scales(config, seeds)
        return None if scales is None else scales.to(self.device)


def train_head(
    subject: Subject,
    frozen: FrozenFeatures,
    index: Index,
    training: Training,
    unfinished: UnfinishedHead,
) -> ClassHead:
    """A head trained on ``index``, all of whose samples have a label; on the encoder's device.

    Goes on from ``unfinished``, to the same bits, and keeps each epoch there.

    Raises:
        StageError: a sample cannot be read, or the loss is not finite.
    """
    loader = _loader(subject, index, training)
    head = ClassHead(frozen.dim, len(index.classes), training.seed).to(frozen.device)
    optimizer = build_adamw(head, training.optimizer)
    per_epoch, settings = loader.batches_per_epoch, training.optimizer
    done = unfinished.restore(head, optimizer)
    steps = range(done * per_epoch, training.epochs * per_epoch)
    for step, micro_batches in zip(steps, loader.micro_batches(done, 0), strict=False):
        epoch, batch = divmod(step, per_epoch)
        mix = draw_mix(training.mixing, generator(training.seed, epoch, batch, "mix"))
        parts = [_mixed(frozen, one, head.num_classes, training, mix) for one in micro_batches]
        features, targets = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        rate = learning_rate(step, settings, per_epoch, training.epochs, training.batch_videos)
        set_learning_rate(optimizer.param_groups, rate)
        loss = _step(optimizer, F.cross_entropy(head(features), targets), step)
        if batch == per_epoch - 1:
            log.info("epoch %d of %d, loss %.3f", epoch + 1, training.epochs, loss)
            unfinished.save(head, optimizer, epoch + 1)
    return head


def view_features(
    subject: Subject, frozen: FrozenFeatures, index: Index
) -> npt.NDArray[np.float32]:
    """Features [samples, views, dim] of the subject's views of all samples.

    Raises:
        StageError: a sample cannot be read.
    """
    shape = ClipShape.of(subject.view, subject.encoder.config)
    loader = ViewLoader(
        subject.storage,
        index,
        view=subject.view,
        num_frames=shape.num_frames,
        frame_size_px=shape.frame_size_px,
        batch_clips=subject.batch_clips,
        workers=decoders(),
    )
    pooled = torch.cat([frozen(batch.clip.to(frozen.device)).cpu() for batch in loader])
    array: npt.NDArray[np.float32] = pooled.numpy()
    return array.reshape(len(index), subject.view.views, -1)


def _loader(subject: Subject, index: Index, training: Training) -> TrainLoader:
    shape = ClipShape.of(subject.view, subject.encoder.config)
    return TrainLoader(
        subject.storage,
        [index],
        ClipPlan(training.clip, shape.num_frames, shape.frame_size_px, training.seed),
        loader=LoaderConfig(workers=decoders()),
        global_batch_clips=training.batch_clips,
        micro_batch_clips=training.micro_batch_clips(subject.batch_clips),
    )


def _mixed(
    frozen: FrozenFeatures, batch: Batch, num_classes: int, training: Training, mix: Mix
) -> tuple[Tensor, Tensor]:
    """Features and soft targets of a micro-batch."""
    if batch.replaced:  # a benchmark on other data than was asked for is none
        raise StageError(f"linear_augmented: {batch.replaced[0].reason}")
    order = order_of_pairs(len(batch.clip), training.clip.clips_per_decode)
    clips = batch.clip[order].to(frozen.device).float()
    labels = batch.labels[order].to(frozen.device)
    mixed, targets = mix_batch(clips, labels, num_classes, training.mixing, mix)
    seeds = [
        sample_seed(training.seed, batch.epoch, position, "drop_path")
        for position in batch.positions[order].tolist()
    ]
    scales = frozen.scales(training.drop_path, seeds)
    return frozen(mixed.round().to(torch.uint8), scales), targets


def _step(optimizer: torch.optim.Optimizer, loss: Tensor, step: int) -> float:
    value = loss.item()
    if not math.isfinite(value):
        raise StageError(f"linear_augmented: loss {value} at step {step}; lower its base_lr")
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return value
