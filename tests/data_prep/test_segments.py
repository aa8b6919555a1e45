"""Frames of segments."""

import pytest

from sigma_pipeline.data_prep.items import Segment
from sigma_pipeline.data_prep.segments import frames_of
from sigma_pipeline.data_prep.verdicts import Rejected

TIMES_S = [0.0, 0.1, 0.2, 0.7, 0.8]


@pytest.mark.parametrize(
    ("segment", "frames"),
    [
        (None, range(5)),
        (Segment(0, 0.2), range(2)),
        (Segment(0.1, 0.7), range(1, 3)),
        (Segment(0.1001, 0.6999), range(1, 3)),
        (Segment(0.15, 100), range(2, 5)),
    ],
)
def test_a_segment_is_the_frames_shown_from_its_start_to_before_its_end(
    segment: Segment | None, frames: range
) -> None:
    assert frames_of(segment, TIMES_S) == frames


@pytest.mark.parametrize(
    "segment", [Segment(0.9, 2), Segment(-1, 0.5), Segment(0.5, 0.2), Segment(0.3, 0.6)]
)
def test_a_segment_without_frames_is_rejected(segment: Segment) -> None:
    with pytest.raises(Rejected, match=r"bad_segment.* begin at 0 s to 0\.8 s"):
        frames_of(segment, TIMES_S)
