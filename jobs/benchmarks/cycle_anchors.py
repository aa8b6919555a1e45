"""Cycle lengths as anchors: multiples of a guess, each right or wrong, and how far off it is.

As boxes of object detection in one dimension, all of which begin at the position (protocols 5.2).
How a length becomes a number to regress is unpublished; ours: the logarithm of its ratio to the
anchor.

Axes: ``sides`` (2): previous, next cycle; ``anchors`` (7).
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ANCHORS = (0.5, 0.67, 0.8, 1.0, 1.25, 1.5, 2.0)
IOU_THRESHOLD = 0.5
"""An anchor is right whose overlap with the cycle is above this."""
IGNORED, WRONG, RIGHT = -1, 0, 1


def anchor_lengths(guesses: Floats) -> Floats:
    """Lengths [..., anchors] of all anchors of guesses [...]."""
    return np.multiply(guesses[..., None], ANCHORS)


def overlaps(lengths: Floats, others: Floats) -> Floats:
    """Intersection over union of spans that begin at the same point."""
    return np.minimum(lengths, others) / np.maximum(lengths, others)


def anchor_targets(guesses: Floats, lengths: Floats) -> npt.NDArray[np.float32]:
    """What is to be said of each anchor: [..., 2, anchors], its label and its offset.

    Args:
        guesses: [...] frames.
        lengths: [...] true ones, NaN where there is none: all its anchors are ``IGNORED``.

    Returns:
        Labels ``IGNORED``, ``WRONG``, ``RIGHT``; offsets, 0 where the label is not ``RIGHT``.
    """
    anchors = anchor_lengths(guesses)
    is_known = ~np.isnan(lengths)[..., None]
    known = np.where(is_known, lengths[..., None], anchors)
    is_right = is_known & (overlaps(anchors, known) > IOU_THRESHOLD)
    labels = np.where(is_known, np.where(is_right, RIGHT, WRONG), IGNORED)
    offsets = np.where(is_right, np.log(known / anchors), 0.0)
    return np.stack([labels, offsets], axis=-2).astype(np.float32)


def best_lengths(guesses: Floats, is_right: Floats, offsets: Floats) -> tuple[Floats, Floats]:
    """The length that the likeliest anchor says, and how likely it is; both [...].

    Args:
        guesses: [...] frames.
        is_right: [..., anchors] probabilities.
        offsets: [..., anchors].
    """
    best = is_right.argmax(axis=-1)[..., None]
    lengths = anchor_lengths(guesses) * np.exp(offsets)
    return (
        np.take_along_axis(lengths, best, axis=-1)[..., 0],
        np.take_along_axis(is_right, best, axis=-1)[..., 0],
    )
