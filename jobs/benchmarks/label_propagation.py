"""Labels of one frame carried through a video by the likeness of features (protocols 7, DINO).

Each token of the next frame takes the labels of the tokens most like it, among those of frames
already labelled that lie near its place. Labels stay soft from frame to frame: a token is so much
of one object and so much of another.

Axes: ``context`` are the labelled frames, ``rows`` and ``columns`` those of the token grid, ``ids``
the objects with the background first.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from sigma_pipeline.model.products import product

_MOST_AFFINITIES = 1 << 22
"""Held at once, 16 MiB: more than a processor's cache holds makes it slower."""


@dataclass(frozen=True)
class Propagation:
    """How labels are carried; the defaults are DINO's."""

    n_last_frames: int = 7
    """Of the context, besides the first frame."""
    radius: int = 12
    """In tokens, how far along either axis a token looks; 0: over the whole frame."""
    topk: int = 5
    """Tokens of the whole context whose labels are taken; more where the last of them tie."""
    temperature: float = 0.1
    """A token's labels weigh ``exp(cosine / temperature)``."""


def carried_labels(
    features: Iterable[Float[Tensor, "rows columns dim"]],
    mask: UInt8[Tensor, "height width"],
    propagation: Propagation,
) -> Iterator[Float[Tensor, "rows columns ids"]]:
    """Labels of the tokens of each frame of a video, on the device of its features.

    Takes the memory of the context alone, however long the video is.

    Args:
        features: of each frame, at least one.
        mask: object ids of the first frame.
        propagation: how labels are carried.
    """
    directions = (F.normalize(frame, dim=-1) for frame in features)
    first = next(directions)
    start = first, labels_of_mask(mask, *first.shape[:2]).to(first.device)
    yield start[1]
    latest: deque[tuple[Tensor, Tensor]] = deque(maxlen=propagation.n_last_frames)
    for frame in directions:
        context, labels = (torch.stack(each) for each in zip(start, *latest, strict=True))
        own = next_labels(frame, context, labels, propagation)
        yield own
        latest.append((frame, own))


def next_labels(
    frame: Float[Tensor, "rows columns dim"],
    context: Float[Tensor, "context rows columns dim"],
    labels: Float[Tensor, "context rows columns ids"],
    propagation: Propagation,
) -> Float[Tensor, "rows columns ids"]:
    """Labels of a frame: means of those of its nearest tokens in ``context``.

    A few rows of the frame at a time, each beside those rows of the context that it may look at, so
    that no affinity of all tokens to all is held, and what is far is mostly not computed.

    Args:
        frame: features of unit length.
        context: the same of the labelled frames.
        labels: of their tokens.
        propagation: how labels are carried.
    """
    rows, columns = frame.shape[:2]
    radius = propagation.radius or max(rows, columns)
    frame = frame.contiguous()
    # Rows outermost: those beside a row of the frame then lie together, for all of the context.
    by_row, labels_by_row = (each.transpose(0, 1).contiguous() for each in (context, labels))
    own = labels.new_empty(rows, columns, labels.shape[-1])
    for part in _parts(rows, columns, len(context), radius):
        beside = slice(max(0, part.start - radius), min(rows, part.stop + radius))
        affinity = product(frame[part].flatten(0, 1), by_row[beside].flatten(0, 2))
        is_far = _is_far(part, beside, columns, radius, frame.device)
        affinity.view(*is_far.shape[:3], -1, columns).masked_fill_(is_far, -torch.inf)
        mixed = _nearest(affinity, propagation) @ labels_by_row[beside].flatten(0, 2)
        own[part] = mixed.view(own[part].shape)
    return own


def labels_of_mask(
    mask: UInt8[Tensor, "height width"], rows: int, columns: int
) -> Float[Tensor, "rows columns ids"]:
    """Labels of tokens whose frame is known: each is wholly of the object at its middle."""
    middles = F.interpolate(mask[None, None], size=(rows, columns), mode="nearest-exact")
    return F.one_hot(middles[0, 0].long(), int(mask.max()) + 1).float()


def mask_of_labels(
    labels: Float[Tensor, "rows columns ids"], *, patch_size_px: int, height: int, width: int
) -> UInt8[Tensor, "height width"]:
    """Object ids of a frame's pixels: labels up-sampled, each id's spread over 0 to 1, the highest.

    Args:
        labels: of its tokens.
        patch_size_px: side of a token in the frame that was encoded.
        height: of the frame as it is stored, to which the nearest pixel is taken.
        width: the same.
    """
    upsampled = F.interpolate(
        labels.permute(2, 0, 1)[None], scale_factor=patch_size_px, mode="bilinear"
    )[0]
    low, high = upsampled.amin(dim=(1, 2), keepdim=True), upsampled.amax(dim=(1, 2), keepdim=True)
    # An id that is nowhere, or everywhere alike, keeps its value.
    spread = torch.where(high > low, (upsampled - low) / (high - low), upsampled)
    ids = spread.argmax(dim=0).to(torch.uint8)
    return F.interpolate(ids[None, None], size=(height, width), mode="nearest-exact")[0, 0]


def _parts(rows: int, columns: int, context: int, radius: int) -> Iterator[slice]:
    """Rows of the frame to be taken together: at least one."""
    beside = min(rows, 2 * radius + 1)
    size = max(1, _MOST_AFFINITIES // (columns * beside * context * columns))
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def _is_far(
    part: slice, beside: slice, columns: int, radius: int, device: torch.device
) -> Bool[Tensor, "part columns beside 1 columns"]:
    """True where a token of the context is out of reach of one of the frame."""
    here, there = (torch.arange(rows.start, rows.stop, device=device) for rows in (part, beside))
    across = torch.arange(columns, device=device)
    is_far_down = (here[:, None] - there).abs() > radius
    is_far_across = (across[:, None] - across).abs() > radius
    return is_far_down[:, None, :, None, None] | is_far_across[:, None, None]


def _nearest(
    affinity: Float[Tensor, "tokens others"], propagation: Propagation
) -> Float[Tensor, "tokens others"]:
    """Weights of the ``topk`` highest of each row, which add up to 1; the others are 0."""
    topk = min(propagation.topk, affinity.shape[1])
    least = affinity.topk(topk, dim=1).values[:, -1:]
    kept = affinity.masked_fill_(affinity < least, -torch.inf)
    return torch.softmax(kept.div_(propagation.temperature), dim=1)
