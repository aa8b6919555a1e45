"""Semi-supervised video object segmentation by label propagation (protocols 7, DINO).

The objects of a video's first mask are followed through it by the likeness of frozen features, and
scored by J and F as DAVIS-2017 does. SIGMA published nothing of it. The protocol is DINO's, whose
encoder sees images: how one of clips sees a frame (``frames``), and knows the places in frames that
are no squares (``positions``), are choices of ours.
"""

import copy
import logging
from collections.abc import Iterable
from functools import partial
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from pydantic import BaseModel, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from sigma_pipeline.data_prep.augment import whole_frame
from sigma_pipeline.data_prep.frames import FrameReader
from sigma_pipeline.data_prep.verdicts import BadSample
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.jobs.benchmarks.benchmark import VOID_ID, Cost, Needs, Result, Subject
from sigma_pipeline.jobs.benchmarks.davis_metrics import Ids
from sigma_pipeline.jobs.benchmarks.davis_result import DavisFindings
from sigma_pipeline.jobs.benchmarks.frame_features import frame_features
from sigma_pipeline.jobs.benchmarks.label_propagation import (
    Propagation,
    carried_labels,
    mask_of_labels,
)
from sigma_pipeline.jobs.benchmarks.sequences import (
    AnnotatedSequence,
    UselessSequence,
    read_sequences,
)
from sigma_pipeline.model.encoder import Encoder, Positions

log = logging.getLogger(__name__)

_DECODED_GIB = 0.5
"""Holds 800 frames of 480p; a longer sequence is read clip by clip."""


class SemiSupervisedVos(BaseModel, frozen=True, extra="forbid"):
    """J and F of objects that are followed from the first mask of each video.

    Only that mask is used: the objects are those it shows. Scored are the frames that have a mask,
    but for the first and the last of these. Videos whose first mask comes late are followed from
    there on. Features are the last block's after its norm; a frame's pixels are normalized as in
    pre-training.
    """

    name: ClassVar[str] = "davis"
    version: ClassVar[int] = 1
    cost: ClassVar[Cost] = "cheap"
    summary: ClassVar[str] = "Semi-supervised video object segmentation by label propagation"

    short_side_px: PositiveInt = 480
    """Of the frames that the encoder sees, rounded down to whole patches."""
    long_side_step_px: PositiveInt = 64
    """The long side keeps the aspect, rounded down to a multiple of this, then to patches."""
    n_last_frames: NonNegativeInt = 7
    """Labelled frames that a frame is compared with, besides the first of the video."""
    radius: NonNegativeInt = 12
    """In tokens, how far from its own place; 0: everywhere."""
    topk: PositiveInt = 5
    """Most similar tokens of all those frames whose labels are taken."""
    temperature: PositiveFloat = 0.1
    frames: Literal["still", "clip"] = "still"
    """``still``: each frame by itself, repeated to one tubelet; ``clip``: with its neighbours, in
    clips as long as those of pre-training, where the frames of a time slice share its features."""
    positions: Positions = "interpolated"
    """``interpolated``: a token's position follows from its place in the frame; ``flattened``: from
    its number, as the position table of pre-training has it."""

    @model_validator(mode="after")
    def _check_sides(self) -> Self:
        if self.short_side_px < self.long_side_step_px:
            raise ValueError(
                f"short_side_px={self.short_side_px} is below "
                f"long_side_step_px={self.long_side_step_px}: the long side of a square would be 0"
            )
        return self

    @property
    def needs(self) -> Needs:
        """Object masks, and the encoder; frames and their size follow from the settings."""
        return Needs(masks=True, encoder=True, pooled=False, clips=False)

    @torch.inference_mode()
    def scores_of(self, subject: Subject, seed: int) -> Result:
        """``jf_mean``; mean, recall and decay of J and of F: means over objects.

        Raises:
            ValueError: no sequence can be scored, or the sides are shorter than a patch.
            StageError: a frame or a mask cannot be read, or features are not finite.
        """
        encoder = _on_fastest_device(subject.encoder)
        reader = FrameReader(subject.storage, subject.test, cache_gib=_DECODED_GIB)
        findings = DavisFindings()
        for sequence in read_sequences(subject.storage, subject.test):
            if isinstance(sequence, UselessSequence):
                findings.leave_out(sequence)
                continue
            size = self.encoded_size(*reader.size(sequence.sample), encoder.config.patch_size_px)
            features = frame_features(
                encoder.at_shape(height_px=size[0], width_px=size[1], positions=self.positions),
                partial(_read_clip, reader, sequence.sample, size),
                sequence.frames,
                clip_frames=encoder.config.num_frames if self.frames == "clip" else 1,
                precision=subject.precision,
            )
            ids = self.followed(sequence, features, encoder.config.patch_size_px)
            findings.add(sequence, ids)
            log.info("%s: %d frames followed", sequence.name, len(sequence.frames))
        return findings.result(seed)

    def encoded_size(self, height: int, width: int, patch_size_px: int) -> tuple[int, int]:
        """Height and width, in pixels, at which the encoder sees frames of this size."""
        longer = self.short_side_px * max(height, width) // min(height, width)
        longer -= longer % self.long_side_step_px
        short, long = (side - side % patch_size_px for side in (self.short_side_px, longer))
        return (short, long) if height <= width else (long, short)

    def followed(
        self, sequence: AnnotatedSequence, features: Iterable[Tensor], patch_size_px: int
    ) -> Ids:
        """Object ids [frames, height, width] of ``sequence.frames``; the first are the given ones.

        Args:
            sequence: whose first mask is followed.
            features: [rows, columns, dim] of each of its frames, in turn.
            patch_size_px: side of their tokens.
        """
        given = np.where(sequence.truth[0] == VOID_ID, np.uint8(0), sequence.truth[0])
        propagation = Propagation(self.n_last_frames, self.radius, self.topk, self.temperature)
        height, width = given.shape
        ids = np.empty((len(sequence.frames), height, width), dtype=np.uint8)
        labels = carried_labels(features, torch.from_numpy(given), propagation)
        for frame, own in enumerate(labels):
            found = mask_of_labels(own, patch_size_px=patch_size_px, height=height, width=width)
            ids[frame] = found.cpu().numpy()
        ids[0] = given
        return ids


def _on_fastest_device(encoder: Encoder) -> Encoder:
    """The encoder itself, or a copy on the GPU: moved, it would be gone for others."""
    if not torch.cuda.is_available():
        return encoder
    return copy.deepcopy(encoder).to("cuda")


def _read_clip(
    reader: FrameReader, sample: int, size_px: tuple[int, int], numbers: NDArray[np.int64]
) -> UInt8[Tensor, "1 3 frames height width"]:
    """Whole frames of the sample as one clip."""
    try:
        return reader.clips(sample, numbers, [whole_frame(*reader.size(sample))], size_px)
    except BadSample as error:
        raise StageError(str(error)) from error


BENCHMARK = SemiSupervisedVos
