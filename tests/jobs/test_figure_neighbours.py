"""The picture of neighbours: where each clip stands, and how right and wrong are told apart."""

import io

import numpy as np
from PIL import Image

from sigma_pipeline.jobs.figure_neighbours import (
    NO_CLASS,
    OTHER_CLASS,
    SAME_CLASS,
    TILE_PX,
    ShownClip,
    ShownNeighbours,
    draw_neighbours,
)

TOP, LEFT, BORDER, QUERY_GAP = 48, 4, 4, 24


def clip(grey: int, class_name: str | None, num_frames: int = 3) -> ShownClip:
    return ShownClip(np.full((num_frames, TILE_PX, TILE_PX, 3), grey, dtype=np.uint8), class_name)


def drawn(query: ShownClip, *neighbours: ShownClip) -> np.ndarray:
    row = ShownNeighbours(query, neighbours, [0.9] * len(neighbours))
    return np.asarray(Image.open(io.BytesIO(draw_neighbours([row]))))


def test_neighbours_stand_beside_their_query_in_order() -> None:
    page = drawn(clip(10, "run"), clip(20, "run"), clip(30, "jump"))

    width = 3 * TILE_PX + 2 * BORDER
    lefts = [LEFT, LEFT + width + QUERY_GAP, LEFT + 2 * width + QUERY_GAP + 4]
    assert [page[TOP + BORDER, left + BORDER].tolist() for left in lefts] == [
        [10] * 3,
        [20] * 3,
        [30] * 3,
    ]
    assert [tuple(page[TOP, left].tolist()) for left in lefts] == [
        NO_CLASS,
        SAME_CLASS,
        OTHER_CLASS,
    ]


def test_without_classes_nothing_is_right_or_wrong() -> None:
    page = drawn(clip(10, None), clip(20, "run"))

    left = LEFT + 3 * TILE_PX + 2 * BORDER + QUERY_GAP
    assert tuple(page[TOP, left].tolist()) == NO_CLASS


def test_an_image_is_one_frame_wide() -> None:
    assert drawn(clip(1, "a", 1), *[clip(2, "a", 1)] * 6).shape[1] < 800
