"""Decoded videos in memory, as libav gave them: half the size of RGB, and no pixel is changed."""

from collections import OrderedDict
from collections.abc import Callable

from sigma_pipeline.data_prep.convert import Frames, decoded_bytes


class DecodedCache:
    """Whole decoded videos, at most ``limit_bytes`` of them; the longest unused go first.

    Pickled, it is empty.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._videos: OrderedDict[int, Frames] = OrderedDict()

    def __reduce__(self) -> tuple[type["DecodedCache"], tuple[int]]:
        """Frames live in libav's memory and stay in their process."""
        return type(self), (self.limit_bytes,)

    def __contains__(self, sample: int) -> bool:
        """Whether the video of ``sample`` is held."""
        return sample in self._videos

    def get(self, sample: int, decode: Callable[[], Frames]) -> Frames:
        """The video of ``sample``, decoded only when it is not held."""
        video = self._videos.get(sample)
        if video is None:
            video = decode()
            self._videos[sample] = video
            self.used_bytes += decoded_bytes(video)
        self._videos.move_to_end(sample)
        while self.used_bytes > self.limit_bytes:
            _, longest_unused = self._videos.popitem(last=False)
            self.used_bytes -= decoded_bytes(longest_unused)
        return video
