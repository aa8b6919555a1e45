"""Which frames of a video a segment of it is."""

from bisect import bisect_left
from collections.abc import Sequence

from sigma_pipeline.data_prep.items import Segment
from sigma_pipeline.data_prep.verdicts import Rejected

_TOLERANCE_S = 0.0005
"""Lists name times to a millisecond at best."""


def frames_of(segment: Segment | None, times_s: Sequence[float]) -> range:
    """The frames that are shown from the segment's start to before its end; all without one.

    A segment may end after the video.

    Args:
        segment: in seconds from the first frame.
        times_s: of each frame of the video, ascending, from 0.

    Raises:
        Rejected: the segment is empty, or begins after the last frame.
    """
    if segment is None:
        return range(len(times_s))
    start, end = (bisect_left(times_s, time_s - _TOLERANCE_S) for time_s in segment)
    if segment.start_s < 0 or start >= end:
        raise Rejected(
            "bad_segment",
            f"{segment.start_s:g} s to {segment.end_s:g} s holds none of the video's frames, which "
            f"begin at 0 s to {times_s[-1]:g} s",
        )
    return range(start, end)
