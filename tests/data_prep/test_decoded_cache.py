"""Decoded videos are kept as long as they fit."""

import pickle
from collections.abc import Callable

import pytest
from av.video.frame import VideoFrame

from sigma_pipeline.data_prep.convert import Frames
from sigma_pipeline.data_prep.decoded_cache import DecodedCache


def video_of(megabytes: int) -> Callable[[], Frames]:
    return lambda: {n: VideoFrame(1024, 1024, "gray") for n in range(megabytes)}


def refuse() -> Frames:
    raise AssertionError("decoded again")


def test_the_longest_unused_video_makes_room() -> None:
    cache = DecodedCache(limit_bytes=3 << 20)
    cache.get(0, video_of(megabytes=1))
    cache.get(1, video_of(megabytes=1))
    cache.get(0, refuse)

    cache.get(2, video_of(megabytes=2))

    assert cache.used_bytes == 3 << 20
    cache.get(0, refuse)
    with pytest.raises(AssertionError, match="decoded again"):
        cache.get(1, refuse)


def test_a_cache_never_holds_more_than_its_limit() -> None:
    cache = DecodedCache(limit_bytes=3 << 20)

    for sample in range(20):
        cache.get(sample, video_of(megabytes=1 + sample % 4))
        assert cache.used_bytes <= 3 << 20


def test_in_another_process_a_cache_begins_empty() -> None:
    cache = DecodedCache(limit_bytes=3 << 20)
    cache.get(0, video_of(megabytes=1))

    sent = pickle.loads(pickle.dumps(cache))

    assert (sent.limit_bytes, sent.used_bytes) == (3 << 20, 0)
