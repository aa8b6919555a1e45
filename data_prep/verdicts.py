"""Why a file did not become a sample: the closed list of reasons, and the verdict that carries one.

The reasons are a contract with everybody who reads ``rejected.parquet``: one may be added, none
renamed.
"""

from typing import Literal

Reason = Literal[
    "empty_file",
    "not_a_video",
    "still_image",
    "unreadable",
    "no_video_stream",
    "too_short",
    "too_large",
    "too_slow",
    "corrupt",
    "bad_sidecar",
    "bad_segment",
    "crashed_decoder",
    "missing_file",
    "not_listed",
]
"""``too_large``: bytes, pixels, frames or memory; ``too_slow``: processor time; ``bad_segment``:
the segment lies outside of the video; ``missing_file``: a list names it, but it is not there;
``not_listed``: it is there, but no list names it."""


class Rejected(Exception):  # noqa: N818 - a verdict on an input, not a fault of the program
    """A file that cannot become a sample: a reason code, and a short true sentence.

    Where ``is_retryable``, the same file may do better another time: a read that failed, a process
    that was killed from outside.
    """

    def __init__(self, reason: Reason, detail: str, *, is_retryable: bool = False) -> None:
        super().__init__(reason, detail)
        self.reason: Reason = reason
        self.detail = detail
        self.is_retryable = is_retryable

    def __reduce__(self) -> tuple[object, ...]:
        """All three parts survive pickling."""
        return _rebuild, (self.reason, self.detail, self.is_retryable)

    def __str__(self) -> str:
        """Reason and detail in one line."""
        return f"{self.reason}: {self.detail}"


class BadSample(Exception):  # noqa: N818 - a verdict, too
    """A sample of a shard that is damaged or not there any more."""

    def __init__(self, key: str, tar: str, source: str, reason: str) -> None:
        super().__init__(key, tar, source, reason)
        self.key = key
        self.tar = tar
        """Key of the shard in the store."""
        self.source = source
        """Path relative to the dataset's source."""
        self.reason = reason

    def __str__(self) -> str:
        """One sentence that names it."""
        return (
            f"sample {self.key} in {self.tar} (source {self.source}) cannot be read: {self.reason}"
        )


def _rebuild(reason: Reason, detail: str, is_retryable: bool) -> Rejected:
    return Rejected(reason, detail, is_retryable=is_retryable)
