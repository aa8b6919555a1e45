"""Features of single frames, of an encoder that sees clips."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.jobs.config import Precision
from sigma_pipeline.model.encoder import Encoder

ReadClip = Callable[[NDArray[np.int64]], UInt8[Tensor, "1 channels frames height width"]]
"""The clip of the numbered frames of a video; numbers may repeat."""


def frame_features(
    encoder: Encoder,
    read: ReadClip,
    frames: range,
    *,
    clip_frames: int,
    precision: Precision = "fp32",
) -> Iterator[Float[Tensor, "rows columns dim"]]:
    """Features of each of ``frames`` in turn, on the encoder's device.

    The video is cut into clips of ``clip_frames``, one after the other. A time slice's features
    stand for each of its frames. A clip that ends within a slice, or is shorter than one, is
    filled up with its last frame.

    Args:
        encoder: built for frames of the shape that ``read`` gives.
        read: gives clips.
        frames: of the video.
        clip_frames: as many as the encoder takes, at most; 1: each frame by itself.
        precision: of the encoder; features are float32.

    Raises:
        StageError: the features are not finite.
    """
    tubelet, device = encoder.config.tubelet_frames, next(encoder.parameters()).device
    for start in range(frames.start, frames.stop, clip_frames):
        stop = min(start + clip_frames, frames.stop)
        filled = -(-(stop - start) // tubelet) * tubelet
        clip = read(np.minimum(np.arange(start, start + filled), stop - 1))
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16_autocast"):
            slices = encoder.encode(clip.to(device))[0].float()
        if not slices.isfinite().all():
            raise StageError(
                "features of frames are not finite: these weights are no use; look at the training "
                "loss before that step"
            )
        for number in range(stop - start):
            yield slices[number // tubelet]
