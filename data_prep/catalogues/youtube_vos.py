"""YouTube-VOS: sparse frames with masks of objects (protocols 6.2 and 10).

What has dense masks is the training set alone, so benchmarks divide that by lists of names.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, PositiveFloat, TypeAdapter, ValidationError

from sigma_pipeline.data_prep.catalogues.frame_lists import masks_in, pictures_in
from sigma_pipeline.data_prep.catalogues.list_files import Line, ListFiles, check_options
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.catalogues.lists import Entry, Flaws, annotation_text, list_entries
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.source_files import SourceFiles


class YoutubeVosOptions(BaseModel, frozen=True, extra="forbid"):
    """What a recipe may choose."""

    frames_folder: str = "JPEGImages"
    """Beside ``meta.json``."""
    annotations_folder: str = "Annotations"
    fps: PositiveFloat = 6.0
    """Every fifth frame of 30 a second is there; 30 for the releases with all frames."""
    meta: str = "train/meta.json"
    """Describes the videos of splits whose lists are ``.txt`` files."""


class _Object(BaseModel):
    category: str
    frames: list[str] = []


class _Video(BaseModel):
    objects: dict[str, _Object] = {}


class _Meta(BaseModel):
    videos: dict[str, Any]


_VIDEO = TypeAdapter(_Video)


def list_youtube_vos(dataset: DatasetConfig, roots: Sequence[Path]) -> Listing:
    """Lists the videos of each ``meta.json``, with the masks that are there (``valid``: few).

    A ``.txt`` list names the videos of its split, line by line, out of those in ``options.meta``.
    The annotation is ``fps``, and ``objects`` by id: ``category`` and ``frames``, the places in the
    sample's frames at which the object is marked.
    """
    options = check_options(dataset, YoutubeVosOptions)
    lists, flaws, files = ListFiles(dataset, roots), Flaws(), SourceFiles(roots)
    entries: list[Entry] = []
    for split, name in lists.splits().items():
        is_names, key = name.endswith(".txt"), f"splits.{split}"
        meta = options.meta if is_names else name
        videos = _described(lists, meta, "options.meta" if is_names else key, flaws)
        named = lists.lines(name, key) if is_names else [Line(_place(meta, v), v) for v in videos]
        folders = _Folders(files, options, meta)
        for where, video in named:
            if video not in videos:
                flaws.add(where, f"video {video!r} is not in {meta}")
            elif (objects := _objects(videos[video], _place(meta, video), flaws)) is not None:
                entries.append(folders.entry(video, split, where, objects))
    return list_entries(dataset, files, entries, (), flaws)


class _Folders:
    """Where the frames and masks of one split lie."""

    def __init__(self, files: SourceFiles, options: YoutubeVosOptions, meta: str) -> None:
        self._files, self.fps = files, options.fps
        top = f"{meta.rpartition('/')[0]}/".lstrip("/")
        self._frames = top + options.frames_folder
        self._masks = top + options.annotations_folder

    def entry(self, video: str, split: str, where: str, objects: Mapping[str, _Object]) -> Entry:
        """All frames of ``video`` that are there, and those that its objects are marked in."""
        folder = f"{self._frames}/{video}"
        frames = {PurePosixPath(name).stem: name for name in pictures_in(self._files, folder)}
        for found in objects.values():
            frames |= {s: f"{folder}/{s}.jpg" for s in found.frames if s not in frames}
        stems = sorted(frames)
        marked = {
            number: {
                "category": found.category,
                "frames": [stems.index(stem) for stem in found.frames],
            }
            for number, found in objects.items()
        }
        return Entry(
            folder,
            split,
            where,
            annotation=annotation_text({"fps": self.fps, "objects": marked}),
            media="frames",
            frames=tuple(frames[stem] for stem in stems) or (folder,),
            sidecars=masks_in(self._files, f"{self._masks}/{video}"),
        )


def _described(lists: ListFiles, meta: str, key: str, flaws: Flaws) -> Mapping[str, Any]:
    """What the ``meta.json`` says, by video."""
    try:
        return _Meta.model_validate(lists.json(meta, key)).videos
    except ValidationError:
        flaws.add(meta, "holds no object 'videos'")
        return {}


def _place(meta: str, video: str) -> str:
    return f"{meta}:videos.{video}"


def _objects(described: Any, where: str, flaws: Flaws) -> Mapping[str, _Object] | None:
    """The objects of one video; None if the description is malformed."""
    try:
        return _VIDEO.validate_python(described).objects
    except ValidationError as error:
        first = error.errors()[0]
        flaws.add(where, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        return None
