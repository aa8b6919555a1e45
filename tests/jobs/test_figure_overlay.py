"""Sheet and video of objects."""

import io
from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image

from sigma_pipeline.jobs.figure_overlay import ShownObjects, draw_sheet, overlay_video

HEIGHT, WIDTH = 60, 100
GREY, RED_OVER_GREY = [100, 100, 100], [114, 50, 50]


@pytest.fixture
def shown() -> ShownObjects:
    """A grey clip with one object; the truth is at the left, what was found at the right."""
    truth = np.zeros((20, HEIGHT, WIDTH), dtype=np.uint8)
    truth[:, 10:50, 10:40] = 1
    return ShownObjects(
        heading="hungarian: swan",
        numbers=tuple(range(0, 40, 2)),
        frames=np.full((20, HEIGHT, WIDTH, 3), 100, dtype=np.uint8),
        truth=truth,
        found=truth[:, :, ::-1].copy(),
        fps=12.0,
    )


def decoded(data: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_the_sheet_has_the_truth_above_what_was_found(shown: ShownObjects) -> None:
    page = np.asarray(Image.open(io.BytesIO(draw_sheet(shown))))

    left, top, height, gap = 4, 44, 120, 4  # tiles of twice the size
    truth, found = page[top:, left:], page[top + height + gap :, left:]
    assert truth[60, 50].tolist() == found[60, 150].tolist() == RED_OVER_GREY
    assert truth[60, 150].tolist() == found[60, 50].tolist() == GREY


def test_without_a_truth_just_what_was_found_is_shown(shown: ShownObjects) -> None:
    alone = replace(shown, truth=None)

    sheets = [Image.open(io.BytesIO(draw_sheet(one))) for one in (shown, alone)]
    videos = [decoded(overlay_video(one))[0].shape for one in (shown, alone)]

    assert sheets[0].height - sheets[1].height == 2 * (120 + 4)
    assert videos == [(HEIGHT, 2 * WIDTH, 3), (HEIGHT, WIDTH, 3)]


def test_the_video_shows_every_frame_with_its_objects(shown: ShownObjects) -> None:
    frames = decoded(overlay_video(shown))

    assert len(frames) == 20
    middle = frames[10].astype(int)
    assert np.abs(middle[30, 25] - RED_OVER_GREY).max() < 12  # of the truth
    assert np.abs(middle[30, WIDTH + 75] - RED_OVER_GREY).max() < 12
    assert np.abs(middle[30, 75] - GREY).max() < 12


def test_the_video_has_the_pace_of_the_clip(shown: ShownObjects) -> None:
    with av.open(io.BytesIO(overlay_video(shown))) as container:
        assert float(container.streams.video[0].average_rate or 0) == 12


def test_equal_clips_give_equal_files(shown: ShownObjects) -> None:
    assert draw_sheet(shown) == draw_sheet(shown)
    assert overlay_video(shown) == overlay_video(shown)
