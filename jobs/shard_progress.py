"""One line of log per interval of time while a dataset is sharded."""

import logging
import time

log = logging.getLogger(__name__)

_INTERVAL_S = 10.0
_MB = 1e6


class Progress:
    """Counts videos and bytes that are done, and says now and then how far it is."""

    def __init__(self, name: str, num_videos: int, num_bytes: int) -> None:
        self._name = name
        self._num_videos = num_videos
        self._num_bytes = num_bytes
        self._videos_done = 0
        self._bytes_done = 0
        self._start_s = self._logged_s = time.monotonic()

    def add(self, num_bytes: int) -> None:
        """One more video is done, of that size at the source."""
        self._videos_done += 1
        self._bytes_done += num_bytes

    def log_if_due(self) -> None:
        """Logs a line if the last one was written long enough ago."""
        now_s = time.monotonic()
        if now_s - self._logged_s < _INTERVAL_S:
            return
        self._logged_s = now_s
        per_s = self._bytes_done / (now_s - self._start_s)
        left_s = max(0, self._num_bytes - self._bytes_done) / per_s if per_s else None
        log.info(
            "%s: %d of %d videos, %.1f of %.1f MB, %.1f MB/s, %s",
            self._name,
            min(self._videos_done, self._num_videos),  # a shard that is repeated counts twice
            self._num_videos,
            min(self._bytes_done, self._num_bytes) / _MB,
            self._num_bytes / _MB,
            per_s / _MB,
            "no estimate yet" if left_s is None else f"about {left_s:.0f} s left",
        )
