"""Lists with a line per frame, and where the frames or the videos they speak of lie.

The form of Charades and AVA (protocols 10): columns ``original_vido_id video_id frame_id path
labels`` with a header, separated by spaces; labels are a quoted list of numbers, often empty.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import PurePosixPath

from sigma_pipeline.data_prep.catalogues.list_files import ListFiles
from sigma_pipeline.data_prep.catalogues.lists import Flaws
from sigma_pipeline.data_prep.items import Media
from sigma_pipeline.data_prep.source_files import SourceFiles

_COLUMNS = 5
FRAME_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


@dataclass
class ListedFrames:
    """What a list says of one video."""

    where: str
    """Of its first frame."""
    paths: list[str] = field(default_factory=list)
    labels: list[tuple[int, ...]] = field(default_factory=list)
    """Of each frame, as listed."""

    @property
    def all_labels(self) -> tuple[int, ...]:
        """Those that any frame has, ascending."""
        return tuple(sorted(set().union(*set(self.labels))))


@dataclass(frozen=True)
class Placed:
    """Where the pictures of one video were found, or what stands for it."""

    media: Media
    path: str
    frames: tuple[str, ...] = ()


def read_frame_list(
    lists: ListFiles, name: str, key: str, flaws: Flaws
) -> Mapping[str, ListedFrames]:
    """Frames by video, both in the order of the list ``name``; malformed lines become flaws."""
    videos: dict[str, ListedFrames] = {}
    labels_of: dict[str, tuple[int, ...]] = {"": ()}
    for where, row in lists.rows(name, key, separator=" "):
        if len(row) < _COLUMNS or any(row[_COLUMNS:]):
            flaws.add(where, f"{_COLUMNS} columns are needed, not {len(row)}")
            continue
        video, _, _, path, text = row[:_COLUMNS]
        if path == "path":
            continue
        if text not in labels_of:
            labels_of[text] = _parse_labels(text, where, flaws)
        listed = videos.get(video) or videos.setdefault(video, ListedFrames(where))
        listed.paths.append(path)
        listed.labels.append(labels_of[text])
    for video, listed in videos.items():
        if len(set(listed.paths)) < len(listed.paths):
            flaws.add(listed.where, f"frames of {video!r} are listed twice")
    return videos


def label_runs(labels: Sequence[tuple[int, ...]]) -> list[list[object]]:
    """``[first frame, frame after the last, labels]`` of each run with the same labels, if any."""
    runs: list[list[object]] = []
    start = 0
    for value, group in groupby(labels):
        end = start + sum(1 for _ in group)
        if value:
            runs.append([start, end, sorted(value)])
        start = end
    return runs


class FrameFolders:
    """Looks up the pictures or the file of a video by its name."""

    def __init__(self, files: SourceFiles, folder: str) -> None:
        """Of the files of a source, whose frames are expected below ``folder``."""
        self._files = files
        self._folder = folder.strip("/")

    def place(self, video: str, paths: Sequence[str]) -> Placed:
        """Where the frames ``paths`` of a list are, below the folder or right below a root.

        Without a single one, the file of the video counts; without that too, the frames are said
        to be in the folder, where they will be found missing.
        """
        below = tuple(self._below(path) for path in paths)
        if any(self._files.exact(path) for path in below):
            return Placed("frames", self._below(video), below)
        if any(self._files.exact(path) for path in paths):
            return Placed("frames", video, tuple(paths))
        if self._files.find_deeper(video):
            return Placed("video", video)
        return Placed("frames", self._below(video), below)

    def place_all(self, video: str, folder: str | None = None) -> Placed:
        """All pictures of ``folder`` (by itself: ``video``), or else the file of the video."""
        path = self._below(folder or video)
        frames = pictures_in(self._files, path)
        return Placed("frames", path, frames) if frames else Placed("video", video)

    def _below(self, path: str) -> str:
        return f"{self._folder}/{path}" if self._folder else path


def pictures_in(files: SourceFiles, folder: str) -> tuple[str, ...]:
    """Names of the pictures right in ``folder``, in their order."""
    return tuple(
        file.name
        for file in files.in_folder(folder)
        if PurePosixPath(file.name).suffix.lower() in FRAME_SUFFIXES
    )


def masks_in(files: SourceFiles, folder: str) -> tuple[str, ...]:
    """Names of the PNG files right in ``folder``, in their order."""
    return tuple(name for name in pictures_in(files, folder) if name.lower().endswith(".png"))


def _parse_labels(text: str, where: str, flaws: Flaws) -> tuple[int, ...]:
    try:
        return tuple(int(label) for label in text.split(","))
    except ValueError:
        flaws.add(where, f"labels {text!r} are no numbers")
        return ()
